"""The key-value stores of the regions that a server process serves."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.clock import Clock
from tenantry.foundation.settings import Settings


def caches_of(settings: Settings, region: str, clock: Clock) -> Caches:
    """Make a region's caches; nothing is connected yet. Raises Invalid for an address that is none."""
    configured = settings.regions.get(region)
    url = configured.redis_url if configured else None
    return open_caches(
        url.get_secret_value() if url else None,
        clock,
        etag_ttl_ms=settings.caches.etag_ttl_ms,
        replay_window_ms=settings.caches.replay_window_ms,
    )


@asynccontextmanager
async def open_stores(settings: Settings, *, regions: Iterable[str], clock: Clock) -> AsyncIterator[dict[str, Caches]]:
    """Open the caches of these regions, closes them again.

    Raises Unavailable when a store does not answer, Fault when it would forget nonces: nothing is served then.
    """
    async with AsyncExitStack() as stack:
        stores: dict[str, Caches] = {}
        for region in regions:
            caches = stores[region] = caches_of(settings, region, clock)
            stack.push_async_callback(caches.close)
            await caches.ready()
        yield stores
