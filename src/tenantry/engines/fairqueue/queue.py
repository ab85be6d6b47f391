"""The operations. Each is one statement, hence one round trip and, outside a transaction, one commit."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from tenantry.engines.fairqueue import statements
from tenantry.engines.fairqueue.names import Names
from tenantry.engines.fairqueue.types import (
    Cancellation,
    Claim,
    Connection,
    Lapsed,
    Levels,
    Renewal,
    Standing,
    Ticket,
)

MAX_WEIGHT: Final = 1_000_000  # as the table's check
MAX_RUNNING: Final = 2**31 - 1
NIL: Final = UUID(int=0)


class FairQueue:
    """A fair queue under given names. It holds no state: all of it is in the database.

    `enqueue`, `cancel`, `finish` and `set_share` belong to the owner of the entries, in its transaction; all others to
    the dispatcher, which sees every entry and should call them outside of a transaction (the gate is held to its end).
    """

    def __init__(self, names: Names) -> None:
        self.names = names
        self._enqueue = names.fill(statements.ENQUEUE)
        self._cancel = names.fill(statements.CANCEL)
        self._finish = names.fill(statements.FINISH)
        self._claim = names.fill(statements.CLAIM)
        self._renew = names.fill(statements.RENEW)
        self._give_back = names.fill(statements.GIVE_BACK)
        self._drop = names.fill(statements.DROP)
        self._lapsed = names.fill(statements.LAPSED)
        self._cancelled = names.fill(statements.CANCELLED)
        self._heartbeat = names.fill(statements.HEARTBEAT)
        self._leave = names.fill(statements.LEAVE)
        self._standing = names.fill(statements.STANDING)
        self._set_share = names.fill(statements.SET_SHARE)
        self._catch_up = names.fill(statements.CATCH_UP)
        self._collect = names.fill(statements.COLLECT)

    async def enqueue(
        self,
        connection: Connection,
        *,
        levels: Levels,
        entry: UUID,
        estimate_seconds: float,
        slots: int = 1,
        labels: Iterable[str] = (),
    ) -> None:
        """Insert only; the caller notifies. An entry id serves once: raises asyncpg.UniqueViolationError when known.

        `estimate_seconds` (0 < x <= 31 536 000) times `slots` (1-4096) is charged at the claim and corrected later.
        A worker must serve all `labels` (at most 16). Out of range raises asyncpg.CheckViolationError.
        """
        wanted = sorted(set(labels))
        await connection.fetchval(self._enqueue, *levels, entry, float(estimate_seconds), slots, wanted)

    async def cancel(self, connection: Connection, *, first: UUID, entry: UUID) -> Cancellation:
        """Take it out of the queue, or tell its worker. Safe to retry: the second answer is `ABSENT` or `REQUESTED`."""
        state = await connection.fetchval(self._cancel, first, entry)
        if state is None:
            return Cancellation.ABSENT
        return Cancellation.REQUESTED if state == "claimed" else Cancellation.REMOVED

    async def finish(self, connection: Connection, *, ticket: Ticket, used_slot_seconds: float) -> bool:
        """End an attempt with what it really used; False when the ticket is stale: then its result must be discarded.

        A lease that has lapsed but was not yet requeued still counts.
        """
        done = await connection.fetchval(self._finish, ticket.first, ticket.entry, ticket.attempt, used_slot_seconds)
        return done is not None

    async def claim(
        self,
        connection: Connection,
        *,
        worker: UUID,
        free_slots: int,
        capacity: int,
        labels: Iterable[str],
        lease_seconds: float,
    ) -> list[Claim]:
        """Take in fair order what fits into `free_slots`, and lease it.

        Entries that want more than `capacity` (the worker's slots, all free) or other labels are as if not there. When
        it is the turn of one that fits only once more slots are free, the claim ends there, so it cannot starve.
        """
        rows = await connection.fetch(self._claim, worker, free_slots, capacity, list(labels), float(lease_seconds))
        return [
            Claim(
                ticket=_ticket(row),
                levels=(row[0], row[3], row[4]),
                slots=row[5],
                labels=tuple(row[6]),
                estimate_seconds=row[7],
                charged=row[8],
            )
            for row in rows
        ]

    async def renew(
        self, connection: Connection, *, worker: UUID, tickets: Sequence[Ticket], lease_seconds: float
    ) -> Renewal:
        """Extend leases; the worker counts `lease_seconds` from before the call by its own monotonic clock.

        A ticket in neither set is lost: its work must end now. A lapsed lease is not revived.
        """
        firsts, entries, attempts = ([ticket[field] for ticket in tickets] for field in range(3))
        rows = await connection.fetch(self._renew, worker, firsts, entries, attempts, float(lease_seconds))
        return Renewal(
            extended=frozenset(_ticket(row) for row in rows if row[3]),
            unchanged=frozenset(_ticket(row) for row in rows if not row[3]),
        )

    async def release(self, connection: Connection, *, worker: UUID, ticket: Ticket) -> bool:
        """Put an unstarted claim back at its place and refund its charge.

        False: it is no longer this worker's, or somebody is just changing its row; then it lapses by itself.
        """
        return bool(await connection.fetchval(self._give_back, *ticket, worker))

    async def sweep(self, connection: Connection, *, limit: int = 100, without: Collection[UUID] = ()) -> list[Lapsed]:
        """List claims past their lease, oldest first, for the caller to `requeue` or `drop` each. Changes nothing.

        Those of the top-level shares `without` are left out, so that what cannot be decided on hides nothing else.
        """
        rows = await connection.fetch(self._lapsed, limit, list(without))
        return [
            Lapsed(ticket=_ticket(row), levels=(row[0], row[3], row[4]), worker=row[5], cancel_requested=row[6])
            for row in rows
        ]

    async def requeue(self, connection: Connection, *, ticket: Ticket) -> bool:
        """Put a lapsed claim back at its place and refund its charge; False when it is finished, taken, or renewed."""
        return bool(await connection.fetchval(self._give_back, *ticket, None))

    async def drop(self, connection: Connection, *, ticket: Ticket) -> bool:
        """End a lapsed claim for good, its charge stands; False as in `requeue`."""
        return await connection.fetchval(self._drop, *ticket) is not None

    async def cancelled(self, connection: Connection, *, worker: UUID) -> list[Ticket]:
        """List which of the worker's claims somebody wants to end."""
        return [_ticket(row) for row in await connection.fetch(self._cancelled, worker)]

    async def heartbeat(
        self, connection: Connection, *, worker: UUID, boot: UUID, labels: Iterable[str], slots: int
    ) -> None:
        """Say that the worker lives and what it serves. Under a new `boot` the claims of the old one lapse at once."""
        await connection.fetchval(self._heartbeat, worker, boot, sorted(set(labels)), slots)

    async def leave(self, connection: Connection, *, worker: UUID) -> None:
        """Forget a worker that stops; claims it still has lapse at once. Idempotent."""
        await connection.fetchval(self._leave, worker)

    async def standing(
        self, connection: Connection, *, first: UUID, entry: UUID, alive_seconds: float = 30.0
    ) -> Standing | None:
        """Explain why an entry waits; None for one that is not in the queue. A worker lives for `alive_seconds`."""
        row = await connection.fetchrow(self._standing, first, entry, float(alive_seconds))
        return None if row is None else Standing(*row)

    async def set_share(
        self,
        connection: Connection,
        *,
        keys: tuple[UUID] | tuple[UUID, UUID],
        weight: float = 1.0,
        most_running: int | None = None,
    ) -> bool:
        """Set what a first-level key, or a second-level one below it, gets; True when it was something else before.

        `weight` (0 < weight <= 1 000 000) is its part beside its siblings, from the next charge on. `most_running` is
        how many of its entries run at most, however many slots each takes; 0 lets none start, None as many as there is
        room for. Lowering it ends nothing. It holds from the first claim after the commit that sees it: notify, as of
        an entry. Where nothing differs no row is written or locked, so it may stand before each `enqueue`. Raises
        ValueError.
        """
        if not 0 < weight <= MAX_WEIGHT or (most_running is not None and not 0 <= most_running <= MAX_RUNNING):
            raise ValueError("weight must be above 0 and at most 1 000 000, most_running 0 or more")
        first, second = (*keys, NIL)[:2]
        return bool(await connection.fetchval(self._set_share, first, second, float(weight), most_running))

    async def catch_up(self, connection: Connection) -> int:
        """Take in new, finished and cancelled entries and changed shares without claiming; 0 when there was nothing.

        The sweep calls it until 0: one call holds the gate for some 20 ms at most, so claims pass between.
        """
        return int(await connection.fetchval(self._catch_up))

    async def collect(self, connection: Connection, *, idle_seconds: float, limit: int = 1000) -> int:
        """Forget nodes, lanes and workers idle for so long, looking at `limit` nodes; answer how many nodes went.

        A debt of virtual time that is left after `idle_seconds` is forgiven, so make it long: an hour.
        """
        return int(await connection.fetchval(self._collect, float(idle_seconds), limit))


def _ticket(row: Any) -> Ticket:
    return Ticket(row[0], row[1], row[2])
