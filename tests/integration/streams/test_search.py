"""Searches: each filter and several at once, full text of allowed fields alone, page by page, in a bounded look."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from tests.integration.streams.conftest import Home, House, Json, index_all

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter, Outcome
from tenantry.capabilities.audit.types.words import BLOCK
from tenantry.foundation.scope import ActorType

if TYPE_CHECKING:
    from tenantry.foundation.database.session import TenantSession

pytestmark = pytest.mark.xdist_group("streams")

ISOLATIONS = ["row_level", "schema_level", "database_level"]


async def names(home: Home, **query: object) -> list[str]:
    """The resources of what was found, over all pages of two."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        asked = {name: str(value) for name, value in query.items()} | {"limit": "2"}
        answer = await home.owner.get("/audit", params=asked | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page: Json = answer.json()
        found += [item["resource"]["id"] for item in page["items"] if item["resource"]["type"] == "note"]
        if (cursor := page["next_cursor"]) is None:
            return found


@pytest.fixture
async def written(house: House, request: pytest.FixtureRequest) -> Home:
    """A tenant with some events that the index knows, some that it does not, and some that have no place yet."""
    home = await house.tenant(isolation=getattr(request, "param", "row_level"))
    await home.record("first", name="Quarterly Report", plan="secret-plan")
    await home.record("refused", action="note.read", outcome=Outcome.DENIED)
    await home.record(*(f"n{number}" for number in range(2 * BLOCK)), action="note.filed")
    await home.record("second", name="quarterly", value="hidden in content")
    await house.seal()
    await index_all(house.following())
    await home.record("third", name="Quarterly report", action="note.sent")
    await house.seal()
    await home.record("fourth", name="REPORT, quarterly")
    return home


@pytest.mark.parametrize("written", ISOLATIONS, indirect=True)
async def test_words_are_found_wherever_they_lie_newest_first_and_page_by_page(written: Home) -> None:
    assert await names(written, q="quarterly REPORT") == ["fourth", "third", "first"]
    assert await names(written, q="quarterly") == ["fourth", "third", "second", "first"]
    assert await names(written, q="first note") == ["first"]
    assert await names(written, q="quarterly absent") == []
    assert await names(written, q="quarterly", action="note.sent") == ["third"]
    assert await names(written, q="quarterly", until="2000-01-01T00:00:00Z") == []


async def test_what_is_not_on_the_list_is_not_searched(written: Home) -> None:
    """Free content and whatever else stands in details: only named members are searched."""
    assert await names(written, q="hidden content") == []
    assert await names(written, q="hidden") == []
    assert await names(written, q="secret plan") == ["first"]  # `plan` is on the list
    answer = await written.owner.get("/audit", params={"q": "%%%"})
    assert (answer.status_code, answer.json()["code"]) == (422, "query_without_words")


@pytest.mark.parametrize("written", ISOLATIONS, indirect=True)
async def test_each_filter_and_several_at_once(written: Home) -> None:
    assert await names(written, outcome="denied") == ["refused"]
    assert await names(written, outcome="denied", action="note.") == ["refused"]
    assert await names(written, action="note.sent", exact="true") == ["third"]
    assert await names(written, action="note.s", exact="true") == []
    assert await names(written, action="note.s") == ["third"]
    assert len(await names(written, action="note.")) == 2 * BLOCK + 5
    assert len(await names(written, resource_type="note")) == 2 * BLOCK + 5
    assert await names(written, resource_type="not") == []
    assert await names(written, resource="second") == ["second"]
    assert len(await names(written, actor="tenantry", actor_type="system", resource="note")) == 2 * BLOCK + 5
    assert await names(written, actor_type="agent_session") == []
    earlier = (written.house.clock.now() - timedelta(hours=1)).isoformat()
    assert len(await names(written, since=earlier, until=written.house.clock.now().isoformat(), action="note.")) > BLOCK
    assert await names(written, since=earlier, q="quarterly report") == ["fourth", "third", "first"]
    later = (written.house.clock.now() + timedelta(hours=1)).isoformat()
    assert await names(written, since=later) == []
    assert await names(written, since=later, q="quarterly") == []
    assert len(await names(written, until=later, action="note.made")) == 3


async def test_all_ways_through_the_trail_find_the_same(written: Home) -> None:
    """By id, by words and by the sequence: what a plain look at every event finds."""
    await written.house.seal()
    async with written.house.parts.cells.session(written.scope) as session:
        service = AuditService(session=session, clock=written.house.clock)
        every = (await service.search_sequence(AuditFilter(), after=0, limit=2000)).events
        for query in (
            AuditFilter(action="note."),
            AuditFilter(outcome=Outcome.DENIED),
            AuditFilter(resource_type="note", outcome=Outcome.DENIED),
            AuditFilter(actor_type=ActorType.SYSTEM, resource="note"),
            AuditFilter(action="note.filed", exact=True),
        ):
            expected = {event.event_id for event in every if _matches(event.action, event.outcome, query)}
            assert {event.event_id for event in await _all_pages(service, query)} == expected, query
            ordered = (await service.search_sequence(query, after=0, limit=2000)).events
            assert {event.event_id for event in ordered} == expected, query
            assert [event.sequence for event in ordered] == sorted(event.sequence or 0 for event in ordered)


def _matches(action: str, outcome: Outcome, query: AuditFilter) -> bool:
    named = query.action is None or (action == query.action if query.exact else action.startswith(query.action))
    return action.startswith("note.") and named and query.outcome in (None, outcome)


async def _all_pages(service: AuditService, query: AuditFilter) -> list[AuditEvent]:
    found: list[AuditEvent] = []
    position: str | None = None
    while True:
        page = await service.search(query, position=position, limit=3)
        found += page.events
        if (position := page.position) is None:
            return found


async def test_a_trace_is_found(house: House) -> None:
    home = await house.tenant()
    refused = await home.owner.get("/workspaces/ws_01h455vb4pex5vsknk084sn02q")
    trace = refused.json()["trace_id"]
    await house.seal()
    await index_all(house.following())
    items = await home.trail(trace=trace)
    assert [(item["trace_id"], item["outcome"]) for item in items] == [(trace, "denied")]
    assert await home.trail(trace="0" * 32) == []


async def test_an_event_gets_its_place_between_two_pages_and_is_shown_once(house: House) -> None:
    home = await house.tenant()
    await house.seal()
    await index_all(house.following())
    await home.record(*(f"w{number}" for number in range(5)), name="waiting")
    first = (await home.owner.get("/audit", params={"q": "waiting", "limit": "2"})).json()
    await house.seal()
    await index_all(house.following())
    await home.record("new", name="waiting")
    found = [item["resource"]["id"] for item in first["items"]]
    cursor = first["next_cursor"]
    while cursor:
        page = (await home.owner.get("/audit", params={"q": "waiting", "limit": "2", "cursor": cursor})).json()
        found += [item["resource"]["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == ["w4", "w3", "w2", "w1", "w0"]


async def test_the_order_of_the_sequence_has_no_gap_and_goes_on_from_where_it_was(house: House) -> None:
    home = await house.tenant()
    await home.record(*(f"n{number}" for number in range(7)))
    await house.seal()
    place, seen = 0, []
    for _ in range(2):
        while True:
            query = {"order": "sequence", "after": str(place), "limit": "3"}
            page = (await home.owner.get("/audit", params=query)).json()
            seen += [item["sequence"] for item in page["items"]]
            place = page["reached"]
            if page["next_cursor"] is None:
                break
        await home.record("later")
        await house.seal()
    assert seen == list(range(1, len(seen) + 1))
    cursor = (await home.owner.get("/audit", params={"order": "sequence", "limit": "3"})).json()["next_cursor"]
    foreign = await home.owner.get("/audit", params={"cursor": cursor})
    assert (foreign.status_code, foreign.json()["code"]) == (422, "cursor_invalid")
    wrong = await home.owner.get("/audit", params={"after": "3"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "after_without_sequence")


async def test_no_filter_reads_more_than_its_piece(house: House) -> None:
    """By plans, not by time: every table of the trail is read by an index, and no more rows than the piece has.

    Red once with `tsvector @@` and `^@` as conditions of indexes, which PostgreSQL does not take under the fence.
    """
    home = await house.tenant()
    await home.record(*(f"n{number}" for number in range(600)), name="same words everywhere")
    await house.seal()
    await index_all(house.following())
    queries = (
        AuditFilter(),
        AuditFilter(text="same words"),
        AuditFilter(text="absent"),
        AuditFilter(resource="note", outcome=Outcome.ERROR),
        AuditFilter(actor="nobody"),
        AuditFilter(action="note.made", exact=True, outcome=Outcome.ERROR),
        AuditFilter(trace="0" * 32),
        AuditFilter(action="note.", until=house.clock.now() - timedelta(days=3)),
    )
    async with house.parts.cells.session(home.scope) as session:
        asked = await _statements(session, house, queries)
        assert len(asked) >= len(queries)
        for text, arguments in asked:
            rows = await session.fetch(f"explain (analyze, timing off, summary off) {text}", *arguments)
            plan = "\n".join(row[0] for row in rows)
            assert not re.search(r"Seq Scan on (\w+\.)?audit_", plan), plan
            assert max((int(float(each)) for each in re.findall(r"rows=([\d.]+) loops", plan)), default=0) <= 5000, plan


async def _statements(
    session: "TenantSession", house: House, queries: tuple[AuditFilter, ...]
) -> list[tuple[str, tuple[object, ...]]]:
    """What searches ask of the database."""
    asked: list[tuple[str, tuple[object, ...]]] = []
    real = session.fetch

    class Overheard:
        scope = session.scope

        async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
            asked.append((query, arguments))
            return await real(query, *arguments)

        async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
            return await session.fetchrow(query, *arguments)

        async def fetchval(self, query: str, *arguments: object) -> object:
            return await session.fetchval(query, *arguments)

        async def execute(self, query: str, *arguments: object) -> str:
            return await session.execute(query, *arguments)

    service = AuditService(session=Overheard(), clock=house.clock)  # type: ignore[arg-type]
    for query in queries:
        await service.search(query, limit=10)
    return asked
