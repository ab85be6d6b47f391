"""A tenant's log as others may hold it: its newest checkpoint, and proofs that an event is in it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import log_erased
from tenantry.capabilities.audit.service.bundle import BundleCheckpoint, BundleHeader
from tenantry.capabilities.audit.service.events import find_erased
from tenantry.capabilities.audit.types import SignedCheckpoint, TracedEvent
from tenantry.engines.merkle.notes import Note, VerifierKey
from tenantry.engines.merkle.proofs import Range, consistency_plan, inclusion_plan
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Conflict, NotFound, Unavailable
from tenantry.foundation.ids import Prefix, format_id, moment_of

_SIGNED_EVERY_SECONDS: Final = 1
_MOST_CHECKPOINTS: Final = 1000
_MOST_TRACED: Final = 1000
_PAGE: Final = 2000
_LEAVES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That the leaf at `index`, from 0, is in the tree of `checkpoint`: `path` leads from it to the root (RFC 9162)."""

    event_id: UUID
    index: int
    leaf: bytes
    path: tuple[bytes, ...]
    checkpoint: SignedCheckpoint


@dataclass(frozen=True, slots=True)
class Consistency:
    """That the tree of `checkpoint` begins with the tree of `size` events: `path` as RFC 9162 §2.1.4 has it."""

    size: int
    path: tuple[bytes, ...]
    checkpoint: SignedCheckpoint


class LogService:
    """The log of the session's tenant."""

    def __init__(self, *, session: TenantSession) -> None:
        self._session = session

    async def checkpoint(self) -> SignedCheckpoint:
        """Give the newest. Raises Unavailable `checkpoint_missing` before the first, which is a second away."""
        found = await repository.find_checkpoint(self._session)
        if found is None:
            raise Unavailable(
                "checkpoint_missing",
                "no checkpoint has been signed yet; one is, a second after an event",
                layer="audit",
                retry_after=_SIGNED_EVERY_SECONDS,
            )
        return found

    async def covering(self, sequence: int) -> SignedCheckpoint | None:
        """Give the newest checkpoint that has the event of this place in it; None while there is none."""
        return await repository.find_checkpoint(self._session, at_least=sequence)

    async def trace(self, ends: Mapping[str, str], *, among: Collection[str] = ()) -> dict[str, list[TracedEvent]]:
        """List events of each of these resources, oldest first, up to that with the action that ends it.

        Only those with one of the actions `among`: whatever else was asked of it, or tried, takes no part. Of each the
        last thousand.
        """
        return await repository.trace_resources(self._session, ends, among=among, most=_MOST_TRACED)

    async def prove(self, event_id: UUID) -> Inclusion:
        """Prove that an event, which the session may see or which has left, is in the newest checkpoint.

        Raises NotFound, and Unavailable `event_unsigned` for one that is younger than that: a second later it is not.
        """
        event = await repository.find_event(self._session, event_id)
        left = await find_erased(self._session, event_id) if event is None else None
        if event is None and left is None:
            raise NotFound("not_found", "no such audit event", layer="audit")
        sequence = event.sequence if event is not None else left[0] if left is not None else None
        found = await repository.find_checkpoint(self._session, at_least=sequence or 0)
        if sequence is None or found is None:
            raise Unavailable(
                "event_unsigned",
                "no checkpoint has been signed since this event; one is, a second after it",
                layer="audit",
                retry_after=_SIGNED_EVERY_SECONDS,
            )
        index = sequence - 1
        plan = inclusion_plan(index=index, size=found.size)
        [[leaf], *hashes] = await repository.find_hashes(self._session, [Range(0, index, index + 1), *plan.ranges])
        return Inclusion(event_id, index, leaf, plan.compute(hashes), found)

    async def prove_consistency(self, size: int) -> Consistency:
        """Prove that the newest checkpoint's log begins with its first `size` events, from 1, unaltered.

        Raises Conflict `log_shorter` where it has fewer: if a checkpoint says more, the log was rolled back.
        """
        newest = await self.checkpoint()
        if size > newest.size:
            raise Conflict(
                "log_shorter",
                f"size: the newest checkpoint is of {newest.size} events; if one that you have is of {size},"
                " the log was rolled back",
                layer="audit",
                size=newest.size,
            )
        plan = consistency_plan(size1=size, size2=newest.size)
        return Consistency(size, plan.compute(await repository.find_hashes(self._session, plan.ranges)), newest)

    async def bundle(self, *, origin: str, keys: Sequence[VerifierKey]) -> BundleHeader:
        """Give the first line of a bundle of the whole log, up to its newest checkpoint.

        Checkpoints of another origin, from before an import, are not in it. Raises Unavailable `checkpoint_missing`.
        """
        newest = await self.checkpoint()
        told = [
            one
            for one in await repository.list_checkpoints(self._session, most=_MOST_CHECKPOINTS)
            if one.size <= newest.size and one.note.startswith(f"{origin}\n".encode())
        ]
        extent = await repository.find_log_extent(self._session)
        return BundleHeader(
            tenant=format_id(Prefix.TENANT, self._session.scope.tenant_id),
            region=Note.parse(newest.note).signatures[0].name.rpartition("/")[2],
            origin=origin,
            size=newest.size,
            keys=tuple(keys),
            checkpoints=tuple(BundleCheckpoint(one.made_at, one.note) for one in told),
            erased=extent.erased,
        )

    async def leaves(self, *, after: int, until: int) -> list[bytes]:
        """Give leaf hashes of some events, also of those that have left, from the one behind `after`."""
        return await repository.list_leaves(self._session, after=after, until=until, limit=_LEAVES)

    async def require_standing(self, erased: int) -> None:
        """Raise Unavailable `log_erased` where more of the log has left than that."""
        if (await repository.find_log_extent(self._session)).erased > erased:
            raise log_erased()

    async def left_before(self) -> datetime | None:
        """Tell how young an event may be that has left the log: when the youngest got its id; None: none has."""
        erased = (await repository.find_log_extent(self._session)).erased
        newest = await repository.find_newest_erased(self._session, erased=erased) if erased else None
        return moment_of(newest) if newest is not None else None

    async def events(self, *, after: int, until: int) -> list[tuple[int, bytes, bytes]]:
        """Give sequence, canonical bytes and leaf of some events in that order, the first behind `after`.

        None at the end. They are as they are stored: whether one is missing is for the verifier to say.
        """
        return await repository.list_log(self._session, after=after, until=until, limit=_PAGE)
