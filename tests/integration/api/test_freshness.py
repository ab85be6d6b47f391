"""Signed calls pass once, within the window and their tenant's clock skew; without the store none passes."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.contract.conftest import RedisServer, running_redis
from tests.integration.api.conftest import Beside

from tenantry.capabilities.access.types import Caller
from tenantry.capabilities.tenants.types import REVOCATIONS
from tenantry.entrypoints.stores import open_stores
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Conflict, Invalid, Unauthenticated, Unavailable
from tenantry.foundation.settings import CacheSettings, load_settings
from tenantry.interfaces.api.freshness import require_fresh
from tenantry.interfaces.api.runtime import Runtime

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.one_strategy]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
async def caches(request: pytest.FixtureRequest) -> AsyncIterator[Caches]:
    url = request.getfixturevalue("redis").url if request.param == "redis" else None
    opened = open_caches(url, SystemClock())
    await opened.ready()
    # What was signed before the guard began is refused: the first calls come after it.
    await asyncio.sleep(0.002)
    yield opened
    await opened.close()


def _runtime(beside: Beside, caches: Caches) -> Runtime:
    runtime: Runtime = next(route.runtime for route in beside.app.routes if hasattr(route, "runtime"))
    return replace(runtime, caches={"us": caches, "eu": caches})


async def _calling(runtime: Runtime, tenant: Tenant) -> tuple[Runtime, Caller]:
    return runtime, await runtime.admission.authenticate(tenant.bootstrap_key, ip=None)


def _now_ms() -> int:
    return int(SystemClock().now().timestamp() * 1000)


async def test_a_signed_call_passes_once_for_its_tenant(
    beside: Beside, caches: Caches, acme: Tenant, globex: Tenant
) -> None:
    runtime = _runtime(beside, caches)
    one, other = await _calling(runtime, acme), await _calling(runtime, globex)
    nonce, now = secrets.token_hex(16), _now_ms()
    await require_fresh(*one, nonce=nonce, timestamp_ms=now)
    for again in (now, now + 1):
        with pytest.raises(Conflict) as refused:
            await require_fresh(*one, nonce=nonce, timestamp_ms=again)
        assert refused.value.code == "replayed"
    await require_fresh(*other, nonce=nonce, timestamp_ms=now)


async def test_of_racing_replays_one_passes(beside: Beside, caches: Caches, acme: Tenant) -> None:
    unit = await _calling(_runtime(beside, caches), acme)
    nonce, now = secrets.token_hex(16), _now_ms()
    calls = (require_fresh(*unit, nonce=nonce, timestamp_ms=now) for _ in range(64))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(answer is None for answer in answers) == 1
    assert {type(answer) for answer in answers} == {type(None), Conflict}


async def test_what_is_too_old_or_too_far_ahead_is_401(beside: Beside, caches: Caches, acme: Tenant) -> None:
    unit = await _calling(_runtime(beside, caches), acme)
    for shift in (-301_000, -86_400_000, 6_000, 86_400_000):
        with pytest.raises(Unauthenticated) as refused:
            await require_fresh(*unit, nonce=secrets.token_hex(8), timestamp_ms=_now_ms() + shift)
        assert refused.value.code == "timestamp_out_of_window"


@pytest.mark.parametrize("skew_ms", [0, 60_000])
async def test_the_tenant_says_how_far_ahead_its_clocks_may_be(
    beside: Beside, caches: Caches, make_tenant: MakeTenant, skew_ms: int
) -> None:
    unit = await _calling(_runtime(beside, caches), make_tenant(clock_skew_ms=skew_ms))
    assert unit[1].clock_skew_ms == skew_ms
    if skew_ms:
        await require_fresh(*unit, nonce="within", timestamp_ms=_now_ms() + skew_ms - 5_000)
    with pytest.raises(Unauthenticated):
        await require_fresh(*unit, nonce="beyond", timestamp_ms=_now_ms() + skew_ms + 5_000)


async def test_a_changed_skew_is_announced_to_every_process(beside: Beside, make_tenant: MakeTenant) -> None:
    """What is cached of a caller ends with it; any other change of the tenant leaves callers as they are."""
    runtime = _runtime(beside, open_caches(None, SystemClock()))
    tenant, heard = make_tenant(clock_skew_ms=1_000), asyncio.Event()
    unit = await _calling(runtime, tenant)
    assert unit[1].clock_skew_ms == 1_000

    def hear(payload: str) -> None:
        if payload == unit[1].tenant_id.hex:
            heard.set()

    runtime.cells.get("us").link.subscribe(REVOCATIONS, hear)
    for field, value in (("name", "renamed"), ("clock_skew_ms", 2_000)):
        assert not heard.is_set(), field
        answer = await asyncio.to_thread(tenant.owner.patch, f"/tenants/{tenant.id}", json={field: value})
        assert answer.status_code == 200
    await asyncio.wait_for(heard.wait(), 10)
    assert (await _calling(runtime, tenant))[1].clock_skew_ms == 2_000


@pytest.mark.parametrize("nonce", ["", "a:b", "{x}", "a\n", "ä", "x" * (1 << 20), "\0", "*"])
async def test_a_nonce_that_could_shape_a_key_is_refused(
    nonce: str, beside: Beside, caches: Caches, acme: Tenant
) -> None:
    with pytest.raises(Invalid):
        await require_fresh(*await _calling(_runtime(beside, caches), acme), nonce=nonce, timestamp_ms=_now_ms())


async def test_without_the_store_nothing_passes_and_it_does_again_with_it(beside: Beside, acme: Tenant) -> None:
    with running_redis() as server:
        caches = open_caches(server.url, SystemClock())
        await caches.ready()
        unit = await _calling(_runtime(beside, caches), acme)
        signed = _now_ms() + 1_000
        await require_fresh(*unit, nonce="first", timestamp_ms=signed)
        server.stop()
        for nonce in ("first", "second"):
            with pytest.raises(Unavailable) as refused:
                await require_fresh(*unit, nonce=nonce, timestamp_ms=signed)
            assert refused.value.code == "caches_unavailable"
        server.start()
        with pytest.raises((Unauthenticated, Unavailable)):
            # Signed before the store lost its memory: it cannot know whether this one was made.
            await require_fresh(*unit, nonce="second", timestamp_ms=_now_ms() - 10)
        await asyncio.sleep(0.01)
        await require_fresh(*unit, nonce="third", timestamp_ms=_now_ms() + 500)
        await caches.close()


async def test_the_settings_window_rules(installation: Installation, beside: Beside, acme: Tenant) -> None:
    settings = installation.settings.model_copy(update={"caches": CacheSettings(replay_window_ms=40, etag_ttl_ms=40)})
    async with open_stores(settings, regions=("us",), clock=SystemClock()) as stores:
        unit = await _calling(_runtime(beside, stores["us"]), acme)
        await asyncio.sleep(0.05)
        with pytest.raises(Unauthenticated):
            await require_fresh(*unit, nonce="old", timestamp_ms=_now_ms() - 45)
        etags = stores["us"].etags.for_tenant(UUID(int=1))
        await etags.put("resource", b"x")
        assert await etags.find("resource") is not None
        await asyncio.sleep(0.05)
        assert await etags.find("resource") is None


def test_the_defaults_are_a_minute_and_five(tmp_path: Any) -> None:
    caches = load_settings(home=tmp_path).caches
    assert (caches.etag_ttl_ms, caches.replay_window_ms) == (60_000, 300_000)
