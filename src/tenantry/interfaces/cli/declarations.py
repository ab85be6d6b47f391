"""Declared tenants against a server: what differs, how that looks, and carrying it out."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tenantry.capabilities.tenants.service.declared import (
    Action,
    Change,
    Declaration,
    FieldChange,
    FileFault,
    Loaded,
    compare,
    keep_key,
)
from tenantry.client.errors import ApiError, BadRequest
from tenantry.interfaces.cli.terminal import one_line

if TYPE_CHECKING:
    from tenantry.client.surface import Client

_PLATFORM: Final = "platform"
_REFUSED: Final = frozenset({401, 403})
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Step:
    """One change, with what it was made of."""

    declaration: Declaration
    change: Change
    version: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Files against the server. `undeclared` are the tenants that no file names; nothing happens to them."""

    changes: tuple[Step, ...]
    unchanged: tuple[str, ...]
    undeclared: tuple[str, ...]
    skipped: tuple[FileFault, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a change. `faults` are empty when it was done; `key` is the file of the owner's first key."""

    step: Step
    faults: tuple[FileFault, ...] = ()
    key: Path | None = None

    @property
    def done(self) -> bool:
        return not self.faults


def compared(client: "Client", loaded: Loaded) -> Comparison:
    """Ask the server for every declared tenant; raises as the SDK does."""
    placements = {each["slug"]: each for each in client.tenants.list()}
    changes, unchanged, skipped = [], [], list(loaded.skipped)
    for declaration in loaded.declared:
        present = _present(client, declaration.tenant.slug, placements)
        change = compare(declaration, present)
        if isinstance(change, FileFault):
            skipped.append(change)
        elif change.action is Action.UNCHANGED:
            unchanged.append(change.slug)
        else:
            changes.append(Step(declaration, change, present["version"] if present else None))
    undeclared = placements.keys() - {each.tenant.slug for each in loaded.declared} - {_PLATFORM}
    return Comparison(tuple(changes), tuple(unchanged), tuple(sorted(undeclared)), tuple(skipped))


def _present(client: "Client", slug: str, placements: dict[str, Any]) -> dict[str, Any] | None:
    placement = placements.get(slug)
    if placement is None or placement["status"] == "pending":
        return None  # making it again takes over what a crash left
    return dict(placement if placement["status"] == "deleted" else client.tenants.get(slug))


def told(comparison: Comparison) -> str:
    """Write the diff out for people; every line can be shown on a terminal, whatever the files hold."""
    return "".join(f"{one_line(line)}\n" for line in _lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    for step in comparison.changes:
        change = step.change
        made = change.action is Action.CREATE
        yield f"{'+' if made else '~'} {change.slug} ({change.file})"
        for each in change.fields:
            yield f"    {each.field}: {_value(each.new) if made else f'{_value(each.old)} → {_value(each.new)}'}"
        if made and change.suspends:
            yield '    status: "suspended"'
        if not made and "plan" in change.body:
            yield "    quotas: those of the new plan, less what the file names"
    for fault in comparison.skipped:
        yield f"! {fault}"
    if comparison.undeclared:
        yield f"not declared, left as they are: {', '.join(comparison.undeclared)}"
    created = sum(step.change.action is Action.CREATE for step in comparison.changes)
    changed = len(comparison.changes) - created
    yield (
        f"{created} to create, {changed} to change, {len(comparison.unchanged)} as declared, "
        f"{len(comparison.skipped)} skipped"
    )


def _value(value: object) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def summary(comparison: Comparison, results: list[Result], *, dry_run: bool) -> dict[str, Any]:
    """Give the same to programs; no secret is in it."""
    became = {result.step.change.slug: result for result in results}
    return {
        "dry_run": dry_run,
        "changes": [_change(step, became.get(step.change.slug)) for step in comparison.changes],
        "unchanged": list(comparison.unchanged),
        "not_declared": list(comparison.undeclared),
        "skipped": [_fault(fault) for fault in comparison.skipped],
    }


def _change(step: Step, result: Result | None) -> dict[str, Any]:
    change = step.change
    return {
        "tenant": change.slug,
        "file": change.file,
        "action": change.action.value,
        "fields": [_field(each) for each in change.fields],
        "applied": result is not None and result.done,
        "key_file": str(result.key) if result and result.key else None,
        "faults": [_fault(fault) for fault in result.faults] if result else [],
    }


def _field(change: FieldChange) -> dict[str, Any]:
    return {"field": change.field, "old": change.old, "new": change.new}


def _fault(fault: FileFault) -> dict[str, Any]:
    return {"file": fault.file, "line": fault.line, "field": fault.field, "rule": fault.rule}


def carry_out(client: "Client", comparison: Comparison, *, keys: Path, tell: Callable[[str], None]) -> list[Result]:
    """Make the changes one by one; a refused one does not stop the others. Safe to repeat after any interruption.

    Raises BadRequest before anything is made when `keys` cannot be written to, and whatever stops all of it.
    """
    if any(step.change.action is Action.CREATE for step in comparison.changes):
        _require_writable(keys)
    results = []
    for step in comparison.changes:
        try:
            key = _create(client, step, keys) if step.version is None else _update(client, step)
            result = Result(step, key=key)
            verb = "created" if step.version is None else "changed"
            tell(f"{verb} {step.change.slug}{f'; the first key of its owner is in {key}, for 24 hours' if key else ''}")
        except ApiError as error:
            if error.status in _REFUSED:
                raise
            result = Result(step, faults=_faults_of(step.declaration, error))
        except _KeyLostError as error:
            result = Result(step, faults=(step.declaration.fault("slug", str(error)),))
        for fault in result.faults:
            tell(f"not applied: {fault}")
        results.append(result)
    return results


class _KeyLostError(Exception):
    """The tenant was made, its owner's key did not arrive."""


def _create(client: "Client", step: Step, keys: Path) -> Path:
    change = step.change
    made = client.tenants.create(**change.body)
    if "bootstrap_key" not in made:
        raise _KeyLostError("was made, but the connection broke before the key of its owner arrived")
    path = keep_key(keys, slug=change.slug, secret=made["bootstrap_key"]["secret"], now=datetime.now(UTC))
    if change.suspends:
        client.tenants.suspend(change.slug, reason=change.reason)
    return path


def _update(client: "Client", step: Step) -> Path | None:
    change = step.change
    if change.body:
        # What has changed since it was compared was not in the diff, and is not overwritten: 412.
        client.tenants.update(change.slug, change.body, if_match=f'"{step.version}"')
    if change.suspends:
        client.tenants.suspend(change.slug, reason=change.reason)
    if change.resumes:
        client.tenants.resume(change.slug)
    return None


def _faults_of(declaration: Declaration, error: ApiError) -> tuple[FileFault, ...]:
    several = error.members.get("errors")
    if isinstance(several, list) and several:
        return tuple(declaration.fault(str(each.get("field")), str(each.get("message"))) for each in several)
    field = error.members.get("field")
    return (declaration.fault(field if isinstance(field, str) else "slug", f"{error.code}: {error.detail}"),)


def _require_writable(keys: Path) -> None:
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest("file_unwritable", f"{keys}: {error.strerror}", remedy="--keys DIR") from error
    if not os.access(keys, os.W_OK | os.X_OK):
        raise BadRequest("file_unwritable", f"{keys} cannot be written to", remedy="--keys DIR")
