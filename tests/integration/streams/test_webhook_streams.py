"""Streams to webhooks: at least once, in order, signed, resumable, and one that fails holds up itself alone."""

import asyncio
import hashlib
import hmac
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.integration.notifications.receivers import Receiver, receiving, until
from tests.integration.streams.conftest import Home, House, Json, OpenHouse, stream_all, told

from tenantry.capabilities.audit.service import AuditArrival, AuditService, list_due_streams
from tenantry.capabilities.audit.types import Outcome
from tenantry.capabilities.notifications.adapters.webhook import SIGNATURE
from tenantry.capabilities.tenants.types import OperationStatus
from tenantry.entrypoints.notices import NoticeLoop
from tenantry.entrypoints.operations import make_operations
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.ids import Prefix, parse_id

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

pytestmark = pytest.mark.xdist_group("streams")


async def test_events_arrive_in_their_order_as_a_signed_batch_of_cloudevents(acme: Home, receiver: Receiver) -> None:
    made = await acme.stream(f"{receiver.url}/in")
    await acme.record("one", "two", "three")
    await acme.record("secret", action="secret.read")
    following = acme.house.following()
    await acme.house.seal()
    await stream_all(following)
    assert told(receiver) == ["one", "two", "three"]
    heard = receiver.heard[0]
    assert heard.headers["content-type"] == "application/cloudevents-batch+json"
    stamp, _, given = heard.headers[SIGNATURE.lower()].partition(",v1=")
    signed = f"{stamp.removeprefix('t=')}.".encode() + heard.body
    assert hmac.compare_digest(given, hmac.new(made["secret"].encode(), signed, hashlib.sha256).hexdigest())
    events: list[Json] = json.loads(heard.body)
    shown = {item["id"]: item for item in await acme.trail(action="note.")}
    for event in events:
        assert event["specversion"] == "1.0"
        assert event["data"] == shown[event["id"]]
        assert int(event["sequence"]) == shown[event["id"]]["sequence"]
        assert (event["source"], event["type"]) == (f"/tenants/{acme.id}/audit", "tenantry.audit.note.made")
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    after = await acme.shown(made["id"])
    assert (after["sent"], after["attempts"], after["last_error"]) == (3, 0, None)
    assert after["hint"].startswith(receiver.url)
    assert "secret" not in after


async def test_a_failure_moves_no_cursor_and_the_same_comes_again(acme: Home, receiver: Receiver) -> None:
    """Red once against a build that moved the cursor before the sink had confirmed."""
    made = await acme.stream(f"{receiver.url}/in")
    following = acme.house.following()
    await acme.record("one", "two")
    await acme.house.seal()
    receiver.statuses = [500]
    await stream_all(following)
    failed = await acme.shown(made["id"])
    assert (failed["attempts"], failed["last_error"], failed["sent"]) == (1, "http_500", 0)
    assert failed["position"] == made["position"]
    assert failed["lag_events"] >= 2
    assert failed["next_attempt_at"] > failed["failing_since"]
    await stream_all(following)
    assert len(receiver.heard) == 1, "it was tried again before its time"
    await acme.record("three")
    await acme.house.seal()
    acme.house.clock.ahead += timedelta(seconds=10)
    await stream_all(following)
    assert told(receiver) == ["one", "two", "one", "two", "three"]
    assert (await acme.shown(made["id"]))["attempts"] == 0


async def test_an_event_that_commits_late_is_not_skipped(acme: Home, receiver: Receiver) -> None:
    """Its id is older than those that were sent already; its place is behind theirs."""
    made = await acme.stream(f"{receiver.url}/in")
    following = acme.house.following()
    async with acme.house.parts.cells.session(acme.scope) as open_transaction:
        audit = AuditService(session=open_transaction, clock=acme.house.clock)
        await audit.record("note.made", resource_type="note", resource_id="late")
        await acme.record("early")
        await acme.house.seal()
        await stream_all(following)
        assert told(receiver) == ["early"]
        page = (await acme.owner.get("/audit", params={"order": "sequence", "action": "note."})).json()
        assert [item["resource"]["id"] for item in page["items"]] == ["early"]
    await acme.house.seal()
    await stream_all(following)
    assert told(receiver) == ["early", "late"]
    query = {"order": "sequence", "action": "note.", "after": page["reached"]}
    again = (await acme.owner.get("/audit", params=query)).json()
    assert [item["resource"]["id"] for item in again["items"]] == ["late"]
    newest = await acme.trail(action="note.")
    ids = {item["resource"]["id"]: item["id"] for item in newest}
    assert ids["late"] < ids["early"]
    assert (await acme.shown(made["id"]))["lag_events"] >= 0


async def test_more_than_a_batch_arrives_whole_in_order_and_in_pieces(acme: Home, receiver: Receiver) -> None:
    made = await acme.stream(f"{receiver.url}/in")
    names = [f"n{number}" for number in range(450)]
    await acme.record(*names)
    following = acme.house.following()
    await acme.house.seal()
    await stream_all(following)
    assert told(receiver) == names
    assert len(receiver.heard) >= 3
    assert (await acme.shown(made["id"]))["sent"] == 450


async def test_two_processes_send_nothing_twice_and_nothing_interleaved(acme: Home, receiver: Receiver) -> None:
    """Red once against a build whose claim took no lease."""
    await acme.stream(f"{receiver.url}/in")
    names = [f"n{number}" for number in range(1000)]
    await acme.record(*names)
    both = acme.house.following(), acme.house.following()
    await acme.house.seal()
    await asyncio.gather(*(stream_all(each) for each in both))
    await stream_all(both[0])
    assert told(receiver) == names


async def test_who_has_lost_the_lease_moves_no_cursor(acme: Home, receiver: Receiver) -> None:
    """A replay while a batch is on its way counts, and not what the sender says afterwards."""
    made = await acme.stream(f"{receiver.url}/in")
    await acme.record("one", "two")
    following = acme.house.following()
    await acme.house.seal()
    gate = threading.Event()
    receiver.gate = lambda: gate.wait(20)
    sending = asyncio.create_task(stream_all(following))
    await asyncio.to_thread(until, lambda: receiver.heard)
    start = {"after": made["position"]}
    assert (await acme.owner.post(f"/audit/streams/{made['id']}/replay", json=start)).status_code == 200
    gate.set()
    await sending
    assert told(receiver) == ["one", "two", "one", "two"]


async def test_a_sink_that_hangs_delays_no_other_stream_and_no_other_tenant(acme: Home, receiver: Receiver) -> None:
    """Red once against a build that sent one after the other."""
    other = await acme.house.tenant()
    gate = threading.Event()
    with receiving() as stuck:
        stuck.gate = lambda: gate.wait(20)
        await acme.stream(f"{stuck.url}/in")
        await acme.stream(f"{receiver.url}/in")
        await other.stream(f"{receiver.url}/other")
        await acme.record("one")
        await other.record("two")
        following = acme.house.following()
        await acme.house.seal()
        await following.streams.look()
        await asyncio.to_thread(until, lambda: told(receiver) == ["one"] and told(receiver, "/other") == ["two"])
        assert following.streams.busy
        gate.set()
        await following.streams.settled()
        assert told(stuck) == ["one"]
    await other.owner.aclose()


async def test_streams_that_fail_never_take_all_places_and_no_tenant_does(house: House, receiver: Receiver) -> None:
    """Red once against a list by date alone: those that hang come round again and again."""
    homes = [await house.tenant() for _ in range(6)]
    for home in homes[:5]:
        made = [await home.stream(f"{receiver.url}/in") for _ in range(5)]
        await home.record("one")
        async with house.parts.cells.session(home.scope) as session:
            await session.execute(
                "update audit_streams set attempts = 3, next_attempt_at = $2 where tenant_id = $1",
                home.tenant_id,
                house.clock.now() - timedelta(days=1),
            )
        assert len(made) == 5
    healthy = await homes[5].stream(f"{receiver.url}/in")
    await homes[5].record("one")
    await house.seal()
    async with as_dispatcher(house) as connection:
        found = await list_due_streams(connection, now=house.clock.now(), limit=32, resting=(), running=())
    ours = {home.tenant_id for home in homes}
    found = [due for due in found if due.tenant_id in ours]
    assert found[0].stream_id == parse_id(Prefix.AUDIT_STREAM, healthy["id"])
    assert len(found) <= 17
    assert max(Counter(due.tenant_id for due in found).values()) <= 4
    for home in homes:
        await home.owner.aclose()


@asynccontextmanager
async def as_dispatcher(house: House) -> "AsyncIterator[PoolConnectionProxy[asyncpg.Record]]":
    """A connection of the dispatcher to the shared tables."""
    pool = await open_pool(house.parts.addresses.cells["us"].dispatcher, search_path="tenantry", max_size=1)
    try:
        async with platform_session(pool) as connection:
            yield connection
    finally:
        await pool.close()


async def test_no_request_waits_for_a_sink_and_asks_no_more_of_the_database(acme: Home, receiver: Receiver) -> None:
    """By counts: an effect's transaction has as many statements with a stream that hangs as without any."""

    async def statements() -> int:
        async with acme.house.parts.cells.session(acme.scope) as session:
            connection = await session.connection()
            asked: list[str] = []
            connection.add_query_logger(lambda record: asked.append(record.query))
            await AuditService(session=session, clock=acme.house.clock).record(
                "note.made", resource_type="note", resource_id="counted"
            )
            await asyncio.sleep(0)  # loggers are called a turn of the loop later
            return len(asked)

    without = await statements()
    gate = threading.Event()
    receiver.gate = lambda: gate.wait(20)
    await acme.stream(f"{receiver.url}/in")
    await acme.record("one")
    following = acme.house.following()
    await acme.house.seal()
    await following.streams.look()
    await asyncio.to_thread(until, lambda: receiver.heard)
    assert await statements() == without > 0
    answer = await acme.owner.post("/workspaces", json={"name": "made while the sink hangs"})
    assert answer.status_code == 201
    assert following.streams.busy
    gate.set()
    await following.streams.settled()


async def test_a_stream_that_fails_for_too_long_is_paused_with_an_event_and_news(
    open_house: OpenHouse, receiver: Receiver
) -> None:
    async with open_house(stream_patience_days=0.5) as house:
        acme = await house.tenant()
        await _fail_for_too_long(acme, receiver)
        await acme.owner.aclose()


async def _fail_for_too_long(acme: Home, receiver: Receiver) -> None:
    made = await acme.stream(f"{receiver.url}/in")
    channel = {"name": "ops", "kind": "webhook", "address": f"{receiver.url}/news", "topics": ["audit_stream.*"]}
    assert (await acme.owner.post(f"/tenants/{acme.id}/notification-channels", json=channel)).status_code == 201
    await acme.record("one")
    following = acme.house.following()
    await acme.house.seal()
    receiver.statuses = [503, 503, 503]
    for _ in range(3):
        await stream_all(following)
        acme.house.clock.ahead += timedelta(hours=1)
    assert [event["outcome"] for event in await acme.trail(action="audit_stream.failed")] == [Outcome.ERROR]
    assert (await acme.shown(made["id"]))["status"] == "active"
    receiver.statuses = [503]
    acme.house.clock.ahead += timedelta(hours=12)
    await stream_all(following)
    paused = await acme.shown(made["id"])
    assert (paused["status"], paused["paused_because"], paused["next_attempt_at"]) == ("paused", "failing", None)
    [event] = await acme.trail(action="audit_stream.paused")
    assert (event["resource"]["id"], event["details"]["error"]) == (made["id"], "http_503")
    news = NoticeLoop(acme.house.parts, acme.house.parts.cells.get("us"))
    await news.look()
    await news.settled()
    await news.close()
    assert [heard.json["topic"] for heard in receiver.at("/news")] == ["audit_stream.paused"]
    assert (await acme.owner.post(f"/audit/streams/{made['id']}/resume")).status_code == 200
    before = len(receiver.at("/in"))
    await stream_all(following)
    assert len(receiver.at("/in")) == before + 1
    assert told(receiver)[-1] == "one"


async def test_waits_grow_to_an_hour_and_no_further(acme: Home, receiver: Receiver) -> None:
    made = await acme.stream(f"{receiver.url}/in")
    await acme.record("one")
    following = acme.house.following()
    await acme.house.seal()
    waits = []
    receiver.statuses = [500] * 14
    for _ in range(14):
        await stream_all(following)
        shown = await acme.shown(made["id"])
        now = acme.house.clock.now()
        waits.append(acme.house.moment(shown["next_attempt_at"]) - now)
        acme.house.clock.ahead += waits[-1] + timedelta(seconds=1)
    assert timedelta(seconds=3) < waits[0] < timedelta(seconds=7)
    assert all(wait <= timedelta(hours=1.2) for wait in waits)
    assert waits[-1] > timedelta(minutes=45)


async def test_an_address_inside_is_refused_when_it_is_written_and_when_it_is_sent_to(
    open_house: OpenHouse, acme: Home, receiver: Receiver
) -> None:
    """The stream was made where private addresses are allowed; the process that sends does not allow them."""
    made = await acme.stream(f"{receiver.url}/in")
    await acme.record("one")
    await acme.house.seal()
    async with open_house(private=False) as strict:
        following = strict.following()
        await stream_all(following)
        for address in (f"{receiver.url}/in", "https://169.254.169.254/", "http://example.com/", "file:///etc/passwd"):
            body = {"name": "inside", "kind": "webhook", "address": address}
            answer = await strict.client(acme.owner.headers["authorization"][7:]).post("/audit/streams", json=body)
            assert answer.status_code == 422, address
    assert receiver.heard == []
    refused = await acme.shown(made["id"])
    assert (refused["status"], refused["paused_because"]) == ("paused", "refused")
    assert refused["last_error"] == "address_private"


async def test_a_redirect_is_no_way_in(acme: Home, receiver: Receiver) -> None:
    made = await acme.stream(f"{receiver.url}/in")
    await acme.record("one")
    following = acme.house.following()
    await acme.house.seal()
    receiver.statuses, receiver.headers = [307], {"Location": f"{receiver.url}/elsewhere"}
    await stream_all(following)
    assert [heard.path for heard in receiver.heard] == ["/in"]
    assert (await acme.shown(made["id"]))["last_error"] == "http_307"


async def test_a_suspended_tenants_streams_wait(acme: Home, receiver: Receiver) -> None:
    await acme.stream(f"{receiver.url}/in")
    await acme.record("one")
    following = acme.house.following()
    await acme.house.seal()
    async with acme.house.client(acme.house.ground.platform_key or "") as platform:
        suspended = await platform.post(f"/tenants/{acme.id}/suspend", json={"reason": "unpaid"})
        assert suspended.status_code == 200, suspended.text
        await stream_all(following)
        assert receiver.heard == []
        assert (await platform.post(f"/tenants/{acme.id}/resume")).status_code == 200
    await stream_all(acme.house.following())
    assert told(receiver) == ["one"]


@pytest.mark.parametrize("isolation", ["schema_level", "database_level"])
async def test_tenants_with_a_place_of_their_own_are_streamed_too(
    isolation: str, house: House, receiver: Receiver
) -> None:
    made = await house.tenant(isolation=isolation)
    following = house.following()
    stream = await made.stream(f"{receiver.url}/in")
    await made.record("one", "two")
    await house.seal()
    await stream_all(following)
    assert told(receiver) == ["one", "two"]
    assert (await made.shown(stream["id"]))["sent"] == 2
    await made.owner.aclose()


async def test_an_imported_tenants_streams_wait_for_somebodys_word(acme: Home, receiver: Receiver) -> None:
    """Where it came from they go on; two installations would send the same."""
    made = await acme.stream(f"{receiver.url}/in")
    await acme.record("one")
    await acme.house.seal()
    async with acme.house.parts.cells.session(acme.scope) as session:
        await AuditArrival(notaries=acme.house.runtime.notaries, clock=acme.house.clock).arrive(session)
    following = acme.house.following()
    await stream_all(following)
    assert receiver.heard == []
    assert (await acme.shown(made["id"]))["paused_because"] == "tenant_imported"
    assert (await acme.owner.post(f"/audit/streams/{made['id']}/resume")).status_code == 200
    await stream_all(following)
    assert told(receiver) == ["one"]


async def test_a_plan_without_streams_makes_none(house: House) -> None:
    free = await house.tenant(plan="free")
    answer = await free.owner.post("/audit/streams", json={"name": "siem", "kind": "object"})
    assert (answer.status_code, answer.json()["code"]) == (403, "feature_missing")
    assert (await free.owner.get("/audit", params={"q": "tenant"})).status_code == 200
    await free.owner.aclose()


async def test_what_is_changed_counts_and_stands_in_the_trail(acme: Home, receiver: Receiver) -> None:
    made = await acme.stream(f"{receiver.url}/in")
    path = f"/audit/streams/{made['id']}"
    changes = {"address": f"{receiver.url}/other", "rotate_secret": True, "filter": {"outcomes": ["denied"]}}
    changed = await acme.owner.patch(path, json=changes, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    assert changed.json()["secret"] not in (None, made["secret"])
    stale = await acme.owner.patch(path, json={"name": "x"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    await acme.record("passed over")
    await acme.record("told", outcome=Outcome.DENIED)
    following = acme.house.following()
    await acme.house.seal()
    await stream_all(following)
    assert (told(receiver), told(receiver, "/other")) == ([], ["told"])
    assert (await acme.owner.post(f"{path}/pause")).json()["status"] == "paused"
    await acme.record("later", outcome=Outcome.DENIED)
    await acme.house.seal()
    await stream_all(following)
    assert told(receiver, "/other") == ["told"]
    assert (await acme.owner.delete(path)).status_code == 200
    assert (await acme.owner.get(path)).status_code == 404
    actions = [event["action"] for event in (await acme.trail(resource=made["id"]))[::-1] if event["details"]]
    assert [action for action in actions if action.startswith("audit_stream.")] == [
        *("audit_stream.created", "audit_stream.changed", "audit_stream.paused", "audit_stream.deleted")
    ]
    trail = json.dumps(await acme.trail())
    assert made["secret"] not in trail
    assert f"{receiver.url}/other" not in trail


async def test_bad_streams_are_refused_by_field(acme: Home) -> None:
    good = {"name": "s", "kind": "object"}
    for field, body in (
        ("address", {**good, "address": "https://example.com/"}),
        ("address", {"name": "s", "kind": "webhook"}),
        ("directory", {**good, "directory": "siem"}),
        ("directory", {"name": "s", "kind": "file"}),
        ("after", {**good, "after": 10**9}),
    ):
        answer = await acme.owner.post("/audit/streams", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field), body
    assert (await acme.owner.post("/audit/streams", json=good)).status_code == 201
    assert (await acme.owner.post("/audit/streams", json=good)).json()["code"] == "name_taken"


@pytest.mark.parametrize("target", [{"isolation": "database_level"}, {"region": "eu"}], ids=["strategy", "region"])
async def test_a_stream_moves_with_its_tenant_and_goes_on_where_it_was(
    target: Json, acme: Home, receiver: Receiver
) -> None:
    made = await acme.stream(f"{receiver.url}/in")
    await acme.record("before")
    await acme.house.seal()
    await stream_all(acme.house.following())
    async with acme.house.client(acme.house.ground.platform_key or "") as platform:
        asked = (await platform.post(f"/tenants/{acme.id}/move", json={"grace_seconds": 0, **target})).json()
    if asked["status"] == "waiting":
        path = f"/tenants/{acme.id}/operations/{asked['id']}/confirm"
        assert (await acme.owner.post(path)).status_code == 200
    runner = make_operations(acme.house.parts)
    operation_id = parse_id(Prefix.OPERATION, asked["id"])
    log = acme.house.parts.directory.operations(acme.house.clock)
    async with asyncio.timeout(60):
        while (found := await log.find(operation_id)) and found.status is OperationStatus.RUNNING:
            await acme.house.seal()  # a move waits for what is under way
            await acme.house.sign()
            await runner.run_due()
            acme.house.clock.ahead += timedelta(seconds=1)
    assert found is not None
    assert found.status is OperationStatus.SUCCEEDED, found
    acme.region = target.get("region", "us")
    await acme.record("after")
    following = acme.house.following(region=acme.region)
    await acme.house.seal(region=acme.region)
    await stream_all(following)
    assert told(receiver) == ["before", "after"]
    shown = await acme.shown(made["id"])
    assert (shown["sent"], shown["status"]) == (2, "active")
