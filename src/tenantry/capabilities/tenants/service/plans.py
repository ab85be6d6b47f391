"""The plan catalogue: the operator's file, else the one shipped."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tenantry.capabilities.tenants.errors import unknown_plan
from tenantry.capabilities.tenants.types.plans import Plan
from tenantry.foundation.errors import Invalid, NotFound

_FAULTS_TOLD: Final = 20


class _Catalogue(BaseModel):
    """The file as a whole."""

    model_config = ConfigDict(extra="forbid", strict=True)

    plans: dict[str, Plan]


class PlanCatalogue:
    """Plans by slug; immutable."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = dict(plans)

    def items(self) -> list[tuple[str, Plan]]:
        return list(self._plans.items())

    def find(self, slug: str) -> Plan | None:
        return self._plans.get(slug)

    def get(self, slug: str) -> Plan:
        """Find a plan; raises NotFound."""
        plan = self._plans.get(slug)
        if plan is None:
            raise NotFound("not_found", "no such plan", layer="tenants")
        return plan

    def require(self, slug: str) -> Plan:
        """Find the plan that a request names; raises Invalid `plan_unknown` that lists the known ones."""
        plan = self._plans.get(slug)
        if plan is None:
            raise unknown_plan(slug, tuple(self._plans))
        return plan


def load_plans(file: Path | None = None) -> PlanCatalogue:
    """Read a catalogue; raises Invalid `plans_invalid` naming file, plan and rule."""
    name = str(file) if file else "the shipped plans.yaml"
    try:
        source = file or resources.files("tenantry.capabilities.tenants").joinpath("plans.yaml")
        document = yaml.safe_load(source.read_text(encoding="utf-8"))
        return PlanCatalogue(_Catalogue.model_validate(document).plans)
    except ValidationError as error:
        # Without the values: aliases make a few lines of YAML mean gigabytes of text.
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        fault = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'file'}: {each['msg']}" for each in faults[:_FAULTS_TOLD]
        )
        raise Invalid("plans_invalid", f"{name}: {fault}", layer="tenants", field="plans_file") from None
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid("plans_invalid", f"{name}: {error}", layer="tenants", field="plans_file") from error
