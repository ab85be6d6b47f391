"""The catalogues of SLOs and labels, and what platform, plan, tenant and workspace lay over them. ADR 0016.

Pure but for reading the files. An overlay is checked whole when it is written. What is read later may meet a catalogue
that has changed since: entries that no longer fit count for nothing and are named, the others hold.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tenantry.capabilities.tenants.errors import overlay_invalid
from tenantry.capabilities.tenants.service.plans import PlanCatalogue
from tenantry.capabilities.tenants.types import OverlayFault, OverlayKind
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.errors import Invalid
from tenantry.kit.overlays import Overlaid, lay

PLATFORM: Final = "platform"
PLAN: Final = "plan"
TENANT: Final = "tenant"
WORKSPACE: Final = "workspace"
"""The layers, lowest first."""

MAX_LABELS: Final = 200
"""Labels that one layer may add or extend."""
MAX_TEXT: Final = 1000
"""Characters of a label's value where the label takes any text."""

_FAULTS_TOLD: Final = 20
_MAX_SLO: Final = 1e15
"""Beyond it a number is a slip, whatever the unit."""
_NAME: Final = r"[a-z][a-z0-9_-]{0,62}"
_LABEL: Final = re.compile(_NAME)

Name = Annotated[str, Field(pattern=f"^{_NAME}$")]
Layers = Mapping[str, Mapping[str, Any]]
"""Overlays by layer, lowest first; without the platform's."""


class SloDefinition(BaseModel):
    """One SLO of the catalogue; `default` None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    unit: Literal["milliseconds", "per_second", "count", "ratio", "percent"]
    default: float | None

    @property
    def maximum(self) -> float:
        return {"ratio": 1.0, "percent": 100.0}.get(self.unit, _MAX_SLO)

    @model_validator(mode="after")
    def _default_is_of_its_unit(self) -> Self:
        if self.default is not None and not 0 <= self.default <= self.maximum:
            raise ValueError(f"default must be between 0 and {self.maximum:g} {self.unit}")
        return self


class LabelDefinition(BaseModel):
    """One label. `values` None on a categorical one: it takes any text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["categorical", "continuous"]
    values: (
        Annotated[
            tuple[Annotated[DisplayName, Field(strict=True)], ...], Field(strict=False, min_length=1, max_length=500)
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _values_belong_to_the_type(self) -> Self:
        if self.values is not None and self.type == "continuous":
            raise ValueError("a continuous label takes numbers: it declares no values")
        if self.values is not None and len(set(self.values)) < len(self.values):
            raise ValueError("a value stands twice")
        return self


class _Slos(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    slos: dict[Annotated[str, Field(pattern=rf"^{_NAME}(\.{_NAME}){{0,3}}$")], SloDefinition]


class _Labels(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    labels: dict[Name, LabelDefinition]


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds, which layer gave it, and by layer the dotted paths of what no longer fits and counts for nothing."""

    overlaid: Overlaid
    ignored: Mapping[str, tuple[str, ...]]


class OverlayCatalogue:
    """SLOs and labels of the installation; immutable. Raises Invalid `plans_invalid` for a plan that does not fit."""

    def __init__(
        self, *, slos: Mapping[str, SloDefinition], labels: Mapping[str, LabelDefinition], plans: PlanCatalogue
    ) -> None:
        self._tree = _tree_of(slos)
        self._slos = _defaults_of(self._tree)
        self._labels = {name: _spelt(label) for name, label in labels.items()}
        self._plans = plans
        for slug, plan in plans.items():
            overlays = {OverlayKind.SLOS: plan.slos, OverlayKind.LABELS: plan.labels}
            for kind, overlay in overlays.items():
                faults = self._sieve(kind, overlay, below=self._platform(kind))[1]
                if faults:
                    told = "; ".join(f"{each.field}: {each.message}" for each in faults[:_FAULTS_TOLD])
                    raise Invalid("plans_invalid", f"plans.{slug}.{kind}: {told}", layer="tenants", field="plans_file")

    def effective(
        self, kind: OverlayKind, *, plan: str, tenant: Mapping[str, Any], workspace: Mapping[str, Any] | None = None
    ) -> Effective:
        """Lay the layers over each other. A plan that the catalogue does not know (any more) lays nothing."""
        layers = self._layers(kind, plan=plan) | {TENANT: tenant}
        return self._lay(kind, layers if workspace is None else layers | {WORKSPACE: workspace})

    def require(
        self,
        kind: OverlayKind,
        overlay: Mapping[str, Any],
        *,
        plan: str,
        tenant: Mapping[str, Any] | None = None,
        field: str = "overlay",
    ) -> None:
        """Check an overlay before it is written: a tenant's, or with `tenant` that of a workspace in it.

        Raises Invalid `overlay_invalid` that names field and rule of every fault.
        """
        layers = self._layers(kind, plan=plan) | ({TENANT: tenant} if tenant is not None else {})
        faults = self._sieve(kind, overlay, below=self._lay(kind, layers).overlaid.values)[1]
        if faults:
            raise overlay_invalid(faults, field=field)

    def require_of_tenant(self, *, plan: str, slos: Mapping[str, Any] | None, labels: Mapping[str, Any] | None) -> None:
        """Check the overlays of a tenant's own record, where it names them; raises as `require`."""
        if slos is not None:
            self.require(OverlayKind.SLOS, slos, plan=plan, field="slo_overlay")
        if labels is not None:
            self.require(OverlayKind.LABELS, labels, plan=plan, field="label_overlay")

    def _layers(self, kind: OverlayKind, *, plan: str) -> dict[str, Mapping[str, Any]]:
        found = self._plans.find(plan)
        if found is None:
            return {}
        return {PLAN: found.slos if kind is OverlayKind.SLOS else found.labels}

    def _platform(self, kind: OverlayKind) -> Mapping[str, Any]:
        return self._slos if kind is OverlayKind.SLOS else self._labels

    def _lay(self, kind: OverlayKind, layers: Layers) -> Effective:
        accepted = [(PLATFORM, self._platform(kind))]
        ignored = {}
        for layer, overlay in layers.items():
            kept, faults = self._sieve(kind, overlay, below=lay(accepted).values)
            accepted.append((layer, kept))
            if faults:
                ignored[layer] = tuple(each.field for each in faults)
        return Effective(lay(accepted), MappingProxyType(ignored))

    def _sieve(
        self, kind: OverlayKind, overlay: Mapping[str, Any], *, below: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[OverlayFault]]:
        """Part an overlay into what fits and what does not."""
        faults: list[OverlayFault] = []
        if kind is OverlayKind.SLOS:
            return _fitting_slos(overlay, self._tree, "", faults), faults
        return _fitting_labels(overlay, below, faults), faults


def check_labels(labels: Mapping[str, Any], effective: Effective) -> list[OverlayFault]:
    """Tell what is wrong with label values; nothing is right about a label that the catalogue does not know."""
    faults = []
    for name, value in labels.items():
        definition = effective.overlaid.values.get(name)
        if definition is None:
            faults.append(OverlayFault(name[:80], "unknown", "no such label in the catalogue"))
        elif fault := _value_fault(value, definition):
            faults.append(OverlayFault(name, *fault))
    return faults


def load_catalogue(
    *, plans: PlanCatalogue, slos_file: Path | None = None, labels_file: Path | None = None
) -> OverlayCatalogue:
    """Read both files, or those shipped. Raises Invalid `slos_invalid`, `labels_invalid` or `plans_invalid`."""
    try:
        slos = _Slos.model_validate(_document(slos_file, shipped="slos.yaml")).slos
        _tree_of(slos)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(
            "slos_invalid", _told(error, slos_file, "slos.yaml"), layer="tenants", field="slos_file"
        ) from None
    try:
        labels = _Labels.model_validate(_document(labels_file, shipped="labels.yaml")).labels
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        told = _told(error, labels_file, "labels.yaml")
        raise Invalid("labels_invalid", told, layer="tenants", field="labels_file") from None
    return OverlayCatalogue(slos=slos, labels=labels, plans=plans)


def _document(file: Path | None, *, shipped: str) -> object:
    source = file or resources.files("tenantry.capabilities.tenants").joinpath(shipped)
    return yaml.safe_load(source.read_text(encoding="utf-8"))


def _told(error: Exception, file: Path | None, shipped: str) -> str:
    name = str(file) if file else f"the shipped {shipped}"
    if not isinstance(error, ValidationError):
        return f"{name}: {error}"
    # Without the values: aliases make a few lines of YAML mean gigabytes of text.
    faults = error.errors(include_input=False, include_url=False, include_context=False)[:_FAULTS_TOLD]
    return f"{name}: " + "; ".join(f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in faults)


# --- SLOs ------------------------------------------------------------------------------------------------------------


def _tree_of(slos: Mapping[str, SloDefinition]) -> dict[str, Any]:
    """Turn dotted names into levels; raises ValueError where a name is both a value and a level."""
    tree: dict[str, Any] = {}
    for path, definition in slos.items():
        *groups, last = path.split(".")
        level = tree
        for depth, group in enumerate(groups, 1):
            if (above := ".".join(groups[:depth])) in slos:
                raise ValueError(f"{above}: is a value and a level above {path}")
            level = level.setdefault(group, {})
        level[last] = definition
    return tree


def _defaults_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: below.default if isinstance(below, SloDefinition) else _defaults_of(below) for name, below in tree.items()
    }


def _fitting_slos(
    overlay: Mapping[str, Any], tree: Mapping[str, Any], prefix: str, faults: list[OverlayFault]
) -> dict[str, Any]:
    fitting: dict[str, Any] = {}
    for name, value in overlay.items():
        path = f"{prefix}{name}"[:200]
        known = tree.get(name)
        if known is None:
            faults.append(OverlayFault(path, "unknown", "no such SLO in the catalogue"))
        elif isinstance(known, SloDefinition):
            if fault := _slo_fault(value, known):
                faults.append(OverlayFault(path, *fault))
            else:
                fitting[name] = value
        elif not isinstance(value, Mapping):
            faults.append(OverlayFault(path, "type", f"must be an object with {', '.join(known)}"))
        elif kept := _fitting_slos(value, known, f"{path}.", faults):
            fitting[name] = kept
    return fitting


def _slo_fault(value: object, definition: SloDefinition) -> tuple[str, str] | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "type", "must be a number, or null for no limit"
    if value != value:  # noqa: PLR0124 - NaN
        return "finite", "must be a finite number"
    if value < 0:
        return "minimum", "must not be negative"
    if value > definition.maximum:
        return "maximum", f"must be at most {definition.maximum:g} ({definition.unit})"
    return None


# --- labels ----------------------------------------------------------------------------------------------------------


def _fitting_labels(overlay: Mapping[str, Any], below: Mapping[str, Any], faults: list[OverlayFault]) -> dict[str, Any]:
    """Keep labels that are new, and further values of known ones, after those that are there."""
    fitting: dict[str, Any] = {}
    for count, (name, entry) in enumerate(overlay.items()):
        if count == MAX_LABELS:
            faults.append(OverlayFault(name[:80], "max_labels", f"one layer defines at most {MAX_LABELS} labels"))
            break
        if not _LABEL.fullmatch(name):
            faults.append(OverlayFault(name[:80], "name", "must be a-z, 0-9, _ and -, a letter first, at most 63"))
            continue
        definition, found = _definition_of(name, entry)
        known = below.get(name)
        if definition is None:
            faults += found
        elif known is None:
            fitting[name] = _spelt(definition)
        elif fault := _extension_fault(definition, known):
            faults.append(OverlayFault(f"{name}.{fault[0]}", fault[1], fault[2]))
        elif further := [value for value in definition.values or () if value not in known["values"]]:
            fitting[name] = {"values": [*known["values"], *further]}
    return fitting


def _definition_of(name: str, entry: object) -> tuple[LabelDefinition | None, list[OverlayFault]]:
    try:
        return LabelDefinition.model_validate(entry), []
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        return None, [
            OverlayFault(".".join(map(str, (name, *each["loc"])))[:200], each["type"], each["msg"]) for each in found
        ]


def _extension_fault(definition: LabelDefinition, known: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if definition.type != known["type"]:
        return "type", "type_fixed", f"is {known['type']} in a layer below: no layer changes a type"
    if definition.values and "values" not in known:
        return "values", "values_open", "takes any text in a layer below: no layer narrows it"
    return None


def _spelt(definition: LabelDefinition) -> dict[str, Any]:
    values = {} if definition.values is None else {"values": list(definition.values)}
    return {"type": definition.type, **values}


def _value_fault(value: object, definition: Mapping[str, Any]) -> tuple[str, str] | None:
    if definition["type"] == "continuous":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # Compared, not converted: a whole number may be too long for a float.
        if not number or not -_LARGEST <= value <= _LARGEST:  # type: ignore[operator]
            return "type", "must be a finite number"
        return None
    if not isinstance(value, str):
        return "type", "must be text"
    if "values" in definition:
        return None if value in definition["values"] else ("value", "is none of the label's values")
    return None if len(value) <= MAX_TEXT else ("max_length", f"must be at most {MAX_TEXT} characters")


_LARGEST: Final = 1.7976931348623157e308
