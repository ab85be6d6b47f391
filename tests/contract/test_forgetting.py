"""A tenant that is gone leaves nothing in the key-value store, and takes nothing of others along."""

from uuid import uuid4

from tests.contract.conftest import CachesUnderTest

from tenantry.foundation.caches.ports import RateLimit


async def test_forgetting_a_tenant_removes_its_entries_and_no_others(under_test: CachesUnderTest) -> None:
    gone, stays = uuid4(), uuid4()
    now = under_test.now_ms()
    for tenant in (gone, stays):
        await under_test.etags.put("a/b", b"value", tenant=tenant)
        await under_test.etags.put("a/c", b"value", tenant=tenant)
        assert await under_test.replays.allow_once("nonce-1", now + 1, tenant=tenant)
        assert await under_test.limiter.admit([RateLimit(tenant, "calls", 1, 60_000)])
    assert await under_test.caches.forget(gone) == 4
    assert await under_test.caches.forget(gone) == 0
    assert await under_test.etags.find("a/b", tenant=gone) is None
    assert await under_test.limiter.admit([RateLimit(gone, "calls", 1, 60_000)])
    assert await under_test.etags.find("a/b", tenant=stays) is not None
    assert not await under_test.replays.allow_once("nonce-1", now + 1, tenant=stays)
    assert not await under_test.limiter.admit([RateLimit(stays, "calls", 1, 60_000)])
