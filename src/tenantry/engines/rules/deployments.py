"""What a deployment may cost and consist of."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tenantry.engines.rules.members import Members
from tenantry.engines.rules.types import EMPTY, DeploymentFacts, Effect, Finding, Verdict
from tenantry.kit.globs import any_match

ENGINES: Final = ("terraform", "tofu")
_MOST: Final = 1e12
_NUMBERS: Final = {"max_budget_monthly": 1000.0, "max_instances": 10, "max_disk_size_gb": 500}
_LISTS: Final = ("allowed_instance_types", "allowed_resource_types")
_MEMBERS: Final = ("applies_to", *_NUMBERS, *_LISTS, "require_approval", "iac_engine_preference")


@dataclass(frozen=True, slots=True)
class DeploymentRules:
    """An empty list of types restricts nothing."""

    limits: Mapping[str, Decimal]
    types: Mapping[str, tuple[str, ...]]
    require_approval: bool
    engine_preference: str

    def check_deployment(self, facts: DeploymentFacts) -> Verdict:
        present: dict[str, tuple[float | Decimal, str]] = {
            "max_budget_monthly": (facts.monthly_cost_usd, "The deployment costs {} USD a month"),
            "max_instances": (facts.instances, "There would be {} instances"),
            "max_disk_size_gb": (facts.disk_size_gb, "The disks hold {} GB"),
        }
        findings = [self._over(name, value, said) for name, (value, said) in present.items()]
        of_types = {"allowed_instance_types": facts.instance_types, "allowed_resource_types": facts.resource_types}
        findings += [
            self._other(name, one)
            for name, given in of_types.items()
            for one in dict.fromkeys(given)
            if self.types[name] and not any_match(one, self.types[name])
        ]
        denied = tuple(finding for finding in findings if finding is not None)
        return Verdict(denied) if denied else EMPTY

    def _over(self, name: str, value: float | Decimal, said: str) -> Finding | None:
        limit = self.limits[name]
        number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
        if number.is_finite() and 0 <= number <= limit:
            return None
        message = f"{said.format(value)}, the limit is {limit}."
        return Finding(f"{name}: {limit}", Effect.DENY, message, f"Stay at or below {limit}, or have the limit raised.")

    def _other(self, name: str, value: str) -> Finding:
        kind = "instance" if name == "allowed_instance_types" else "resource"
        allowed = ", ".join(self.types[name][:10])
        return Finding(name, Effect.DENY, f"The {kind} type {value[:100]!r} is not allowed.", f"Use one of: {allowed}.")


def compile_deployments(members: Members, value: Mapping[str, Any]) -> DeploymentRules | None:
    """Compile a document, or note its faults and give None."""
    members.mapping((), value, _MEMBERS)
    limits = {
        name: Decimal(str(members.number((), value, name, default=default, most=_MOST)))
        for name, default in _NUMBERS.items()
    }
    if limits["max_instances"] % 1:
        members.fault(("max_instances",), "must be a whole number")
    types = {name: tuple(text for _, text in members.texts((), value, name)) for name in _LISTS}
    approval = members.flag((), value, "require_approval")
    engine = members.choice((), value, "iac_engine_preference", ENGINES)
    return None if members.faults else DeploymentRules(limits, types, approval, engine)
