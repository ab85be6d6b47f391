"""The store answers 304 without a database, and never with what an answered change has ended."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.contract.conftest import running_redis
from tests.integration.api.conftest import Beside, OpenBeside, problem

from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.pool import SessionPool
from tenantry.foundation.ids import Prefix, parse_id

pytestmark = pytest.mark.xdist_group("api")

Pair = tuple[Beside, Beside]
READERS, WRITERS, CHANGES = 48, 16, 8
HEARD_SECONDS = 1.0
PAUSE_SECONDS = 0.05
# Told apart by who asks: pings, audit and sealing go on in tasks of their own.
_asking: ContextVar[list[str] | None] = ContextVar("asking", default=None)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of a Redis."""
    with running_redis() as server:
        yield server.url


@pytest.fixture(scope="module")
async def shared(open_beside: OpenBeside, store: str) -> AsyncIterator[Pair]:
    """Two processes on one Redis."""
    async with open_beside(redis_url=store) as one, open_beside(redis_url=store) as other:
        yield one, other


@pytest.fixture(params=["redis", "embedded"])
def pair(request: pytest.FixtureRequest, shared: Pair, beside: Beside) -> Pair:
    """Two processes on Redis; embedded exactly one process serves a region, which is then both."""
    return shared if request.param == "redis" else (beside, beside)


@pytest.fixture
def tenant(make_tenant: MakeTenant) -> Tenant:
    return make_tenant(region="us", isolation="row_level")


@pytest.fixture(params=["workspace", "tenant"])
def path(request: pytest.FixtureRequest, tenant: Tenant) -> str:
    return f"/tenants/{tenant.id}" if request.param == "tenant" else f"/workspaces/{tenant.workspace('vouched')}"


@contextmanager
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """List what this task takes of any pool: each statement to any database needs a connection first."""
    taken: list[str] = []
    for owner, name in ((SessionPool, "take"), (asyncpg.Pool, "acquire"), (asyncpg.Pool, "_acquire")):
        real = getattr(owner, name)

        def taking(pool: Any, *arguments: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
            if (mine := _asking.get()) is not None:
                mine.append(_name)
            return _real(pool, *arguments, **options)

        monkeypatch.setattr(owner, name, taking)
    token = _asking.set(taken)
    try:
        yield taken
    finally:
        _asking.reset(token)
        monkeypatch.undo()


async def _vouched(client: httpx.AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ask until the store has answered; gives the tag."""
    tag = (await client.get(path)).headers["etag"]
    for _ in range(50):
        with _counted(monkeypatch) as taken:
            answer = await client.get(path, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.headers["etag"]) == (304, tag)
        if not taken:
            return tag
    pytest.fail("the store never vouched")


async def test_what_is_vouched_for_is_304_without_any_database(
    pair: Pair, tenant: Tenant, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (each.client(tenant.bootstrap_key) for each in pair)
    async with one, other:
        tag = await _vouched(one, path, monkeypatch)
        assert await _vouched(other, path, monkeypatch) == tag
        for client in (one, other):
            with _counted(monkeypatch) as taken:
                answer = await client.get(path, headers={"If-None-Match": f'"0", W/{tag}'})
            assert (answer.status_code, answer.content, answer.headers["etag"], taken) == (304, b"", tag, [])
            assert answer.headers["cache-control"] == "no-store"
            with _counted(monkeypatch) as taken:
                assert (await client.get(path, headers={"If-None-Match": '"0"'})).status_code == 200
            assert taken


async def test_a_304_of_the_store_is_a_read_in_the_trail(
    pair: Pair, tenant: Tenant, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair[0].client(tenant.bootstrap_key) as client:
        tag = await _vouched(client, path, monkeypatch)
        with _counted(monkeypatch) as taken:
            answer = await client.get(path, headers={"If-None-Match": tag})
        assert not taken
        noun = "workspace" if path.startswith("/workspaces") else "tenant"
        query = {"action": f"{noun}.read", "resource": path.rpartition("/")[2], "limit": "100"}
        for _ in range(200):
            items = (await client.get("/audit", params=query)).json()["items"]
            if any(item["trace_id"] == answer.headers["x-trace-id"] for item in items):
                return
        pytest.fail("the read was not recorded")


async def test_a_change_by_either_process_ends_it_at_once_in_both(
    pair: Pair, tenant: Tenant, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (each.client(tenant.bootstrap_key) for each in pair)
    async with one, other:
        for turn in range(10):
            writer, reader = (one, other)[:: 1 if turn % 2 else -1]
            tag = await _vouched(reader, path, monkeypatch)
            changed = await writer.patch(path, json={"name": f"turn {turn}"})
            for client in (reader, writer):
                answer = await client.get(path, headers={"If-None-Match": tag})
                assert (answer.status_code, answer.json()["name"]) == (200, f"turn {turn}")
                assert answer.headers["etag"] == changed.headers["etag"] != tag


def _refused(answer: httpx.Response) -> bool:
    """So many at once may wait too long for a connection, or use up a minute's requests; they ask again."""
    return answer.status_code in (429, 503)


async def test_no_reader_of_64_is_told_304_of_what_an_answered_change_has_ended(
    pair: Pair, tenant: Tenant, path: str
) -> None:
    """Readers name the last versions they can know of: the one answered for must not be older than the last change
    whose answer had come when they asked.
    """
    answered = 1
    spared = 0
    writing = WRITERS

    async def write(client: httpx.AsyncClient, number: int) -> None:
        nonlocal answered, writing
        for turn in range(CHANGES):
            body = {"name": f"writer {number}, turn {turn}"}
            while True:
                changed = await client.patch(path, json=body)
                if not _refused(changed):
                    break
                await asyncio.sleep(PAUSE_SECONDS)
            assert changed.status_code == 200, changed.text
            answered = max(answered, changed.json()["version"])
        writing -= 1

    async def read(client: httpx.AsyncClient) -> None:
        nonlocal spared
        while writing:
            floor = answered
            tags = ", ".join(f'"{version}"' for version in range(max(1, floor - 6), floor + 3))
            answer = await client.get(path, headers={"If-None-Match": tags})
            if _refused(answer):
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            assert answer.status_code in (200, 304), answer.text
            assert int(answer.headers["etag"].strip('"')) >= floor
            spared += answer.status_code == 304

    one, other = (each.client(tenant.bootstrap_key) for each in pair)
    async with one, other, asyncio.TaskGroup() as group:
        for number in range(WRITERS):
            group.create_task(write((one, other)[number % 2], number))
        for number in range(READERS):
            group.create_task(read((one, other)[number % 2]))
    assert answered >= WRITERS * CHANGES + 1
    assert spared


@contextmanager
def _deaf(beside: Beside) -> Iterator[None]:
    """A process whose news are late, though its link answers: it still believes what it has cached."""
    channels = [callbacks for cell in beside.runtime.cells for callbacks in cell.link._channels.values()]
    kept = [list(callbacks) for callbacks in channels]
    for callbacks in channels:
        callbacks.clear()
    try:
        yield
    finally:
        for callbacks, before in zip(channels, kept, strict=True):
            callbacks.extend(before)


async def test_what_ends_a_tenant_or_workspace_ends_its_304_at_once(
    shared: Pair, installation: Installation, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, workspace = f"/tenants/{tenant.id}", f"/workspaces/{tenant.workspace('closed')}"
    one, other = (each.client(tenant.bootstrap_key) for each in shared)
    async with one, other, shared[0].client(installation.platform_key) as platform:
        for method, end in (("POST", "/suspend"), ("POST", "/resume"), ("DELETE", "")):
            tag = await _vouched(other, workspace, monkeypatch)
            body = {"reason": "test"} if end == "/suspend" else None
            with _deaf(shared[1]):
                assert (await one.request(method, workspace + end, json=body)).status_code == 200
                assert (await other.get(workspace, headers={"If-None-Match": tag})).status_code == 200
        overlaid = await _vouched(other, place, monkeypatch)
        answer = await one.put(f"{place}/labels", json={"overlay": {}})
        assert answer.status_code == 200, answer.text
        assert (await other.get(place, headers={"If-None-Match": overlaid})).status_code == 200
        for method, end, back in (("POST", "/suspend", "/resume"), ("DELETE", "", "/restore")):
            tags = {path: await _vouched(other, path, monkeypatch) for path in (workspace, place)}
            body = {"reason": "test"} if end else None
            with _deaf(shared[1]):
                assert (await platform.request(method, place + end, json=body)).status_code == 200
                for path, tag in tags.items():
                    problem(await other.get(path, headers={"If-None-Match": tag}), 403, "tenant_suspended")
            assert (await platform.post(place + back)).status_code == 200


async def test_a_change_that_the_store_never_learns_of_is_heard_within_a_second(
    shared: Pair, tenant: Tenant, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running server shares no store with these two: to them its changes are invalidations that were lost."""
    one, other = (each.client(tenant.bootstrap_key) for each in shared)
    async with one, other:
        tags = [await _vouched(client, path, monkeypatch) for client in (one, other)]
        await asyncio.to_thread(tenant.owner.patch, path, json={"name": "unheard of"})
        began = time.monotonic()
        for client, tag in zip((one, other), tags, strict=True):
            while (await client.get(path, headers={"If-None-Match": tag})).status_code == 304:
                assert time.monotonic() - began < HEARD_SECONDS
                await asyncio.sleep(0)
            assert await _vouched(client, path, monkeypatch) != tag


async def test_who_has_missed_news_believes_nothing_from_before(
    open_beside: OpenBeside, shared: Pair, store: str, tenant: Tenant, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared[0].client(tenant.bootstrap_key) as client:
        tag = await _vouched(client, path, monkeypatch)
    await asyncio.to_thread(tenant.owner.patch, path, json={"name": "unheard of"})
    async with open_beside(redis_url=store) as late, late.client(tenant.bootstrap_key) as client:
        for _ in range(3):
            answer = await client.get(path, headers={"If-None-Match": tag})
            assert (answer.status_code, answer.json()["name"]) == (200, "unheard of")


async def test_without_a_store_reads_ask_the_database_and_changes_go_on(
    open_beside: OpenBeside, tenant: Tenant, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_redis() as server:
        async with open_beside(redis_url=server.url) as opened, opened.client(tenant.bootstrap_key) as client:
            tag = await _vouched(client, path, monkeypatch)
            server.stop()
            assert (await client.get(path, headers={"If-None-Match": tag})).status_code == 304
            changed = await client.patch(path, json={"name": "without a store"})
            assert changed.status_code == 200, changed.text
            assert (await client.get(path, headers={"If-None-Match": tag})).status_code == 200
            server.start()
            assert (await client.get(path, headers={"If-None-Match": tag})).status_code == 200


async def test_keys_are_the_tenants_own_and_no_other_tenants_entry_counts(
    shared: Pair, store: str, tenant: Tenant, make_tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, mine = make_tenant(region="us", isolation="row_level"), tenant.workspace("mine")
    workspace = parse_id(Prefix.WORKSPACE, mine)
    async with shared[0].client(tenant.bootstrap_key) as client:
        await _vouched(client, f"/workspaces/{mine}", monkeypatch)
        caches = open_caches(store, SystemClock())
        theirs = caches.etags.for_tenant(parse_id(Prefix.TENANT, stranger.id))
        gate = await theirs.put("versions/all", b"open x")
        await theirs.put(f"versions/workspaces/{workspace.hex}", f"is {gate} 999".encode())
        answer = await client.get(f"/workspaces/{mine}", headers={"If-None-Match": '"999"'})
        assert (answer.status_code, answer.json()["version"]) == (200, 1)
        for hostile in ("..%2Fall", "all", f"{mine}%0D%0A", "*", f"{{{workspace.hex}}}", "%00", "ws_" + "z" * 300):
            refused = await client.get(f"/workspaces/{hostile}", headers={"If-None-Match": '"1"'})
            assert refused.status_code in (400, 404, 422), refused.text
        foreign = await client.get(f"/workspaces/{stranger.workspace('x')}", headers={"If-None-Match": '"1"'})
        problem(foreign, 404, "not_found")
        keys = [key.decode() async for key in _keys(store)]
        await caches.close()
    known = {parse_id(Prefix.TENANT, each.id) for each in (tenant, stranger)}
    ours = [key for key in keys if any(owner.hex in key for owner in known)]
    form = re.compile(
        r"tenantry:\{([0-9a-f]{32})\}:(etag:versions/(all|(tenants|workspaces)/[0-9a-f]{32})|rate:[A-Za-z0-9._]+)"
    )
    for key in ours:
        found = form.fullmatch(key)
        assert found, key
        assert UUID(hex=found[1]) in known


async def _keys(url: str) -> AsyncIterator[bytes]:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter("tenantry:*"):
            yield key


def test_by_a_slug_the_store_is_not_asked(tenant: Tenant) -> None:
    tag = tenant.owner.get(f"/tenants/{tenant.id}").headers["etag"]
    for _ in range(3):
        assert tenant.owner.get(f"/tenants/{tenant.id}", headers={"If-None-Match": tag}).status_code == 304
        assert tenant.owner.get(f"/tenants/{tenant.slug}", headers={"If-None-Match": tag}).status_code == 200
