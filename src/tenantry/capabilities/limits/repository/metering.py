"""SQL of metering."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tenantry.capabilities.limits.types.metering import (
    EventPosition,
    HourPosition,
    Meter,
    MeterEvent,
    MeterHour,
    MeterQuery,
    Used,
)
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_HOUR: Final = "date_trunc('hour', occurred_at, 'UTC')"


async def insert_events(session: TenantSession, used: Sequence[Used], *, now: datetime) -> int:
    """Insert those that are not there yet, in one statement; tells how many."""
    done = await session.execute(
        """insert into metering_events (tenant_id, event_id, workspace_id, meter, quantity, subject, principal_id,
               occurred_at, attributes, recorded_at)
           select $1, e.id, e.place, e.meter, e.quantity, e.subject, e.principal, e.at, e.attributes, $10
           from unnest($2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::timestamptz[],
               $9::jsonb[]) e (id, place, meter, quantity, subject, principal, at, attributes)
           on conflict (tenant_id, event_id) do nothing""",
        session.scope.tenant_id,
        [each.event_id for each in used],
        [each.workspace_id for each in used],
        [each.meter.value for each in used],
        [each.quantity for each in used],
        [each.subject for each in used],
        [each.principal_id for each in used],
        [each.occurred_at for each in used],
        [dict(each.attributes) for each in used],
        now,
    )
    return int(done.rpartition(" ")[2])


async def add_to_hours(session: TenantSession, *, limit: int) -> int:
    """Add events that no hour holds yet to their hours, and mark them; tells how many.

    Adding and marking are one statement: what is rolled back was neither, and what is committed both. Who finds an
    event locked passes it over: another is adding it.
    """
    count: int = await session.fetchval(
        f"""with taken as materialized (
               select event_id from metering_events where tenant_id = $1 and not rolled
               limit $2 for update skip locked
           ), marked as (
               update metering_events e set rolled = true from taken
               where e.tenant_id = $1 and e.event_id = taken.event_id
               returning e.workspace_id, e.meter, {_HOUR} as hour, e.quantity
           ), added as (
               insert into metering_hours (tenant_id, workspace_id, hour, meter, quantity, events)
               select $1, workspace_id, hour, meter, sum(quantity), count(*) from marked
               group by workspace_id, hour, meter order by workspace_id, hour, meter
               on conflict (tenant_id, workspace_id, hour, meter) do update
               set quantity = metering_hours.quantity + excluded.quantity,
                   events = metering_hours.events + excluded.events
           )
           select count(*) from marked""",
        session.scope.tenant_id,
        limit,
    )
    return count


async def advance_mark(session: TenantSession, to: datetime) -> bool:
    """Say that the hours before `to` are finished, unless somebody has said so already; of several at once one does."""
    row = await session.fetchrow(
        """insert into metering_marks (tenant_id, rolled_up_to) values ($1, $2)
           on conflict (tenant_id) do update set rolled_up_to = excluded.rolled_up_to
           where metering_marks.rolled_up_to < excluded.rolled_up_to
           returning rolled_up_to""",
        session.scope.tenant_id,
        to,
    )
    return row is not None


async def find_mark(session: TenantSession) -> datetime | None:
    found: datetime | None = await session.fetchval(
        "select rolled_up_to from metering_marks where tenant_id = $1", session.scope.tenant_id
    )
    return found


async def forget_events(session: TenantSession, *, before: datetime, limit: int) -> int:
    """Delete old events, of those that their hours hold; tells how many."""
    done = await session.execute(
        """delete from metering_events where tenant_id = $1 and event_id in (
               select event_id from metering_events where tenant_id = $1 and occurred_at < $2 and rolled
               order by occurred_at limit $3)""",
        session.scope.tenant_id,
        before,
        limit,
    )
    return int(done.rpartition(" ")[2])


async def list_hours(
    session: TenantSession, query: MeterQuery, *, after: HourPosition | None, limit: int
) -> list[MeterHour]:
    """Sum up by hour, workspace and meter, in that order: what hours hold, and what they do not hold yet.

    Both are one snapshot, in which an event is either. Each is cut at `limit` before they are joined: what is among the
    first of both together is among the first of its own.
    """
    narrowed, values = _narrowed(session, query, since=after[0] if after else query.since)
    beyond = ""
    if after is not None:
        values += list(after)
        at = len(values)
        beyond = f"and (hour, workspace_id, meter) > (${at - 2}::timestamptz, ${at - 1}::uuid, ${at}::text)"
    values.append(limit)
    first = f"order by hour, workspace_id, meter limit ${len(values)}"
    rows = await session.fetch(
        f"""with added as (
                select hour, workspace_id, meter, quantity, events from metering_hours
                where {narrowed.format(time="hour")} {beyond} {first}
            ), fresh as (
                select hour, workspace_id, meter, sum(quantity) as quantity, count(*) as events from (
                    select {_HOUR} as hour, workspace_id, meter, quantity
                    from metering_events where not rolled and {narrowed.format(time=_HOUR)}
                ) event where true {beyond} group by hour, workspace_id, meter {first}
            )
            select hour, workspace_id, meter, sum(quantity) as quantity, sum(events)::bigint as events
            from (select hour, workspace_id, meter, quantity, events from added
                  union all select hour, workspace_id, meter, quantity, events from fresh) found
            group by hour, workspace_id, meter {first}""",
        *values,
    )
    return [
        MeterHour(row["hour"], row["workspace_id"], Meter(row["meter"]), int(row["quantity"]), row["events"])
        for row in rows
    ]


async def list_events(
    session: TenantSession, query: MeterQuery, *, after: EventPosition | None, limit: int
) -> list[MeterEvent]:
    """Oldest first."""
    narrowed, values = _narrowed(session, query, since=after[0] if after else query.since)
    beyond = ""
    if after is not None:
        values += list(after)
        beyond = f"and (occurred_at, event_id) > (${len(values) - 1}::timestamptz, ${len(values)}::uuid)"
    values.append(limit)
    rows = await session.fetch(
        f"""select event_id, workspace_id, meter, quantity, subject, principal_id, occurred_at, recorded_at, attributes
            from metering_events where {narrowed.format(time="occurred_at")} {beyond}
            order by occurred_at, event_id limit ${len(values)}""",
        *values,
    )
    return [_event(row) for row in rows]


def _narrowed(session: TenantSession, query: MeterQuery, *, since: datetime) -> tuple[str, list[object]]:
    """Say in SQL what is asked for, with its values. Left out is what is not asked, so that indexes are used."""
    values: list[object] = [session.scope.tenant_id, since, query.until]
    told = "tenant_id = $1 and {time} >= $2 and {time} < $3"
    named: Mapping[str, object] = {"workspace_id": query.workspace_id, "meter": query.meter}
    for column, value in named.items():
        if value is not None:
            values.append(value)
            told += f" and {column} = ${len(values)}"
    return told, values


def _event(row: "asyncpg.Record") -> MeterEvent:
    fields: dict[str, Any] = dict(row)
    return MeterEvent(**fields | {"meter": Meter(row["meter"])})
