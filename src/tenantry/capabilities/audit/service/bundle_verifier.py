"""Holds an audit bundle against the checkpoints that its log has signed, and names the first event that is not so.

What is believed: the keys, and checkpoints that the caller brings along. All else is held against them. The times in a
bundle are the log's word alone, no signature is over them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service.bundle import MAX_HEADER_BYTES, BundleHeader, leaf_lines
from tenantry.capabilities.audit.service.bundle_erasures import read_erased, require_erasure
from tenantry.capabilities.audit.service.bundle_events import Events, read_events
from tenantry.capabilities.audit.service.bundle_receipts import hold_receipts, opened_receipts
from tenantry.capabilities.audit.service.bundle_search import fault, first_bad, id_of, line_at
from tenantry.capabilities.audit.service.erasures import Erasure
from tenantry.engines.merkle.bulk_file import BIG_LINES
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.errors import MerkleError, NoteError
from tenantry.engines.merkle.notes import KeyRing, Note, VerifierKey
from tenantry.engines.merkle.tree import EMPTY_ROOT, TILE_WIDTH
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, parse_id

_PROCESSES: Final = 2
_UNFORESEEN: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    StopIteration,
    MerkleError,
)
"""What no form that is read here should end in; whoever wrote the file must not choose how the command ends."""


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What was verified.

    root        of the tree over all events, 32 bytes in hexadecimal
    made_at     when the log says it signed the last checkpoint; None for an empty log without one, by its own word
    keys        names of the keys that signed checkpoints
    pinned      whether the caller brought the keys; else they are the bundle's own, which anybody may have made
    witnessed   how many checkpoints from elsewhere agree
    receipts    how many events that receipts tell of are in the log, as they were
    pending     how many are not, and may have been too young for a place when the bundle was made
    erasure     what the log has signed of events that have left, the first ones; None: all are there
    """

    tenant: str
    size: int
    root: str
    made_at: datetime | None
    keys: tuple[str, ...]
    pinned: bool
    witnessed: int
    receipts: int = 0
    pending: int = 0
    erasure: Erasure | None = None


def verify_bundle(
    path: Path,
    *,
    keys: Sequence[VerifierKey] | None = None,
    witnessed: Iterable[bytes] = (),
    receipts: Iterable[bytes] = (),
    processes: int | None = None,
) -> BundleReport:
    """Return if the file is exactly what its log has signed, else raise BundleRefused with a stable `code`.

    `keys` are the log's, as the caller knows them; None: those in the bundle. `witnessed` are checkpoints, signed
    notes, that the caller got elsewhere, `receipts` what it was given for its effects; those of other logs are passed
    over, but if there are any, one must be of this log. Two `processes` unless said otherwise, where the file is big.
    Raises OSError for a file that cannot be read, ChildProcessError, which says nothing of the log, when another
    process did not finish.
    """
    try:
        return _verified(path, keys=keys, witnessed=witnessed, receipts=receipts, processes=processes or _PROCESSES)
    except _UNFORESEEN as error:
        raise BundleRefused("bundle_malformed", "the file cannot be read as a bundle: it was altered") from error


def _verified(
    path: Path,
    *,
    keys: Sequence[VerifierKey] | None,
    witnessed: Iterable[bytes],
    receipts: Iterable[bytes],
    processes: int,
) -> BundleReport:
    with path.open("rb") as file:
        line = file.readline(MAX_HEADER_BYTES + 1)
    header = BundleHeader.parse(line)
    trusted = KeyRing(header.keys if keys is None else keys)
    checkpoints, signers = _opened(header, trusted)
    seen = _witnessed(header, trusted, witnessed)
    given = opened_receipts(header.origin, trusted, receipts)
    if not checkpoints and (keys is not None or given):
        raise BundleRefused("checkpoint_missing", "no checkpoint: nothing here is signed by a key that you know")
    events = _all_events(path, header, offset=len(line), processes=processes)
    roots = dict(_roots(events, [one.size for one in (*checkpoints, *seen)])) if events else {}
    if events is None or (checkpoints and roots.get(header.size) != checkpoints[-1].root):
        raise first_bad(path, header, checkpoints, offset=len(line), keys=trusted)
    _require_one_history(header, roots, checkpoints, seen)
    _require_events(path, events, offset=len(line), erased=header.erased)
    erasure = require_erasure(path, header, events, keys=trusted, offset=len(line)) if header.erased else None
    _require_leaf_lines(path, events)
    held = hold_receipts(given, events)
    return BundleReport(
        tenant=header.tenant,
        size=header.size,
        root=(checkpoints[-1].root if checkpoints else EMPTY_ROOT).hex(),
        made_at=header.checkpoints[-1].made_at if header.checkpoints else None,
        keys=signers,
        pinned=keys is not None,
        witnessed=len(seen),
        receipts=held.found,
        pending=held.pending,
        erasure=erasure,
    )


def _all_events(path: Path, header: BundleHeader, *, offset: int, processes: int) -> Events | None:
    """Read what there is of all events: of those that have left the leaf hashes, which follow; None where they do not.

    What they are worth the checkpoints tell.
    """
    events = read_events(
        path,
        offset=offset,
        size=header.events,
        tenant=header.tenant,
        processes=max(1, processes) if header.events >= BIG_LINES else 1,
    )
    if not header.erased:
        return events
    part = read_erased(path, at=events.end, erased=header.erased) if events.count == header.events else None
    return part.joined(events) if part else None


def _opened(header: BundleHeader, keys: KeyRing) -> tuple[list[Checkpoint], tuple[str, ...]]:
    """Open the header's checkpoints; gives them and the names of who signed."""
    installation, _, tenant = header.origin.rpartition("/")
    if not installation or tenant != header.tenant or not _is_tenant(tenant):
        raise BundleRefused("bundle_malformed", "the header's origin is not the log of its tenant")
    checkpoints: list[Checkpoint] = []
    names: dict[str, None] = {}
    signers: tuple[VerifierKey, ...] = ()
    for number, made in enumerate(header.checkpoints, 1):
        checkpoint, signers = _open(made.note, header.origin, keys, at=made.made_at, which=f"checkpoint {number}")
        if checkpoints and checkpoint.size <= checkpoints[-1].size:
            raise BundleRefused("checkpoints_unordered", f"checkpoint {number} is not larger than the one before it")
        checkpoints.append(checkpoint)
        names |= dict.fromkeys(signer.name for signer in signers)
    if (checkpoints[-1].size if checkpoints else 0) != header.size:
        raise BundleRefused("checkpoint_missing", f"no checkpoint is of {header.size} events, as the header says")
    if checkpoints and f"{installation}/{header.region}" not in {signer.name for signer in signers}:
        raise BundleRefused("bundle_malformed", "the header's region is not whose key signed the last checkpoint")
    return checkpoints, tuple(names)


def _witnessed(header: BundleHeader, keys: KeyRing, notes: Iterable[bytes]) -> list[Checkpoint]:
    seen, foreign = list[Checkpoint](), False
    for note in notes:
        if note.partition(b"\n")[0] == header.origin.encode():
            # When it was signed nobody knows here; that the log did sign it is what counts.
            seen.append(_open(note, header.origin, keys, at=None, which="a checkpoint from elsewhere")[0])
        else:
            foreign = True
    if foreign and not seen:
        raise BundleRefused("witness_foreign", "none of the checkpoints from elsewhere is of this log")
    for one in seen:
        if one.size > header.size:
            raise BundleRefused(
                "log_rolled_back",
                f"the log was rolled back: it had {one.size} events, and here are {header.size}",
                first=header.size + 1,
                last=one.size,
            )
    return seen


def _open(
    raw: bytes, origin: str, keys: KeyRing, *, at: datetime | None, which: str
) -> tuple[Checkpoint, tuple[VerifierKey, ...]]:
    try:
        note = Note.parse(raw)
        checkpoint = Checkpoint.parse(note.text)
    except NoteError as error:
        raise BundleRefused("checkpoint_malformed", f"{which} is no signed checkpoint") from error
    counted = [key for key in keys.of(note) if at is None or key.counts(at)]
    if not counted:
        raise BundleRefused(
            "checkpoint_unknown_key",
            f"{which} is signed by no key that counted then: it is not the log's, or a key is missing",
        )
    try:
        signers = note.verify(keys=counted, at=at)
    except NoteError as error:
        raise BundleRefused("checkpoint_forged", f"{which} has a bad signature: it was altered") from error
    if checkpoint.origin != origin:
        raise BundleRefused("checkpoint_foreign", f"{which} is of another log")
    return checkpoint, signers


def _roots(events: Events, sizes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    known = sorted({size for size in sizes if size <= events.count})
    return zip(known, events.roots(known), strict=True)


def _require_one_history(
    header: BundleHeader, roots: dict[int, bytes], checkpoints: Sequence[Checkpoint], seen: Sequence[Checkpoint]
) -> None:
    for one in checkpoints:
        if one.root != roots[one.size]:
            raise BundleRefused(
                "checkpoint_forked",
                f"the log has signed two histories: its checkpoint of {one.size} events is not of these",
                first=1,
                last=one.size,
            )
    for one in seen:
        if one.root != roots[one.size]:
            raise BundleRefused(
                "log_forked",
                f"the log has shown another history elsewhere: its {one.size} events there are not those here",
                first=1,
                last=min(one.size, header.size),
            )


def _require_events(path: Path, events: Events, *, offset: int, erased: int) -> None:
    """Refuse what was signed and is no event of this tenant, or one that is there twice."""
    if events.faults:
        kind, at = min(events.faults.items(), key=lambda one: one[1])
        raise fault(kind, at, event=id_of(line_at(path, at - erased, offset=offset)))
    if len(set(events.ids)) == len(events.ids):
        return
    met: set[bytes] = set()
    for sequence, event in enumerate(events.ids, erased + 1):
        if event in met:
            raise BundleRefused(
                "event_repeated",
                f"event {sequence} has the id of an earlier one",
                sequence=sequence,
                event=event.decode(),
            )
        met.add(event)


def _require_leaf_lines(path: Path, events: Events) -> None:
    first = 1
    with path.open("rb") as file:
        file.seek(events.end)
        for line in leaf_lines(events.leaves):
            found = file.read(len(line))
            if first == 1 and found.startswith(b"{"):
                more = events.count + 1
                raise BundleRefused(
                    "bundle_overlong", f"an event follows the {events.count} that were signed", sequence=more
                )
            if line.startswith(found) and found != line:
                raise BundleRefused("bundle_cut", "the file ends within its leaf hashes; its events are as signed")
            last = min(first + TILE_WIDTH - 1, events.count)
            if found != line:
                raise BundleRefused(
                    "leaves_altered",
                    f"the leaf hashes of events {first} to {last} are altered; the events are as signed",
                    first=first,
                    last=last,
                )
            first += TILE_WIDTH
        if file.read(1):
            raise BundleRefused("bundle_overlong", "the file goes on behind its last line")


def _is_tenant(text: str) -> bool:
    try:
        parse_id(Prefix.TENANT, text)
    except Invalid:
        return False
    return True
