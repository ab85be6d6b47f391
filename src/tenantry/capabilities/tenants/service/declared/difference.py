"""What a declaration would change of a tenant as it is now. Pure: the server and the command line ask the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tenantry.capabilities.tenants.service.declared.declaration import Declaration, FileFault

DECLARED_REASON: Final = "declared suspended in"
"""How the reason of a declared suspension begins; the server by itself ends no other."""
_FIXED: Final = ("region", "isolation")
_BY_ENTRY: Final = frozenset({"owner", "settings", "quotas"})


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One value, by its dotted name; None for what is not there."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Change:
    """What applying one file means. `body` is that of the POST, or of the PATCH (empty where none is needed)."""

    file: str
    slug: str
    action: Action
    fields: tuple[FieldChange, ...]
    body: dict[str, Any]
    suspends: bool = False
    resumes: bool = False

    @property
    def reason(self) -> str:
        """Why a declared suspension is."""
        return f"{DECLARED_REASON} {self.file}"


def compare(declaration: Declaration, present: Mapping[str, Any] | None) -> Change | FileFault:
    """Tell the change, or why it cannot be.

    `present` is the tenant as the API answers it, None for one that is not there or not made to its end.
    """
    named = declaration.named
    slug = str(named["slug"])
    wanted_status = named.pop("status", None)
    if present is None:
        fields = tuple(FieldChange(name, None, value) for name, value in _flat(named) if name != "slug")
        return Change(declaration.file, slug, Action.CREATE, fields, named, suspends=wanted_status == "suspended")
    if fault := impossibility(declaration, present):
        return fault
    body = _patch(named, present)
    fields = tuple(_differences(named, present, body))
    suspends = wanted_status == "suspended" and present["status"] == "active"
    resumes = wanted_status == "active" and present["status"] == "suspended"
    if suspends or resumes:
        fields = (*fields, FieldChange("status", present["status"], wanted_status))
    action = Action.UPDATE if fields else Action.UNCHANGED
    return Change(declaration.file, slug, action, fields, body, suspends=suspends, resumes=resumes)


def resumption_fault(declaration: Declaration, present: Mapping[str, Any]) -> FileFault | None:
    """Say why the server does not end a suspension by itself: somebody made it who had a reason."""
    if str(present.get("status_reason") or "").startswith(DECLARED_REASON):
        return None
    slug = declaration.tenant.slug
    return declaration.fault(
        "status", f"{slug} was suspended by hand: `tenantry tenant resume {slug}` ends that, a file does not by itself"
    )


def impossibility(declaration: Declaration, present: Mapping[str, Any]) -> FileFault | None:
    """Say what of a declaration no file can bring about; `present` needs its status, region and isolation alone."""
    named = declaration.named
    slug = named["slug"]
    if present["status"] == "deleted":
        return declaration.fault("slug", f"{slug} is deleted: `tenantry tenant restore {slug}`, or take the file away")
    for name in _FIXED:
        if name in named and named[name] != present[name]:
            option = f"--{name} {named[name]}"
            rule = f"is {present[name]} and no file changes it: `tenantry tenant move {slug} {option}`"
            return declaration.fault(name, rule)
    return None


def _patch(named: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """Make the body that brings the named fields about: by entry where PATCH merges, else whole."""
    body: dict[str, Any] = {}
    for name, value in named.items():
        if name in {"slug", *_FIXED} or _holds(name, value, present.get(name)):
            continue
        if name == "owner":
            # PATCH takes an owner as a whole; what the file does not name of it stays.
            kept = {key: old for key, old in (present.get(name) or {}).items() if old is not None}
            body[name] = {**kept, **value}
        else:
            body[name] = value
    if "plan" in body and "quotas" in named:
        # A new plan brings its own quotas: those of the file are said again with it.
        body["quotas"] = named["quotas"]
    return body


def _holds(name: str, wanted: Any, present: Any) -> bool:
    if name in _BY_ENTRY:
        have = present or {}
        return all(entry in have and _same(value, have[entry]) for entry, value in wanted.items())
    if present is None:
        return wanted in ({}, None)
    return _same(wanted, present)


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: `true` is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _differences(
    named: Mapping[str, Any], present: Mapping[str, Any], body: Mapping[str, Any]
) -> Iterator[FieldChange]:
    for name in body:
        wanted, have = named[name], present.get(name)
        if not isinstance(wanted, dict):
            yield FieldChange(name, have, wanted)
            continue
        new, old = dict(_flat({name: wanted})), dict(_flat({name: have or {}}))
        whole = new if name in _BY_ENTRY else {**old, **new}
        for entry in whole:
            if not _same(old.get(entry), new.get(entry)):
                yield FieldChange(entry, old.get(entry), new.get(entry))


def _flat(members: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested members by dotted names, in their order; an empty mapping has none."""
    for name, value in members.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
