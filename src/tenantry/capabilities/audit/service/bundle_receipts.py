"""Holds an audit bundle against receipts that the log gave for events of it, before they had a place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service.bundle_events import Events
from tenantry.capabilities.audit.service.receipts import Receipt
from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.notes import Note, VerifierKey
from tenantry.engines.merkle.tree import HASH_BYTES
from tenantry.foundation.ids import Prefix, moment_of, parse_id

_SKEW: Final = timedelta(seconds=10)
"""How far the clocks of two servers of a region may be apart."""


@dataclass(frozen=True, slots=True)
class Held:
    """What of receipts agrees: `found` events are there as they were, `pending` may have been too young for a place."""

    found: int = 0
    pending: int = 0


def opened_receipts(origin: str, keys: Sequence[VerifierKey], notes: Iterable[bytes]) -> list[Receipt]:
    """Open those of the log `origin`; raises BundleRefused for one that it has not signed, or when none is of it."""
    found, foreign = [], False
    for raw in notes:
        try:
            note = Note.parse(raw)
            if note.text.partition("\n")[0] != origin:
                foreign = True
                continue
            receipt = Receipt.parse(note.text)
            note.verify(keys=keys, at=receipt.made_at)
        except NoteError as error:
            raise BundleRefused("receipt_forged", f"a receipt is none that the log has signed: {error}") from error
        found.append(receipt)
    if foreign and not found:
        raise BundleRefused("receipt_foreign", "none of the receipts is of this log")
    return found


def hold_receipts(receipts: Sequence[Receipt], events: Events) -> Held:
    """Find each event that was acknowledged; raises BundleRefused for one that is not there, or is another.

    Of an event that has left its leaf hash is held against those that remain. The sealer takes what waits in the order
    of ids. So behind an event that is younger than a receipt, all that the receipt tells of has its place; what is
    missing then was removed.
    """
    if not receipts:
        return Held()
    erased = events.count - len(events.ids)
    places = {event: at for at, event in enumerate(events.ids, erased)}
    left = _left(receipts, events, places, erased)
    newest = _made_at(max(events.ids, default=b"evt_" + b"0" * 26).decode())
    found = pending = 0
    for receipt in sorted(receipts, key=lambda one: one.made_at):
        for event, leaf in receipt.events:
            at = places.get(event.encode())
            if at is not None and events.leaves[at * HASH_BYTES : (at + 1) * HASH_BYTES] == leaf:
                found += 1
            elif at is not None:
                raise BundleRefused(
                    "event_replaced",
                    f"event {at + 1} is not what its receipt says: it was altered before it was sealed",
                    sequence=at + 1,
                    event=event,
                )
            elif leaf in left:
                found += 1
            elif newest - receipt.made_at > _SKEW:
                raise BundleRefused(
                    "event_unrecorded",
                    f"an event with a receipt of {receipt.made_at.isoformat()} is missing: it was removed before it was"
                    " sealed",
                    event=event,
                )
            else:
                pending += 1
    return Held(found, pending)


def _left(receipts: Sequence[Receipt], events: Events, places: Mapping[bytes, int], erased: int) -> set[bytes]:
    """Give the leaf hashes of these receipts that stand for events which have left: of those nothing else is here."""
    wanted = {leaf for one in receipts for event, leaf in one.events if event.encode() not in places}
    hashes = bytes(events.leaves[: erased * HASH_BYTES]) if wanted else b""
    return wanted.intersection(hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES))


def _made_at(event: str) -> datetime:
    """Tell when an id was made, to the millisecond (UUIDv7, RFC 9562)."""
    return moment_of(parse_id(Prefix.AUDIT_EVENT, event))
