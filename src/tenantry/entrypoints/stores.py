"""What a process opens of its regions beside their databases: key-value stores, buckets, the view of the queue."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from tenantry.capabilities.sandboxes.service import QueueView
from tenantry.entrypoints.addresses import Addresses
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.settings import Settings

if TYPE_CHECKING:
    from tenantry.foundation.objects.s3 import Bucket


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


async def open_queues(addresses: Addresses, *, regions: Iterable[str], stack: AsyncExitStack) -> dict[str, QueueView]:
    """Open the view of each cell's queue; it is seldom asked, so it keeps no connection."""
    views = {}
    for region in regions:
        dsn = addresses.cells[region].dispatcher
        pool = await open_pool(dsn, search_path="queue", min_size=0, max_size=2, idle_seconds=5.0)
        stack.push_async_callback(pool.close)
        views[region] = QueueView(pool)
    return views


def bucket_of(settings: Settings, region: str) -> "Bucket | None":
    configured = settings.regions.get(region)
    if configured is None or configured.bucket is None:
        return None
    from tenantry.foundation.objects.s3 import Bucket

    bucket = configured.bucket
    secret = bucket.secret_access_key
    return Bucket(
        name=bucket.name,
        region=bucket.region or region,
        prefix=bucket.prefix,
        endpoint_url=bucket.endpoint_url,
        access_key_id=bucket.access_key_id,
        secret_access_key=secret.get_secret_value() if secret else None,
    )
