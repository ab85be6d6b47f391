"""Looks for the first bad event of a bundle that its last checkpoint refuses: slower than verifying, and done once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service.bundle import BundleHeader, leaf_bytes, leaf_lines
from tenantry.capabilities.audit.service.bundle_erasures import is_signed, read_erased
from tenantry.capabilities.audit.service.bundle_events import FOREIGN, ID, MAX_LINE_BYTES, Events, read_part
from tenantry.engines.merkle.bulk import Beside
from tenantry.engines.merkle.bulk_file import skip_lines
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.notes import VerifierKey, canonical_base64
from tenantry.engines.merkle.tree import HASH_BYTES, TILE_WIDTH

_CHUNK_BYTES: Final = 1 << 20


def first_bad(
    path: Path,
    header: BundleHeader,
    checkpoints: list[Checkpoint],
    *,
    offset: int,
    keys: Sequence[VerifierKey] = (),
) -> BundleRefused:
    """Say what is wrong with events that do not lead to the root of the last checkpoint; they begin at byte `offset`.

    Leaf hashes that themselves lead to that root tell the very event; without them an earlier checkpoint narrows, or
    what `keys` have signed of events that have left.
    """
    signed = _signed_leaves(path, checkpoints[-1], offset=offset)
    limit = path.stat().st_size - leaf_bytes(header.size) if signed else None
    here = read_part(path, offset=offset, start=0, stop=header.events + 1, tenant=header.tenant, limit=limit)
    if signed is None:
        return _narrowed(path, header, here, checkpoints, offset=offset, keys=keys)
    events = Events(leaves=bytearray(signed[: header.erased * HASH_BYTES])).joined(here)
    found = bytes(events.leaves)
    first = _place(_leaf(found, header.erased), signed, behind=-1) if header.erased and here.count else None
    if first is not None and first < header.erased:
        return _overclaimed(header, first)
    at = next((at for at in range(events.count) if _leaf(found, at) != _leaf(signed, at)), events.count)
    if at == header.size:
        if events.count > at:
            return _overlong(header, at + 1)
        return BundleRefused("bundle_changed", "the file has changed while it was read: verify it once more")
    line = line_at(path, at - header.erased, offset=offset) if at < events.count else b""
    return _named(at, found, signed, foreign=events.faults.get(FOREIGN) == at, event=id_of(line))


def _overclaimed(header: BundleHeader, first: int) -> BundleRefused:
    return BundleRefused(
        "erasure_altered",
        f"the header says that {header.erased} events have left, and event {first + 1} is here",
        first=first + 1,
        last=header.erased,
    )


def _overlong(header: BundleHeader, sequence: int) -> BundleRefused:
    return BundleRefused("bundle_overlong", f"an event follows the {header.size} that were signed", sequence=sequence)


def line_at(path: Path, at: int, *, offset: int) -> bytes:
    """Give the line of the event at that place, from 0."""
    with path.open("rb") as file:
        file.seek(offset)
        skip_lines(file, at)
        return file.readline(MAX_LINE_BYTES).removesuffix(b"\n")


def id_of(line: bytes) -> str | None:
    """Give the id of an event that need not be sound, None where there is none to be read."""
    try:
        event = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    named = event.get("id") if isinstance(event, dict) else None
    return named if isinstance(named, str) and ID.fullmatch(named) else None


def _signed_leaves(path: Path, last: Checkpoint, *, offset: int) -> bytes | None:
    """Read the leaf hashes at the end of the file; None unless they lead to the root of the checkpoint."""
    start = path.stat().st_size - leaf_bytes(last.size)
    if start < offset:
        return None
    hashes = bytearray()
    with path.open("rb") as file:
        file.seek(start)
        for at in range(0, last.size, TILE_WIDTH):
            count = min(TILE_WIDTH, last.size - at)
            line = file.read(leaf_bytes(count))
            found = canonical_base64(line.removesuffix(b"\n").decode("latin-1"))
            if found is None or len(found) != count * HASH_BYTES or next(leaf_lines(found), b"") != line:
                return None
            hashes += found
    signed = bytes(hashes)
    return signed if Beside(0, signed).believed(size=last.size, root=last.root) else None


def _named(at: int, found: bytes, signed: bytes, *, foreign: bool, event: str | None) -> BundleRefused:
    """Tell what was done to the first event whose hash is another than was signed, by where the hashes are instead."""
    sequence = at + 1
    if foreign:
        return fault(FOREIGN, at, event=event)
    if at == len(found) // HASH_BYTES:
        return BundleRefused(
            "event_missing",
            f"events {sequence} to {len(signed) // HASH_BYTES} were removed from the end",
            sequence=sequence,
        )
    belongs, stands = _place(_leaf(found, at), signed, behind=at), _place(_leaf(signed, at), found, behind=at)
    if belongs is not None and stands is not None:
        return BundleRefused(
            "event_moved",
            f"event {sequence} was moved: it stands in place {stands + 1}, and event {belongs + 1} in its place",
            sequence=sequence,
            event=event,
        )
    if belongs is not None:
        which = f"event {sequence} was" if belongs == sequence else f"events {sequence} to {belongs} were"
        return BundleRefused("event_missing", f"{which} removed: event {belongs + 1} follows", sequence=sequence)
    if stands is not None:
        return BundleRefused(
            "event_inserted",
            f"what stands in place {sequence} was inserted: event {sequence} follows in place {stands + 1}",
            sequence=sequence,
            event=event,
        )
    return BundleRefused("event_altered", f"event {sequence} is not as it was signed", sequence=sequence, event=event)


def _narrowed(
    path: Path,
    header: BundleHeader,
    here: Events,
    checkpoints: list[Checkpoint],
    *,
    offset: int,
    keys: Sequence[VerifierKey],
) -> BundleRefused:
    """Tell what can be told where the leaf hashes, too, were altered: between which checkpoints it is."""
    leaves_at = path.stat().st_size - leaf_bytes(header.size)
    left = read_erased(path, at=max(offset, leaves_at), erased=header.erased) or Events()
    events = left.joined(here)
    count = events.count
    for kind, at in sorted(here.faults.items(), key=lambda one: one[1]):
        line = line_at(path, at, offset=offset)
        if line.startswith(b"{"):
            return fault(kind, at + header.erased, event=id_of(line))
        count = at + left.count  # there the leaf hashes begin
    good, last = _span(path, header, left, events, count, checkpoints, offset=offset, keys=keys)
    span: dict[str, Any] = {"first": good + 1, "last": last}
    where = f"up to event {good} all is as signed; what is wrong lies between {good + 1} and {last}"
    if good == header.size:
        where, span = "all events are as signed", {}
    lines, whole = _lines_in(path)
    expected = 1 + header.events + -(-header.size // TILE_WIDTH)
    if not whole or lines < expected:
        return BundleRefused(
            "bundle_cut",
            f"the file ends too early, or lines were removed: {lines} of {expected} are whole; {where}",
            **span,
        )
    if good < header.erased:
        return BundleRefused(
            "erasure_altered",
            f"leaf hashes of events that have left were altered, or events with them; {where}",
            **span,
        )
    if lines > expected:
        return BundleRefused(
            "bundle_overlong",
            f"the file has {lines} lines where {expected} were written; {where}",
            **span,
        )
    if good == header.size:
        return BundleRefused("leaves_altered", f"leaf hashes were altered; {where}")
    return BundleRefused("events_altered", f"events and leaf hashes were altered; {where}", **span)


def _span(
    path: Path,
    header: BundleHeader,
    left: Events,
    events: Events,
    count: int,
    checkpoints: list[Checkpoint],
    *,
    offset: int,
    keys: Sequence[VerifierKey],
) -> tuple[int, int]:
    """Tell up to which event all is as signed, and by which checkpoint, of the first `count` events, it is not.

    Where all are, both are the size.
    """
    good = 0
    if header.erased and left.count == header.erased:
        good = header.erased if is_signed(path, header, left, keys=keys, offset=offset) else 0
    within = [one for one in checkpoints if one.size <= count]
    for one, root in zip(within, events.roots([one.size for one in within]), strict=True):
        if one.root != root and one.size > good:
            break
        good = max(good, one.size)
    return good, next((one.size for one in checkpoints if one.size > good), header.size)


def fault(kind: str, at: int, *, event: str | None) -> BundleRefused:
    """Tell of an event that is none of this tenant, or none at all; `at` counts from 0."""
    if kind == FOREIGN:
        return BundleRefused("event_foreign", f"event {at + 1} is of another tenant", sequence=at + 1, event=event)
    return BundleRefused(
        "event_malformed", f"event {at + 1} is no event in canonical form (RFC 8785)", sequence=at + 1, event=event
    )


def _lines_in(path: Path) -> tuple[int, bool]:
    """Count the lines that have an end; and tell whether the last has one."""
    lines, last = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines, last == b"\n"


def _leaf(hashes: bytes, at: int) -> bytes:
    return hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]


def _place(leaf: bytes, hashes: bytes, *, behind: int) -> int | None:
    """Find where a leaf hash stands behind a place; None where it does not."""
    at = hashes.find(leaf, (behind + 1) * HASH_BYTES)
    while at >= 0 and at % HASH_BYTES:
        at = hashes.find(leaf, at + 1)
    return at // HASH_BYTES if at >= 0 else None
