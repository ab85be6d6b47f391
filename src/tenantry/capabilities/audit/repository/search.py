"""SQL of searches: every statement reads a bounded piece of a trail, however big it is and whatever is asked.

Under the fence a condition is an index's only where its operator tells nothing by failing (PostgreSQL: leakproof), as
`=` and `<` of texts, ids and numbers do, and those of tsvector, of prefixes and of patterns do not. So all indexes here
are asked by `=` and `<`, and everything else is looked at in the piece that they give.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.repository.events import events_of
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter, Outcome
from tenantry.capabilities.audit.types.words import BLOCK
from tenantry.foundation.database.session import TenantSession

WINDOW: Final = 5000
"""Events that one statement looks at, at most."""
_MOST_WAITING: Final = 2000
_NARROWED: Final = {
    "actor": "{at}.actor_id = {value}",
    "actor_type": "{at}.actor_type = {value}",
    "resource": "({at}.resource_id = {value} or {at}.resource_type = {value})",
    "resource_type": "{at}.resource_type = {value}",
    "outcome": "{at}.outcome = {value}",
    "since": "{at}.occurred_at >= {value}",
    "until": "{at}.occurred_at < {value}",
    "workspace_id": "{at}.workspace_id = {value}",
}
"""What each field of a filter asks, but for those that are looked at in what was found: trace and text."""
_EVENT: Final = "e.event_id, e.workspace_id, e.canonical, e.sealed"
_SEQUENCE: Final = """(select s.sequence from audit_sequence s
                       where s.tenant_id = w.tenant_id and s.event_id = w.event_id) as sequence"""


@dataclass
class Asked:
    """Arguments of a statement as they are named in it."""

    values: list[object] = field(default_factory=list)

    def __call__(self, value: object) -> str:
        self.values.append(value.value if isinstance(value, Outcome) else value)
        return f"${len(self.values)}"


def conditions(query: AuditFilter, asked: Asked, *, at: str = "e", without: Collection[str] = ()) -> list[str]:
    """Write what a filter asks of a row named `at`; only what is asked stands there, so that the plan is one for it."""
    wanted = {name: value for name in _NARROWED if name not in without and (value := getattr(query, name)) is not None}
    written = [_NARROWED[name].format(at=at, value=asked(value)) for name, value in wanted.items()]
    if query.action is not None and "action" not in without:
        written.append(f"{at}.action {'=' if query.exact else '^@'} {asked(query.action)}")
    return written


async def walk_indexes(session: TenantSession) -> None:
    """Have the searches of this transaction walk indexes in their order.

    Where a piece is an estimated twentieth of all there is, reading all and sorting it would seem cheaper.
    """
    await session.execute(
        "set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off"
    )


async def find_newest(
    session: TenantSession,
    query: AuditFilter,
    *,
    leading: str | None,
    after: UUID | None,
    before: UUID | None,
    limit: int,
) -> tuple[list[AuditEvent], UUID | None]:
    """Give events by descending id between two, and where the search goes on; None: there is nothing more.

    `leading` is the column whose index is walked. Of what it gives, the newest 5000 are looked at.
    """
    asked = Asked()
    walked = [f"e.tenant_id = {asked(session.scope.tenant_id)}"]
    named: dict[str, tuple[str, object]] = {"actor_id": ("actor", query.actor), "action": ("action", query.action)}
    named |= {"resource_id": ("resource", query.resource), "workspace_id": ("workspace_id", query.workspace_id)}
    led, value = named[leading] if leading else ("", None)
    if leading:
        walked.append(f"e.{leading} = {asked(value)}")
    if before is not None:
        walked.append(f"e.event_id < {asked(before)}")
    if after is not None:
        walked.append(f"e.event_id > {asked(after)}")
    walk = f"from audit_events e where {' and '.join(walked)} order by e.event_id desc"
    edge = list(asked.values)
    looked = " and ".join(conditions(query, asked, at="w", without=(led,))) or "true"
    rows = await session.fetch(
        f"""select w.event_id, w.workspace_id, w.canonical, w.sealed, {_SEQUENCE}
            from (select e.tenant_id, {_EVENT}, e.occurred_at, e.actor_type, e.actor_id, e.action, e.resource_type,
                         e.resource_id, e.outcome {walk} limit {WINDOW}) w
            where {looked} limit {asked(limit)}""",
        *asked.values,
    )
    found = await events_of(session, rows)
    if len(found) == limit:
        return found, found[-1].event_id
    return found, await session.fetchval(f"select e.event_id {walk} offset {WINDOW - 1} limit 1", *edge)


async def find_unsealed(session: TenantSession, query: AuditFilter) -> list[AuditEvent]:
    """Give events that wait for their place, the newest first; of those that wait the newest 2000 are looked at."""
    asked = Asked()
    tenant = asked(session.scope.tenant_id)
    looked = "".join(f" and {part}" for part in conditions(query, asked))
    rows = await session.fetch(
        f"""select {_EVENT}, null::bigint as sequence
            from (select tenant_id, event_id from audit_unsealed where tenant_id = {tenant}
                  order by event_id desc limit {_MOST_WAITING}) u
            join audit_events e on e.tenant_id = u.tenant_id and e.event_id = u.event_id
            where e.tenant_id = {tenant}{looked} order by e.event_id desc""",
        *asked.values,
    )
    return await events_of(session, rows)


async def find_sealed(
    session: TenantSession, query: AuditFilter, *, first: int, last: int, descending: bool, limit: int = WINDOW
) -> list[AuditEvent]:
    """Give so many events at most, at the places from `first` to `last`, which may be 5000."""
    asked = Asked()
    tenant = asked(session.scope.tenant_id)
    looked = "".join(f" and {part}" for part in conditions(query, asked))
    rows = await session.fetch(
        f"""select {_EVENT}, s.sequence
            from audit_sequence s join audit_events e on e.tenant_id = s.tenant_id and e.event_id = s.event_id
            where s.tenant_id = {tenant} and s.sequence >= {asked(first)} and s.sequence <= {asked(last)}{looked}
            order by s.sequence {"desc" if descending else "asc"} limit {asked(limit)}""",
        *asked.values,
    )
    return await events_of(session, rows)


async def find_in_blocks(session: TenantSession, query: AuditFilter, blocks: Sequence[int]) -> list[AuditEvent]:
    """Give events of these blocks of 64 places, by descending place."""
    asked = Asked()
    tenant = asked(session.scope.tenant_id)
    places = [place for block in blocks for place in range(block * BLOCK + 1, block * BLOCK + BLOCK + 1)]
    looked = "".join(f" and {part}" for part in conditions(query, asked))
    rows = await session.fetch(
        f"""select {_EVENT}, s.sequence
            from audit_sequence s join audit_events e on e.tenant_id = s.tenant_id and e.event_id = s.event_id
            where s.tenant_id = {tenant} and s.sequence = any({asked(places)}::bigint[]){looked}
            order by s.sequence desc""",
        *asked.values,
    )
    return await events_of(session, rows)


async def find_blocks(session: TenantSession, entries: Sequence[str], *, until: int, limit: int) -> list[int]:
    """Give the blocks up to `until` in which each of these entries stands somewhere, the highest first."""
    asked = Asked()
    tenant, others = asked(session.scope.tenant_id), ""
    first, most = asked(entries[0]), asked(until)
    for number, entry in enumerate(entries[1:]):
        others += f""" and exists (select from audit_words w{number} where w{number}.tenant_id = {tenant}
                       and w{number}.word = {asked(entry)} and w{number}.block = w.block)"""
    rows = await session.fetch(
        f"""select w.block from audit_words w
            where w.tenant_id = {tenant} and w.word = {first} and w.block <= {most}{others}
            order by w.block desc limit {asked(limit)}""",
        *asked.values,
    )
    return [row["block"] for row in rows]


async def find_place_at(session: TenantSession, event_id: UUID) -> int | None:
    """Tell the place of the first event from an id on; None where there is none, or it has no place."""
    place: int | None = await session.fetchval(
        """select (select s.sequence from audit_sequence s where s.tenant_id = e.tenant_id and s.event_id = e.event_id)
           from audit_events e where e.tenant_id = $1 and e.event_id >= $2 order by e.event_id limit 1""",
        session.scope.tenant_id,
        event_id,
    )
    return place


@dataclass(frozen=True, slots=True)
class Extent:
    """How many events have their place, how many of those have left, and up to which the index knows their words."""

    size: int
    erased: int
    indexed: int


async def find_extent(session: TenantSession) -> Extent:
    row = await session.fetchrow(
        """select coalesce(h.size, 0) as size, coalesce(h.erased, 0) as erased, coalesce(i.sequence, 0) as indexed
           from (select) one left join audit_heads h on h.tenant_id = $1 left join audit_index i on i.tenant_id = $1""",
        session.scope.tenant_id,
    )
    return Extent(row["size"], row["erased"], min(row["indexed"], row["size"])) if row else Extent(0, 0, 0)
