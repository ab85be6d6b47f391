"""SQL of the quota ledger: counters of each holder, and the reservations that they are the sums of.

Locks are taken in one order everywhere: reservations, then counters by their key. A reservation is charged to the
tenant and, where it names one, to its workspace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.limits.types.quotas import (
    ALWAYS,
    MOST_AMOUNT,
    Counted,
    Quota,
    Refusal,
    ReservationState,
    Reserved,
)
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_RESERVE: Final = f"""
with items as materialized (
    select quota, window_start, amount, most_of_tenant, most_of_workspace
    from unnest($3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::bigint[])
        as i (quota, window_start, amount, most_of_tenant, most_of_workspace)
), wanted as materialized (
    select $1::uuid as holder_id, quota, window_start, amount, most_of_tenant as most from items
    union all
    select $2::uuid, quota, window_start, amount, most_of_workspace from items where $2::uuid is not null
), present as materialized (
    select u.holder_id, u.quota, u.window_start, u.held, u.used
    from quota_counters u join wanted w using (holder_id, quota, window_start)
    where u.tenant_id = $1 order by u.holder_id, u.quota, u.window_start for update of u
), refused as materialized (
    select w.holder_id, w.quota, w.amount, coalesce(w.most, {MOST_AMOUNT}) as most,
           coalesce(p.held, 0) as held, coalesce(p.used, 0) as used
    from wanted w left join present p using (holder_id, quota, window_start)
    where coalesce(p.held + p.used, 0) + w.amount > coalesce(w.most, {MOST_AMOUNT})
), charged as (
    insert into quota_counters as u (tenant_id, holder_id, quota, window_start, held, updated_at)
    select $1::uuid, holder_id, quota, window_start, amount, $8::timestamptz from wanted
    where not exists (select from refused) order by holder_id, quota, window_start
    on conflict (tenant_id, holder_id, quota, window_start) do update
        set held = u.held + excluded.held, updated_at = excluded.updated_at
        where u.held + u.used + excluded.held <= coalesce((
            select w.most from wanted w
            where w.holder_id = u.holder_id and w.quota = u.quota and w.window_start = u.window_start), {MOST_AMOUNT})
    returning u.quota
), noted as (
    insert into reservations (tenant_id, reservation_id, quota, kind, workspace_id, window_start, amount, state,
        created_at, expires_at)
    select $1::uuid, $9::uuid, quota, $10::text, $2::uuid, window_start, amount, 'held', $8::timestamptz,
        $11::timestamptz
    from items where not exists (select from refused)
)
select (select count(*) from wanted) - (select count(*) from charged) as missing,
       r.holder_id, r.quota, r.amount, r.most, r.held, r.used
from (select) as always left join refused r on true
order by r.quota, r.holder_id"""

_MOVE: Final = """
with asked as materialized (
    select quota, used from unnest($3::text[], $4::bigint[]) as a (quota, used)
), item as materialized (
    select r.quota, r.workspace_id, r.window_start, coalesce(a.used, 0) as used,
           case r.state when 'held' then r.amount else 0 end as was_held,
           case r.state when 'settled' then r.used else 0 end as was_used
    from reservations r left join asked a using (quota)
    where r.tenant_id = $1 and r.reservation_id = $2 and r.state = any ($5::text[])
      and ($6::boolean or a.quota is not null)
    order by r.quota for update of r
), delta as materialized (
    select $1::uuid as holder_id, quota, window_start, was_held, used - was_used as more from item
    union all
    select workspace_id, quota, window_start, was_held, used - was_used from item where workspace_id is not null
), present as materialized (
    select u.holder_id, u.quota, u.window_start, d.was_held, d.more
    from quota_counters u join delta d using (holder_id, quota, window_start)
    where u.tenant_id = $1 order by u.holder_id, u.quota, u.window_start for update of u
), charged as (
    update quota_counters u
    set held = greatest(u.held - p.was_held, 0), used = greatest(u.used + p.more, 0), updated_at = $8::timestamptz
    from present p
    where u.tenant_id = $1 and u.holder_id = p.holder_id and u.quota = p.quota and u.window_start = p.window_start
), moved as (
    update reservations r set used = i.used, settled_at = $8::timestamptz,
        state = case when i.used > 0 then 'settled' else $7::text end
    from item i where r.tenant_id = $1 and r.reservation_id = $2 and r.quota = i.quota
)
select count(*) from item"""

_SUMS: Final = """
select holder_id, quota, window_start, coalesce(sum(amount) filter (where state = 'held'), 0)::bigint as held,
       coalesce(sum(used) filter (where state = 'settled'), 0)::bigint as used
from (
    select $1::uuid as holder_id, quota, window_start, amount, used, state from reservations where tenant_id = $1
    union all
    select workspace_id, quota, window_start, amount, used, state from reservations
    where tenant_id = $1 and workspace_id is not null
) charges where state in ('held', 'settled') and (window_start = $2::timestamptz or window_start >= $3::timestamptz)
group by holder_id, quota, window_start"""


async def reserve(
    session: TenantSession,
    *,
    reservation_id: UUID,
    kind: str,
    workspace_id: UUID | None,
    items: Sequence[tuple[Quota, datetime, int, int | None, int | None]],
    expires_at: datetime | None,
    now: datetime,
) -> tuple[list[Refusal], bool]:
    """Hold all items or, with a refusal, none; an item is quota, window, amount, most of tenant and of workspace.

    The second part of the answer is False where others took the last of what was seen free: whoever gets a refusal or
    that must roll back. Nothing passes a `most`, however many do this at once: the counters stay locked until the end.
    """
    columns = list(zip(*items, strict=True))
    rows = await session.fetch(
        _RESERVE,
        session.scope.tenant_id,
        workspace_id,
        [quota.value for quota in columns[0]],
        *(list(column) for column in columns[1:]),
        now,
        reservation_id,
        kind,
        expires_at,
    )
    refused = [
        Refusal(Quota(row["quota"]), row["holder_id"], row["amount"], row["most"], row["held"], row["used"])
        for row in rows
        if row["quota"] is not None
    ]
    return refused, bool(refused) or rows[0]["missing"] == 0


async def move_reservation(
    session: TenantSession,
    reservation_id: UUID,
    *,
    used: Mapping[Quota, int],
    states: Sequence[ReservationState],
    whole: bool,
    emptied: ReservationState,
    now: datetime,
) -> int:
    """Set what is used of a reservation in one of `states`: of its whole, 0 where `used` says nothing, or of a part.

    What is used up is settled, what is not is `emptied`. Tells how many items it was: repeating it tells 0.
    """
    moved = await session.fetchval(
        _MOVE,
        session.scope.tenant_id,
        reservation_id,
        [quota.value for quota in used],
        list(used.values()),
        [state.value for state in states],
        whole,
        emptied.value,
        now,
    )
    return int(moved)


async def list_counters(session: TenantSession, holders: Sequence[UUID], windows: Sequence[datetime]) -> list[Counted]:
    """List what is counted of some holders in the windows that count now."""
    rows = await session.fetch(
        """select holder_id, quota, window_start, held, used, updated_at from quota_counters
           where tenant_id = $1 and holder_id = any ($2::uuid[]) and window_start = any ($3::timestamptz[])""",
        session.scope.tenant_id,
        list(holders),
        list(windows),
    )
    return [replace(_counted(row), updated_at=row["updated_at"]) for row in rows]


async def lock_place(session: TenantSession, quota: Quota, *, now: datetime) -> None:
    """Let one transaction after the other count the rows that a quota stands for, until its end."""
    await session.execute(
        """insert into quota_counters as u (tenant_id, holder_id, quota, window_start, updated_at)
           values ($1, $1, $2, $3, $4)
           on conflict (tenant_id, holder_id, quota, window_start) do update set updated_at = excluded.updated_at""",
        session.scope.tenant_id,
        quota.value,
        ALWAYS,
        now,
    )


async def list_reserved(session: TenantSession, *, kind: str, after: UUID | None, limit: int) -> list[Reserved]:
    """List up to `limit` reservations of a kind that hold or keep something, by id, an item each."""
    rows = await session.fetch(
        """with chosen as (
               select distinct reservation_id from reservations
               where tenant_id = $1 and kind = $2 and ($3::uuid is null or reservation_id > $3)
                 and (state = 'held' or (state = 'settled' and window_start = $4))
               order by reservation_id limit $5
           )
           select reservation_id, quota, state = 'held' as held, used from chosen
           join reservations r using (reservation_id)
           where r.tenant_id = $1 and (r.state = 'held' or (r.state = 'settled' and r.window_start = $4))
           order by reservation_id, quota""",
        session.scope.tenant_id,
        kind,
        after,
        ALWAYS,
        limit,
    )
    return [Reserved(row["reservation_id"], Quota(row["quota"]), row["held"], row["used"]) for row in rows]


async def list_expired(session: TenantSession, *, now: datetime, limit: int) -> list[UUID]:
    """List held reservations whose time is over, oldest first."""
    rows = await session.fetch(
        """select distinct reservation_id, expires_at from reservations
           where tenant_id = $1 and state = 'held' and expires_at <= $2 order by expires_at limit $3""",
        session.scope.tenant_id,
        now,
        limit,
    )
    return [row["reservation_id"] for row in rows]


async def list_wrong_counters(session: TenantSession, *, since: datetime) -> list[Counted]:
    """List counters that are not the sums of their reservations, in windows from `since` on and in what has none."""
    rows = await session.fetch(
        f"""with sums as ({_SUMS})
            select holder_id, quota, window_start, coalesce(u.held, 0) as held, coalesce(u.used, 0) as used
            from (select holder_id, quota, window_start, held, used from quota_counters
                  where tenant_id = $1 and (window_start = $2 or window_start >= $3)) u
            full join sums s using (holder_id, quota, window_start)
            where (coalesce(u.held, 0), coalesce(u.used, 0)) <> (coalesce(s.held, 0), coalesce(s.used, 0))
            order by holder_id, quota, window_start""",
        session.scope.tenant_id,
        ALWAYS,
        since,
    )
    return [_counted(row) for row in rows]


async def delete_reservations(session: TenantSession, *, before: datetime) -> None:
    """Forget reservations that have held nothing for long; the sums of their windows are in the counters."""
    await session.execute(
        """delete from reservations
           where tenant_id = $1 and state <> 'held' and settled_at < $2 and (window_start <> $3 or used = 0)""",
        session.scope.tenant_id,
        before,
        ALWAYS,
    )


async def set_counter(session: TenantSession, wrong: Counted, *, now: datetime) -> tuple[Counted, Counted] | None:
    """Set a counter to the sum of its reservations; tells what it was and is, None when it is right by now.

    The counter is locked before the sum is taken, in statements apart: what others commit meanwhile is in both.
    """
    key = (session.scope.tenant_id, wrong.holder_id, wrong.quota.value, wrong.window_start)
    await session.execute(
        """insert into quota_counters as u (tenant_id, holder_id, quota, window_start, updated_at)
           values ($1, $2, $3, $4, $5)
           on conflict (tenant_id, holder_id, quota, window_start) do update set updated_at = excluded.updated_at""",
        *key,
        now,
    )
    row = await session.fetchrow(
        """with truth as (
               select coalesce(sum(amount) filter (where state = 'held'), 0)::bigint as held,
                      coalesce(sum(used) filter (where state = 'settled'), 0)::bigint as used
               from reservations
               where tenant_id = $1 and quota = $3 and window_start = $4 and ($2 = $1 or workspace_id = $2)
           ), before as (
               select held, used from quota_counters
               where tenant_id = $1 and holder_id = $2 and quota = $3 and window_start = $4
           )
           update quota_counters u set held = t.held, used = t.used from truth t, before b
           where u.tenant_id = $1 and u.holder_id = $2 and u.quota = $3 and u.window_start = $4
             and (u.held, u.used) <> (t.held, t.used)
           returning b.held as was_held, b.used as was_used, u.held, u.used""",
        *key,
    )
    if row is None:
        return None
    was = Counted(wrong.quota, wrong.holder_id, wrong.window_start, row["was_held"], row["was_used"])
    return was, Counted(wrong.quota, wrong.holder_id, wrong.window_start, row["held"], row["used"])


def _counted(row: "asyncpg.Record") -> Counted:
    return Counted(Quota(row["quota"]), row["holder_id"], row["window_start"], row["held"], row["used"])
