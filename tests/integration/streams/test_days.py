"""The file of a day: flat lines in the sequence, whole at any moment, closed with its digest, opened by the late."""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.integration.streams.conftest import Home, House, Json, index_all

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.service import AuditService, DayWriter, forget, key_of
from tenantry.capabilities.audit.types.streams import DueDay
from tenantry.entrypoints.audit_followers import AuditFollowers
from tenantry.foundation.errors import Denied, NotFound
from tenantry.foundation.objects.ports import ObjectStat, ObjectStore

pytestmark = pytest.mark.xdist_group("streams")

FLAT = (
    *("event_id", "timestamp", "workspace_id", "actor_type", "actor_id", "action", "resource_type", "resource_id"),
    *("details", "outcome", "ip_address"),
)


async def write_all(house: House, following: AuditFollowers) -> None:
    for place in await house.parts.directory.list_places("us"):
        following.stir(place)
    while await following.days.look():
        await following.days.settled()


async def day_of(home: Home) -> Json:
    answer = await home.owner.get("/audit/days")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()["items"][-1]
    return found


async def stored(home: Home, day: str) -> bytes:
    objects: ObjectStore = home.house.parts.objects[home.region]
    return b"".join([piece async for piece in objects.get(home.tenant_id, f"audit/{day}.jsonl")])


async def follow(home: Home, following: AuditFollowers) -> None:
    await home.house.seal()
    await index_all(following)
    await write_all(home.house, following)


@pytest.mark.parametrize("isolation", ["row_level", "schema_level", "database_level"])
async def test_a_day_is_a_file_of_flat_lines_among_the_tenants_objects(isolation: str, house: House) -> None:
    home = await house.tenant(isolation=isolation)
    await home.record("one", "line\r\n\u001b[31mtwo", name="=1+1")
    following = house.following()
    await follow(home, following)
    day = (await day_of(home))["day"]
    house.clock.ahead += timedelta(seconds=61)
    await write_all(house, following)
    content = await stored(home, day)
    lines = [json.loads(line) for line in content.splitlines()]
    assert all(tuple(line)[: len(FLAT)] == FLAT for line in lines)
    assert [line["sequence"] for line in lines] == sorted(line["sequence"] for line in lines)
    assert [line["resource_id"] for line in lines if line["action"] == "note.made"] == ["one", "line\r\n\u001b[31mtwo"]
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in content)
    shown = await day_of(home)
    assert (shown["sha256"], shown["size_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert shown["closed_at"] is None
    now = await home.owner.get(f"/audit/days/{day}")
    assert now.content.startswith(content)
    await home.owner.aclose()


async def test_a_day_that_is_over_is_closed_and_one_that_is_late_opens_it_again(house: House) -> None:
    home = await house.tenant()
    await home.record("one")
    following = house.following()
    await follow(home, following)
    day = (await day_of(home))["day"]
    async with house.parts.cells.session(home.scope) as open_transaction:
        audit = AuditService(session=open_transaction, clock=house.clock)
        await audit.record("note.made", resource_type="note", resource_id="late")
        house.clock.ahead += timedelta(minutes=2)
        await write_all(house, following)
        to_the_end = timedelta(hours=24, minutes=10)
        midnight = house.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        forward = midnight + to_the_end - house.clock.now() + timedelta(seconds=1)
        house.clock.ahead += forward
        await write_all(house, following)
        house.clock.ahead -= forward  # the key of the owner holds a day
        closed = await _known(home, day)
        assert closed["closed_at"] is not None
        file = await home.owner.get(f"/audit/days/{day}")
        assert file.headers["etag"] == f'"{closed["sha256"]}"'
        assert hashlib.sha256(file.content).hexdigest() == closed["sha256"]
    await house.seal()
    await index_all(following)
    assert (await _known(home, day))["closed_at"] is None
    house.clock.ahead += forward + timedelta(minutes=2)
    for _ in range(2):
        await write_all(house, following)
        house.clock.ahead += timedelta(minutes=2)
    house.clock.ahead -= forward + timedelta(minutes=4)
    again = await _known(home, day)
    assert again["closed_at"] is not None
    lines = [json.loads(line) for line in (await stored(home, day)).splitlines()]
    named = [line["resource_id"] for line in lines if line["action"] == "note.made"]
    assert named == ["one", "late"]
    await home.owner.aclose()


async def _known(home: Home, day: str) -> Json:
    items = (await home.owner.get("/audit/days")).json()["items"]
    [found] = [item for item in items if item["day"] == day]
    assert isinstance(found, dict)
    return found


async def test_a_writer_that_dies_leaves_the_file_as_it_was(house: House) -> None:
    """Killed in the middle of a file, before it is noted, or overtaken: the next one is whole."""
    home = await house.tenant()
    await home.record("one")
    following = house.following()
    await follow(home, following)
    house.clock.ahead += timedelta(seconds=61)
    await write_all(house, following)
    day = (await day_of(home))["day"]
    before = await stored(home, day)
    await home.record("two")
    await house.seal()
    await index_all(following)
    house.clock.ahead += timedelta(seconds=61)

    class Dies:
        def __init__(self, inner: ObjectStore, *, after: bool) -> None:
            self._inner = inner
            self._after = after

        async def put(self, tenant_id: object, key: str, content: object) -> object:
            if self._after:
                await self._inner.put(tenant_id, key, content)  # type: ignore[arg-type]
            raise ConnectionError

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    cell, objects = house.parts.cells.get("us"), house.parts.objects["us"]
    due = DueDay(home.tenant_id, date.fromisoformat(day))
    for after in (False, True):
        writer = DayWriter(cell=cell, objects=Dies(objects, after=after), clock=house.clock, day_seconds=60.0)  # type: ignore[arg-type]
        with pytest.raises(ConnectionError):
            await writer.write(due)
        content = await stored(home, day)
        assert content == before if not after else content.startswith(before)
        house.clock.ahead += timedelta(minutes=16)
    await write_all(house, following)
    final = await stored(home, day)
    lines = [json.loads(line)["sequence"] for line in final.splitlines()]
    assert len(lines) == len(set(lines))
    assert (await _known(home, day))["sha256"] == hashlib.sha256(final).hexdigest()
    await home.owner.aclose()


async def test_no_other_tenant_and_no_workspace_reads_a_day(house: House) -> None:
    home, other = await house.tenant(), await house.tenant()
    await home.record("mine")
    following = house.following()
    await follow(home, following)
    day = (await day_of(home))["day"]
    theirs = await other.owner.get(f"/audit/days/{day}")
    assert b"mine" not in theirs.content
    workspace = (await home.owner.post("/workspaces", json={"name": "w"})).json()["id"]
    made = await home.owner.post(f"/workspaces/{workspace}/keys", json={"name": "narrow", "roles": ["auditor"]})
    narrowed = await house.client(made.json()["secret"]).get(f"/audit/days/{day}")
    assert narrowed.status_code == 403
    for wrong in ("2000-01-01", "yesterday", "2026-W01-1", day.replace("-", "")):
        assert (await home.owner.get(f"/audit/days/{wrong}")).status_code == 404, wrong
    assert key_of(date.fromisoformat(day)) == f"audit/{day}.jsonl"
    for each in (home, other):
        await each.owner.aclose()


async def test_a_tenant_that_is_deleted_while_its_file_is_written_keeps_none(house: House) -> None:
    """Erasure removes objects once: what came a moment later would stay for ever. Red once without the removal."""
    home = await house.tenant()
    await home.record("one")
    following = house.following()
    await house.seal()
    await index_all(following)
    day = (await day_of(home))["day"]
    house.clock.ahead += timedelta(seconds=61)
    platform = house.client(house.ground.platform_key or "")

    class DeletedMeanwhile:
        def __init__(self, inner: ObjectStore) -> None:
            self._inner = inner

        async def put(self, tenant_id: UUID, key: str, content: AsyncIterator[bytes]) -> ObjectStat:
            stat = await self._inner.put(tenant_id, key, content)
            assert (await platform.delete(f"/tenants/{home.id}")).status_code == 200
            return stat

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    objects: Any = DeletedMeanwhile(house.parts.objects["us"])
    writer = DayWriter(cell=house.parts.cells.get("us"), objects=objects, clock=house.clock, day_seconds=60.0)
    with pytest.raises(Denied):
        await writer.write(DueDay(home.tenant_id, date.fromisoformat(day)))
    with pytest.raises(NotFound):
        await stored(home, day)
    for each in (platform, home.owner):
        await each.aclose()


async def over_with_an_address(home: Home) -> tuple[AuditFollowers, str]:
    """Record one, and let its day be over, with its file still to be written; gives who writes it, and the day."""
    await home.record("one", address="jo@example.com")
    following = home.house.following()
    await home.house.seal()
    await index_all(following)
    day = (await day_of(home))["day"]
    tomorrow = date.fromisoformat(day) + timedelta(days=1)
    over = datetime.combine(tomorrow, datetime.min.time(), UTC) + timedelta(minutes=11)
    home.house.clock.ahead += over - home.house.clock.now()
    return following, day


async def test_what_is_about_persons_leaves_a_closed_day_when_it_is_forgotten(acme: Home) -> None:
    """Red once where forgetting left the day as it was: the file would say for ever what the log has forgotten."""
    house = acme.house
    following, day = await over_with_an_address(acme)
    await write_all(house, following)
    assert b"jo@example.com" in await stored(acme, day)
    async for _, connection in house._visits("us", "audit_heads"):
        await forget(connection, tenant_id=acme.tenant_id, before=house.clock.now(), now=house.clock.now())
    await write_all(house, following)
    content = await stored(acme, day)
    assert b"jo@example.com" not in content
    [line] = [each for each in map(json.loads, content.splitlines()) if each["action"] == "note.made"]
    assert line["withheld"] == ["details.address"]
    await write_all(house, following)
    assert await stored(acme, day) == content


@pytest.mark.parametrize("end", ["noted", "raised"])
async def test_a_file_that_is_put_late_brings_nothing_back(acme: Home, end: str) -> None:
    """It is made, and closed, by another process meanwhile, without what was forgotten: made anew, and by one alone."""
    house = acme.house
    following, day = await over_with_an_address(acme)

    class Late:
        """A store that has all of the content, and is slow to let it stand."""

        def __init__(self, inner: ObjectStore) -> None:
            self._inner = inner

        async def put(self, tenant_id: UUID, key: str, content: AsyncIterator[bytes]) -> ObjectStat:
            pieces = [piece async for piece in content]
            async for _, connection in house._visits("us", "audit_heads"):
                await forget(connection, tenant_id=acme.tenant_id, before=house.clock.now(), now=house.clock.now())
            await write_all(house, following)
            assert (await _known(acme, day))["closed_at"] is not None
            assert b"jo@example.com" not in await stored(acme, day)

            async def again() -> AsyncIterator[bytes]:
                for piece in pieces:
                    yield piece

            stat = await self._inner.put(tenant_id, key, again())
            if end == "raised":
                raise TimeoutError
            return stat

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    objects: Any = Late(house.parts.objects["us"])
    writer = DayWriter(cell=house.parts.cells.get("us"), objects=objects, clock=house.clock, day_seconds=60.0)
    due = DueDay(acme.tenant_id, date.fromisoformat(day))
    if end == "raised":
        with pytest.raises(TimeoutError):
            await writer.write(due)
    else:
        assert not await writer.write(due)
    assert b"jo@example.com" in await stored(acme, day), "as it was put"
    following.days._resting.clear()
    await write_all(house, following)
    content = await stored(acme, day)
    assert b"jo@example.com" not in content
    known = await _known(acme, day)
    assert (known["sha256"], known["closed_at"] is None) == (hashlib.sha256(content).hexdigest(), False)


async def test_whoever_lost_a_lease_takes_none_from_another(acme: Home) -> None:
    """Else two that are slow would each undo what the other has done, for ever."""
    house = acme.house
    await acme.record("one")
    following = house.following()
    await house.seal()
    await index_all(following)
    day = date.fromisoformat((await day_of(acme))["day"])
    now = house.clock.now() + timedelta(minutes=5)
    leases = [now + timedelta(minutes=each) for each in (15, 16, 17)]
    async with house.parts.cells.session(acme.scope) as session:
        epochs = []
        for lease in leases[:2]:
            claimed = await repository.claim_day(session, day, now=now, until=lease)
            assert claimed is not None
            epochs.append(claimed[1])
            if lease is leases[0]:
                await repository.reopen_days(session, due_at=now)  # as who forgets does
        assert await repository.reopen_day(session, day, epoch=epochs[0], lease=leases[0], now=now)
        assert await repository.claim_day(session, day, now=now, until=leases[2]) is None, "the second is still at it"
        assert await repository.reopen_day(session, day, epoch=epochs[1], lease=leases[1], now=now)
        claimed = await repository.claim_day(session, day, now=now, until=leases[2])
        assert claimed is not None
        assert not await repository.reopen_day(session, day, epoch=claimed[1], lease=leases[2], now=now)
