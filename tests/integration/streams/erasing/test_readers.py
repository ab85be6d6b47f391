"""What reads a log of which a part has left: lists, searches, proofs, streams, files of days, exports."""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from tests.integration.notifications.receivers import Receiver
from tests.integration.streams.conftest import Json, stream_all, told
from tests.integration.streams.erasing.conftest import DAYS, Log

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service import DayWriter, LogService
from tenantry.capabilities.audit.types.streams import DueDay
from tenantry.engines.merkle.proofs import verify_inclusion
from tenantry.foundation.database.transfer import purge_lock
from tenantry.foundation.errors import NotFound, Unavailable
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.objects.ports import ObjectStat

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

pytestmark = pytest.mark.xdist_group("streams")


async def test_one_that_has_left_is_gone_for_its_readers_and_still_proved(log: Log) -> None:
    owner, ids = log.home.owner, await log.ids()
    first, here = (format_id(Prefix.AUDIT_EVENT, ids[at]) for at in (9, 520))
    shown = (await owner.get(f"/audit/events/{first}")).json()
    assert shown["sequence"] == 10
    leaf = (await owner.get(f"/audit/proof/{first}")).json()["leaf"]
    await log.erase()
    gone = await owner.get(f"/audit/events/{first}")
    assert (gone.status_code, gone.json()["code"]) == (410, "event_erased")
    assert (gone.json()["sequence"], gone.json()["leaf"]) == (10, leaf)
    proof = (await owner.get(f"/audit/proof/{first}")).json()
    assert proof["leaf"] == leaf
    verify_inclusion(
        leaf=b64decode(leaf),
        index=9,
        size=proof["checkpoint"]["size"],
        proof=[b64decode(each) for each in proof["path"]],
        root=b64decode(proof["checkpoint"]["root"]),
    )
    assert (await owner.get(f"/audit/events/{here}")).status_code == 200
    consistency = await owner.get("/audit/consistency", params={"size": 100})
    assert consistency.status_code == 200, "checkpoints from before still count"
    workspace = (await owner.post("/workspaces", json={"name": "w"})).json()["id"]
    made = await owner.post(f"/workspaces/{workspace}/keys", json={"name": "narrow", "roles": ["auditor"]})
    other = await log.house.tenant()
    async with log.house.client(made.json()["secret"]) as narrowed:
        for path in (f"/audit/events/{first}", f"/audit/proof/{first}"):
            assert (await narrowed.get(path)).status_code == 403, "whose it was nobody knows"
            assert (await other.owner.get(path)).status_code == 404
    await other.owner.aclose()


async def test_lists_and_searches_simply_have_fewer(log: Log) -> None:
    owner = log.home.owner

    async def found(**query: str) -> list[int]:
        places, cursor = list[int](), None
        for _ in range(200):
            page = await owner.get("/audit", params={"limit": "200", **query, **({"cursor": cursor} if cursor else {})})
            assert page.status_code == 200, page.text
            places += [event["sequence"] for event in page.json()["items"] if event["action"] == "note.made"]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return places
        pytest.fail("it never came to an end")

    long_ago = (datetime.now().astimezone() - timedelta(days=9)).isoformat()
    queries: tuple[dict[str, str], ...] = (
        {"action": "note."},
        {"action": "note.made", "exact": "true"},
        {"q": "zebra"},
        {"q": "zebra", "since": long_ago},
        {"resource_type": "note", "actor_type": "system"},
        {"order": "sequence", "after": "0"},
        {"order": "sequence", "after": "0", "q": "zebra"},
    )
    before = [sorted(await found(**query)) for query in queries]
    assert all(len(each) == 600 for each in before)
    await log.erase()
    for query, places in zip(queries, before, strict=True):
        assert sorted(await found(**query)) == [place for place in places if place > 512], query
    page = (await owner.get("/audit", params={"order": "sequence", "after": "0", "limit": "1"})).json()
    assert page["items"][0]["sequence"] == 513, "whoever begins at 0 waits for no empty page"
    assert (await owner.get("/audit", params={"resource": "note-5", "limit": "5"})).json()["items"] == []


async def test_words_of_what_has_left_are_in_no_index(log: Log) -> None:
    """Red once without `forget_words`."""
    assert await log.rows("audit_words", "block < 8") > 0
    await log.erase()
    assert await log.rows("audit_words", "block < 8") == 0
    assert await log.rows("audit_words", "word = 'w:zebra'") > 0


async def test_a_stream_that_begins_before_goes_on_behind(log: Log, receiver: Receiver) -> None:
    """Red once without it: a stream that finds nothing at its place waited for ever."""
    await log.erase()
    left = await log.rows("audit_events", "action = 'note.made'")
    for after in (0, 500):
        stream = await log.home.stream(f"{receiver.url}/{after}", after=after)
        await log.house.seal()
        await stream_all(log.house.following())
        names = told(receiver, f"/{after}")
        shown = await log.home.shown(stream["id"])
        assert len(names) == len(set(names)) == left
        assert names[-1] == "note-599"
        assert shown["position"] >= 600


async def test_an_index_that_is_made_anew_goes_on_behind(log: Log, superuser: "Connection") -> None:
    await log.erase()
    for table in ("audit_index", "audit_words"):
        await superuser.execute(f"delete from tenantry.{table} where tenant_id = $1", log.home.tenant_id)
    await log.settle()
    assert await log.rows("audit_words", "block < 8") == 0
    assert await log.rows("audit_words", "word = 'w:zebra'") > 0


async def write_days(log: Log, *, later: timedelta = timedelta(seconds=61)) -> None:
    following = log.house.following()
    following.stir("row")
    log.house.clock.ahead += later
    while await following.days.look():
        await following.days.settled()
    log.house.clock.ahead -= later


async def test_the_file_of_a_day_has_what_is_left_of_it_and_goes_with_the_last(
    log: Log, superuser: "Connection"
) -> None:
    owner, objects = log.home.owner, log.house.parts.objects["us"]
    await write_days(log)
    *_, day = (await owner.get("/audit/days")).json()["items"]
    key = f"audit/{day['day']}.jsonl"

    async def stored() -> list[Json]:
        content = b"".join([piece async for piece in objects.get(log.home.tenant_id, key)])
        return [json.loads(line) for line in content.splitlines()]

    async def known(name: str) -> Json:
        items = (await owner.get("/audit/days")).json()["items"]
        return next((each for each in items if each["day"] == name), {})

    assert len(await stored()) >= 600
    await log.erase()
    cut = await known(day["day"])
    assert (cut["first"], cut["closed_at"]) == (513, None)
    assert 600 - 512 <= cut["events"] <= cut["last"] - 512
    await write_days(log, later=timedelta(days=DAYS + 3))
    assert min(line["sequence"] for line in await stored()) == 513
    # As if all of it had been yesterday's.
    await log.home.record(*(f"late-{number}" for number in range(300)))
    await log.settle()
    await superuser.execute("update tenantry.audit_days set last = 768 where tenant_id = $1", log.home.tenant_id)
    await log.erase()
    assert (await log.head())[0] == 768
    assert await known(day["day"]) == {}
    assert (await owner.get(f"/audit/days/{day['day']}")).status_code == 404
    with pytest.raises(NotFound):
        await objects.stat(log.home.tenant_id, key)


async def test_files_stay_while_they_are_copied_and_all_that_is_behind_them(log: Log, superuser: "Connection") -> None:
    """An archive, or a move, copies what the rows name: as purges, this waits. Red once without the lock."""
    await log.step()
    await log.settle()
    async with superuser.transaction():
        await superuser.execute("select pg_advisory_xact_lock($1)", purge_lock(log.home.tenant_id))
        await log.step()
        assert await log.head() == (512, 0)
    await log.erase()
    assert await log.head() == (512, 512)


async def test_a_file_that_was_being_written_goes_with_its_day(log: Log) -> None:
    """Red once where the writer left it: a file that nobody knows of would stay for good."""
    *_, day = (await log.home.owner.get("/audit/days")).json()["items"]
    due = DueDay(log.home.tenant_id, date.fromisoformat(day["day"]))
    objects = log.house.parts.objects["us"]

    class ErasedMeanwhile:
        async def put(self, tenant_id: UUID, key: str, content: AsyncIterator[bytes]) -> ObjectStat:
            stat = await objects.put(tenant_id, key, content)
            async with log.house.parts.cells.session(log.home.scope) as session:
                await repository.delete_day(session, due.day)
            return stat

        def __getattr__(self, name: str) -> object:
            return getattr(objects, name)

    log.house.clock.ahead += timedelta(seconds=61)
    store: Any = ErasedMeanwhile()
    cell = log.house.parts.cells.get("us")
    assert not await DayWriter(cell=cell, objects=store, clock=log.house.clock, day_seconds=60.0).write(due)
    with pytest.raises(NotFound):
        await objects.stat(log.home.tenant_id, f"audit/{day['day']}.jsonl")


async def test_an_export_that_an_erasure_overtakes_breaks_off_and_the_next_passes(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red once without the look: it would be a whole answer that no verifier takes."""
    plain = LogService.events

    async def overtaken(self: LogService, **asked: int) -> list[tuple[int, bytes, bytes]]:
        monkeypatch.setattr(LogService, "events", plain)
        await log.erase()
        return await plain(self, **asked)

    monkeypatch.setattr(LogService, "events", overtaken)
    with pytest.raises(Unavailable, match="left it meanwhile"):
        await log.exported(tmp_path / "overtaken")
    assert (await log.verified(tmp_path / "next")).erasure is not None


async def test_what_is_deleted_raw_passes_no_export(log: Log, superuser: "Connection", tmp_path: Path) -> None:
    """Whoever owns the database deletes rows, and says in the head that they were erased: nothing is signed."""
    tenant = log.home.tenant_id
    await superuser.execute("update tenantry.audit_heads set erased = 256 where tenant_id = $1", tenant)
    await superuser.execute(
        """delete from tenantry.audit_events e using tenantry.audit_sequence s
           where s.tenant_id = $1 and s.sequence <= 256 and e.tenant_id = $1 and e.event_id = s.event_id""",
        tenant,
    )
    with pytest.raises(BundleRefused) as refused:
        await log.verified(tmp_path / "raw")
    assert (refused.value.code, refused.value.fields) == ("erasure_unsigned", {"first": 1, "last": 256})


async def test_receipts_of_what_has_left_still_count(log: Log, tmp_path: Path) -> None:
    from tenantry.capabilities.audit.service.receipts import Recorded

    ids = await log.ids()
    async with log.house.parts.cells.session(log.home.scope) as session:
        leaf = await session.fetchval("select leaf from audit_sequence where sequence = 7")
    notary = log.house.runtime.notaries["us"]
    receipts = notary.acknowledge([Recorded(log.home.tenant_id, "us", ids[6], leaf)])
    await log.erase()
    report = await log.verified(tmp_path / "a", receipts=receipts)
    assert (report.receipts, report.pending) == (1, 0)
    await log.home.record("later")
