"""EtagStore on both adapters: a cache that is never stale past its time and never another tenant's."""

import asyncio
import contextlib
from typing import Any
from uuid import uuid4

import pytest

from tenantry.foundation.caches.embedded_etags import EmbeddedEtagStore
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.ports import CasOutcome
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Invalid, Unavailable


async def test_what_was_put_is_found_with_its_etag_until_deleted(under_test: Any) -> None:
    store = under_test.etags.for_tenant(uuid4())
    etag = await store.put("cards/palette", b"\x00body")
    found = await store.find("cards/palette")
    assert (found.etag, found.value) == (etag, b"\x00body")
    assert len(etag) == 32
    await store.delete("cards/palette")
    await store.delete("cards/palette")
    assert await store.find("cards/palette") is None


async def test_the_same_resource_of_two_tenants_is_two_entries(under_test: Any) -> None:
    one, other = uuid4(), uuid4()
    await under_test.etags.put("resource", b"a", tenant=one)
    assert await under_test.etags.find("resource", tenant=other) is None
    await under_test.etags.put("resource", b"b", tenant=other)
    assert (await under_test.etags.find("resource", tenant=one)).value == b"a"
    await under_test.etags.delete("resource", tenant=other)
    assert (await under_test.etags.find("resource", tenant=one)).value == b"a"


async def test_the_tenant_of_the_call_overrides_the_default(under_test: Any) -> None:
    one, other = uuid4(), uuid4()
    store = under_test.etags.for_tenant(one)
    await store.put("resource", b"theirs", tenant=other)
    assert await store.find("resource") is None
    assert (await store.for_tenant(other).find("resource")).value == b"theirs"


async def test_without_any_tenant_nothing_is_read_or_written(under_test: Any) -> None:
    for call in (
        under_test.etags.find("resource"),
        under_test.etags.put("resource", b"x"),
        under_test.etags.delete("resource"),
        under_test.etags.compare_and_set("resource", expected="", value=b"x"),
        under_test.etags.find("resource", tenant="acme"),
    ):
        with pytest.raises(Invalid):
            await call


async def test_compare_and_set_stores_once_for_one_etag(under_test: Any) -> None:
    store = under_test.etags.for_tenant(uuid4())
    first = await store.put("resource", b"1")
    stored = await store.compare_and_set("resource", expected=first, value=b"2")
    assert stored
    assert stored.outcome is CasOutcome.STORED
    late = await store.compare_and_set("resource", expected=first, value=b"3")
    assert not late
    assert (late.outcome, late.etag) == (CasOutcome.CHANGED, stored.etag)
    assert (await store.find("resource")).value == b"2"


async def test_compare_and_set_without_an_expected_etag_stores_only_where_there_is_nothing(under_test: Any) -> None:
    store = under_test.etags.for_tenant(uuid4())
    first = await store.compare_and_set("resource", expected=None, value=b"1")
    assert first.outcome is CasOutcome.STORED
    second = await store.compare_and_set("resource", expected=None, value=b"2")
    assert (second.outcome, second.etag) == (CasOutcome.CHANGED, first.etag)
    assert (await store.find("resource")).value == b"1"


async def test_several_are_found_in_their_order_with_gaps_and_only_ones_own(under_test: Any) -> None:
    one, other = uuid4(), uuid4()
    for resource in ("a", "c"):
        await under_test.etags.put(resource, resource.encode(), tenant=one)
    found = await under_test.etags.find_all(("c", "b", "a"), tenant=one)
    assert [entry and entry.value for entry in found] == [b"c", None, b"a"]
    assert list(await under_test.etags.find_all(("c", "b", "a"), tenant=other)) == [None, None, None]


async def test_compare_and_set_on_a_foreign_or_absent_entry_is_missing(under_test: Any) -> None:
    one, other = uuid4(), uuid4()
    etag = await under_test.etags.put("resource", b"1", tenant=one)
    foreign = await under_test.etags.compare_and_set("resource", expected=etag, value=b"2", tenant=other)
    absent = await under_test.etags.compare_and_set("never", expected=etag, value=b"2", tenant=other)
    assert foreign == absent
    assert (foreign.outcome, foreign.etag) == (CasOutcome.MISSING, None)
    assert (await under_test.etags.find("resource", tenant=one)).value == b"1"
    assert await under_test.etags.find("resource", tenant=other) is None


async def test_an_entry_ends_with_its_time_to_live(under_test: Any) -> None:
    store = under_test.etags.for_tenant(uuid4())
    etag = await store.put("resource", b"1", ttl_ms=30)
    await under_test.advance(40)
    assert await store.find("resource") is None
    assert (await store.compare_and_set("resource", expected=etag, value=b"2")).outcome is CasOutcome.MISSING


HOSTILE = [
    "",
    ":",
    "a:b",
    "{}",
    "a}{b",
    "a b",
    "a\n",
    "\na",
    "a\r\nDEL x",
    "\0",
    "ä",
    "a\u0301",
    "\u202ea",
    "*",
    "?",
    "[a]",
]


@pytest.mark.parametrize(
    "resource", [*HOSTILE, "x" * 257, "x" * (1 << 20), None, b"bytes", 7], ids=lambda r: str(r)[:9]
)
async def test_a_resource_that_could_shape_a_key_is_refused_by_every_call(under_test: Any, resource: Any) -> None:
    store = under_test.etags.for_tenant(uuid4())
    for call in (
        store.put(resource, b"x"),
        store.find(resource),
        store.find_all(("fine", resource)),
        store.delete(resource),
        store.compare_and_set(resource, expected="", value=b"x"),
    ):
        with pytest.raises(Invalid):
            await call


@pytest.mark.parametrize(
    "tenant",
    ["", "*", "a:b", "}{", "0191e7c2-7d3b-7c4e-8f00-5a1b2c3d4e5f", b"x" * 16, 7, "x" * (1 << 20)],
    ids=lambda t: str(t)[:9],
)
async def test_only_a_uuid_names_a_tenant(under_test: Any, tenant: Any) -> None:
    with pytest.raises(Invalid):
        under_test.etags.for_tenant(tenant)
    with pytest.raises(Invalid):
        await under_test.etags.put("resource", b"x", tenant=tenant)


async def test_of_sixty_four_racing_writers_on_one_etag_one_wins(under_test: Any) -> None:
    store = under_test.etags.for_tenant(uuid4())
    first = await store.put("resource", b"0")
    calls = (store.compare_and_set("resource", expected=first, value=f"{n}".encode()) for n in range(1, 65))
    results = await asyncio.gather(*calls)
    (winner,) = [result for result in results if result]
    assert {result.etag for result in results} == {winner.etag}
    assert (await store.find("resource")).etag == winner.etag


async def test_an_entry_neither_ends_nor_lasts_by_a_jump_of_the_wall_clock(clock: Any) -> None:
    store = EmbeddedEtagStore(clock, tenant=uuid4(), ttl_ms=1_000)
    await store.put("resource", b"1")
    for seconds in (86_400, -172_800):
        clock.jump(seconds=seconds)
        assert await store.find("resource") is not None
    clock.turn(seconds=1)
    assert await store.find("resource") is None


async def test_every_key_lies_under_its_tenant_and_ends_by_itself(own_redis_server: Any) -> None:
    caches = open_caches(own_redis_server.url, SystemClock())
    one, other = uuid4(), uuid4()
    etag = await caches.etags.put("cards/trends", b"1", tenant=one)
    await caches.etags.put("cards/trends", b"2", tenant=other)
    await caches.etags.compare_and_set("cards/trends", expected=etag, value=b"3", tenant=one)
    link = caches.link  # type: ignore[attr-defined]
    keys = {key.decode() for key in await link.command("KEYS", "*")}
    assert keys == {f"tenantry:{{{tenant.hex}}}:etag:cards/trends" for tenant in (one, other)}
    for key in keys:
        assert 0 < await link.command("PTTL", key) <= 60_000
    await caches.close()


async def test_values_and_times_to_live_are_bounded(under_test: Any) -> None:
    store = under_test.etags.for_tenant(uuid4())
    for value, ttl in ((b"x" * ((1 << 20) + 1), 1), (b"x", 0), (b"x", -1), (b"x", 1.5), (b"x", 1 << 40)):
        with pytest.raises(Invalid):
            await store.put("resource", value, ttl_ms=ttl)


async def test_who_holds_the_most_is_evicted_first(clock: Any) -> None:
    store = EmbeddedEtagStore(clock, limit_bytes=100_000)
    modest, greedy = store.for_tenant(uuid4()), store.for_tenant(uuid4())
    await modest.put("only", b"x" * 1000)
    for number in range(500):
        await greedy.put(f"r{number}", b"x" * 1000)
    assert await modest.find("only") is not None
    assert await greedy.find("r499") is not None
    assert await greedy.find("r0") is None
    assert store.bytes_held <= 100_000


async def test_a_store_that_is_down_says_so(own_redis_server: Any) -> None:
    caches = open_caches(own_redis_server.url, SystemClock())
    await caches.ready()
    own_redis_server.stop()
    store = caches.etags.for_tenant(uuid4())
    for call in (
        store.find("resource"),
        store.put("resource", b"x"),
        store.delete("resource"),
        store.compare_and_set("resource", expected="", value=b"x"),
    ):
        with pytest.raises(Unavailable) as refused:
            await call
        assert refused.value.code == "caches_unavailable"
    await caches.close()


async def test_a_store_killed_in_between_is_one_that_forgot(own_redis_server: Any) -> None:
    caches = open_caches(own_redis_server.url, SystemClock())
    store = caches.etags.for_tenant(uuid4())
    etag = await store.put("resource", b"1")
    own_redis_server.kill()
    with pytest.raises(Unavailable):
        await store.compare_and_set("resource", expected=etag, value=b"2")
    own_redis_server.start()
    async with asyncio.timeout(10):
        # The connection of before is found broken once, and then made anew.
        while True:
            with contextlib.suppress(Unavailable):
                found = await store.compare_and_set("resource", expected=etag, value=b"2")
                break
    assert found.outcome is CasOutcome.MISSING
    await caches.close()
