"""SQL of forgetting: of one person, asked for by the application, and of everybody after a time; done by the sealer."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit.types.forgettings import DueForgetting, Forgetting, ForgettingState
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Sealing = PoolConnectionProxy[asyncpg.Record]

# The files of the days of which something was forgotten say it still, so they are due at once.
_REOPENED: Final = """update audit_days d
               set written = 0, closed_at = null, due_at = {now}, epoch = d.epoch + 1, lease_until = null
               from (select distinct day from forgotten) f where d.tenant_id = $1 and d.day = f.day"""
_FORGETTING: Final = "forgetting_id, principal, state, requested_at, requested_by, position, forgotten, ended_at"


async def insert_forgetting(
    session: TenantSession, forgetting_id: UUID, *, principal: str, by: str, now: datetime
) -> bool:
    """Write a request down; False where one for this principal is open already."""
    row = await session.fetchrow(
        """insert into audit_forgettings (tenant_id, forgetting_id, principal, requested_at, requested_by, due_at)
           values ($1, $2, $3, $4, $5, $4) on conflict (tenant_id, principal) where state <> 'done' do nothing
           returning forgetting_id""",
        session.scope.tenant_id,
        forgetting_id,
        principal,
        now,
        by,
    )
    return row is not None


async def count_open_forgettings(session: TenantSession) -> int:
    found = await session.fetchval(
        "select count(*) from audit_forgettings where tenant_id = $1 and state <> 'done'", session.scope.tenant_id
    )
    return int(found)


async def find_forgetting(session: TenantSession, forgetting_id: UUID) -> Forgetting | None:
    row = await session.fetchrow(
        f"select {_FORGETTING} from audit_forgettings where tenant_id = $1 and forgetting_id = $2",
        session.scope.tenant_id,
        forgetting_id,
    )
    return _forgetting(row) if row else None


async def find_open_forgetting(session: TenantSession, principal: str) -> Forgetting | None:
    row = await session.fetchrow(
        f"""select {_FORGETTING} from audit_forgettings
            where tenant_id = $1 and principal = $2 and state <> 'done'""",
        session.scope.tenant_id,
        principal,
    )
    return _forgetting(row) if row else None


async def list_forgettings(session: TenantSession, *, before: UUID | None, limit: int) -> list[Forgetting]:
    """Newest first."""
    rows = await session.fetch(
        f"""select {_FORGETTING} from audit_forgettings
            where tenant_id = $1 and ($2::uuid is null or forgetting_id < $2) order by forgetting_id desc limit $3""",
        session.scope.tenant_id,
        before,
        limit,
    )
    return [_forgetting(row) for row in rows]


async def require_writable(session: TenantSession) -> None:
    """Raise what a write would: rows of a tenant on the move must stay as they were copied."""
    await session.fetchval("select fence.writable_tenant_here()")


async def list_due_forgettings(
    connection: "Sealing", *, now: datetime, limit: int, without: Collection[UUID]
) -> list[DueForgetting]:
    """List requests of all tenants that are due, one of a tenant, those first that have waited longest."""
    rows = await connection.fetch(
        """select tenant_id, forgetting_id from (
               select distinct on (tenant_id) tenant_id, forgetting_id, due_at from audit_forgettings
               where due_at <= $1 and tenant_id <> all($3::uuid[]) order by tenant_id, due_at
           ) d order by due_at limit $2""",
        now,
        limit,
        list(without),
    )
    return [DueForgetting(row["tenant_id"], row["forgetting_id"]) for row in rows]


async def lock_events(connection: "Sealing", tenant_id: UUID) -> None:
    """Be the only one that forgets in a tenant's events, until the transaction ends."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('audit_forget/' || $1::uuid, 0))", tenant_id
    )


async def take_forgetting(connection: "Sealing", due: DueForgetting, *, now: datetime) -> Forgetting | None:
    """Lock a request until the transaction ends; None when it is not due any more, or another's."""
    row = await connection.fetchrow(
        f"""select {_FORGETTING} from audit_forgettings
            where tenant_id = $1 and forgetting_id = $2 and due_at <= $3 for no key update skip locked""",
        due.tenant_id,
        due.forgetting_id,
        now,
    )
    return _forgetting(row) if row else None


async def forget_named(
    connection: "Sealing", tenant_id: UUID, request: Forgetting, *, now: datetime, limit: int
) -> tuple[int, int]:
    """Forget in so many more events what names the principal in its canonical bytes, and have their days written anew.

    Tells how many were looked at, and in how many there was something.
    """
    row = await connection.fetchrow(
        f"""with looked as (
               select s.sequence, s.event_id from audit_sequence s
               where s.tenant_id = $1 and s.sequence > $4 order by s.sequence limit $5
           ), forgotten as (
               update audit_events e set sealed = null from looked l
               where e.tenant_id = $1 and e.event_id = l.event_id and e.event_id < $2 and e.sealed is not null
                 and position($3::bytea in e.canonical) > 0
               returning (e.occurred_at at time zone 'UTC')::date as day
           ), reopened as (
               {_REOPENED.format(now="$6")}
           ), noted as (
               update audit_forgettings f set position = greatest(f.position, (select max(sequence) from looked)),
                      forgotten = f.forgotten + (select count(*) from forgotten),
                      state = case when f.state = 'held' then 'open' else f.state end
               where f.tenant_id = $1 and f.forgetting_id = $2
           )
           select (select count(*) from looked) as looked, (select count(*) from forgotten) as found""",
        tenant_id,
        request.forgetting_id,
        request.principal.encode(),
        request.position,
        limit,
        now,
    )
    return (int(row["looked"]), int(row["found"])) if row else (0, 0)


async def find_forgettable(connection: "Sealing", *, before: UUID, after: UUID | None, limit: int) -> list[UUID]:
    """List tenants, behind one, that may have something about persons in events whose ids are before `before`."""
    rows = await connection.fetch(
        """select tenant_id from audit_heads
           where (forgotten is null or forgotten < $1) and ($2::uuid is null or tenant_id > $2)
           order by tenant_id limit $3""",
        before,
        after,
        limit,
    )
    return [row["tenant_id"] for row in rows]


async def forget_personal(
    connection: "Sealing", tenant_id: UUID, *, before: UUID, now: datetime, limit: int
) -> tuple[int, int]:
    """Forget what is about persons in so many more events, and have their days written anew.

    Tells how many were looked at, and in how many there was something.
    """
    row = await connection.fetchrow(
        f"""with looked as (
               select e.event_id from audit_events e
               where e.tenant_id = $1 and e.event_id < $2 and e.event_id > coalesce(
                   (select forgotten from audit_heads h where h.tenant_id = $1),
                   '00000000-0000-0000-0000-000000000000'::uuid)
               order by e.event_id limit $3
           ), forgotten as (
               update audit_events e set sealed = null from looked l
               where e.tenant_id = $1 and e.event_id = l.event_id and e.sealed is not null
               returning (e.occurred_at at time zone 'UTC')::date as day
           ), reopened as (
               {_REOPENED.format(now="$4")}
           ), noted as (
               update audit_heads set forgotten = case when (select count(*) from looked) < $3 then $2
                                                   else (select max(event_id::text)::uuid from looked) end
               where tenant_id = $1
           )
           select (select count(*) from looked) as looked, (select count(*) from forgotten) as found""",
        tenant_id,
        before,
        limit,
        now,
    )
    return (int(row["looked"]), int(row["found"])) if row else (0, 0)


async def has_unsealed_before(connection: "Sealing", tenant_id: UUID, event_id: UUID) -> bool:
    """Say whether an event that is older than this one has no place yet."""
    found = await connection.fetchval(
        "select exists (select from audit_unsealed where tenant_id = $1 and event_id < $2)", tenant_id, event_id
    )
    return bool(found)


async def note_forgetting(
    connection: "Sealing",
    due: DueForgetting,
    *,
    state: ForgettingState,
    due_at: datetime | None,
    ended_at: datetime | None,
) -> None:
    """Say what a request is, and when it is looked at again."""
    await connection.execute(
        """update audit_forgettings set state = $3, due_at = $4, ended_at = coalesce(ended_at, $5)
           where tenant_id = $1 and forgetting_id = $2""",
        due.tenant_id,
        due.forgetting_id,
        state.value,
        due_at,
        ended_at,
    )


def _forgetting(row: "asyncpg.Record") -> Forgetting:
    return Forgetting(
        forgetting_id=row["forgetting_id"],
        principal=row["principal"],
        state=ForgettingState(row["state"]),
        requested_at=row["requested_at"],
        requested_by=row["requested_by"],
        position=row["position"],
        forgotten=row["forgotten"],
        ended_at=row["ended_at"],
    )
