"""An index of a directory of bundles: whose they are, and which do not hold. No server, no database."""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tenantry.capabilities.evidence.errors import EvidenceRefused
from tenantry.capabilities.evidence.service.bundle import UNKNOWN, read_bundle, state_of, tenant_in, verify_bundle
from tenantry.capabilities.evidence.service.statement import written
from tenantry.capabilities.evidence.types import State
from tenantry.engines.merkle.notes import VerifierKey

INDEX_FORM: Final = "tenantry-evidence-index/1"
_MAX_BYTES: Final = 16 << 20


def scan_directory(
    directory: Path, *, keys: Sequence[VerifierKey] | None, now: datetime, tenant: str | None = None
) -> dict[str, Any]:
    """Index each `*.json` below a directory, in the order of their names; symbolic links and indexes are passed over.

    With `tenant` only what says it is of that one, which is asked before anything is verified; what cannot be read says
    nothing and is listed in `unreadable`, whatever is asked for, also a folder. `keys` None: each is believed by its
    own. Raises OSError where the directory itself cannot be read.
    """
    items, unreadable = list[dict[str, Any]](), list[dict[str, str]]()
    files, closed = _found(directory)
    unreadable += [{"file": _name(each, directory), "fault": "bundle_unreadable"} for each in closed]
    for file in files:
        name = _name(file, directory)
        try:
            bundle = read_bundle(_content(file))
        except EvidenceRefused as refused:
            unreadable.append({"file": name, "fault": refused.code})
            continue
        if bundle.get("form") == INDEX_FORM:
            continue
        whose = tenant_in(bundle)
        if tenant is None or whose == tenant:
            items.append({"file": name, "tenant": whose, **_examined(bundle, keys)})
    if tenant is None or tenant == UNKNOWN:
        items += [{**each, "tenant": UNKNOWN, "state": State.TAMPERED.value} for each in unreadable]
    return {
        "form": INDEX_FORM,
        "generated_at": written(now),
        "tenant": tenant,
        "pinned": keys is not None,
        "summary": {"count": len(items), "by_tenant": by_tenant((one["tenant"], one["state"]) for one in items)},
        "items": items,
        "unreadable": unreadable,
    }


def by_tenant(seen: "Iterator[tuple[str, str]]") -> dict[str, dict[str, int]]:
    """Count by tenant and state."""
    found: dict[str, dict[str, int]] = {}
    for tenant, state in seen:
        counts = found.setdefault(tenant, {"count": 0, **dict.fromkeys((each.value for each in State), 0)})
        counts["count"] += 1
        counts[state] += 1
    return dict(sorted(found.items()))


def _found(directory: Path) -> tuple[list[Path], list[Path]]:
    """Give the files, and the folders that cannot be looked into, each in the order of their names."""
    files, closed, waiting = list[Path](), list[Path](), [directory]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for each in entries:
                    if each.is_dir(follow_symlinks=False):
                        waiting.append(Path(each))
                    elif each.name.endswith(".json") and each.is_file(follow_symlinks=False):
                        files.append(Path(each))
        except OSError:
            if folder == directory:
                raise
            closed.append(folder)
    return sorted(files), sorted(closed)


def _name(file: Path, directory: Path) -> str:
    r"""Give its name from there on; bytes of it that are no UTF-8 are written as escapes, `\xff`."""
    return os.fsencode(file.relative_to(directory)).decode(errors="backslashreplace")


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise EvidenceRefused("bundle_unreadable", f"it cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise EvidenceRefused("bundle_unreadable", f"it has more than {_MAX_BYTES} bytes")
    return content


def _examined(bundle: dict[str, Any], keys: Sequence[VerifierKey] | None) -> dict[str, str]:
    """Tell the state that it really has; of one that holds also what was signed."""
    said = state_of(bundle)
    if said is State.WIP and bundle.get("envelope") is None:
        return {"state": said.value}
    try:
        verified = verify_bundle(bundle, keys=keys)
    except EvidenceRefused as refused:
        return {"state": State.TAMPERED.value, "fault": refused.code}
    predicate = verified.statement.predicate
    told = {"id": predicate.evidence, "subject": predicate.subject.id, "sha256": verified.sha256}
    told["locked_at"] = predicate.locked_at
    return (
        {"state": State.TAMPERED.value, "fault": "said_tampered"}
        if said is State.TAMPERED
        else {
            "state": State.LOCKED.value,
            **told,
        }
    )
