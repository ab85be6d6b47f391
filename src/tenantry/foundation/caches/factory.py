from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from tenantry.foundation.caches.embedded_etags import EmbeddedEtagStore
from tenantry.foundation.caches.embedded_limiter import EmbeddedRateLimiter
from tenantry.foundation.caches.embedded_replays import EmbeddedReplayGuard
from tenantry.foundation.caches.leased_limiter import LeasedRateLimiter
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.caches.rules import tenant_prefix
from tenantry.foundation.clock import Clock

if TYPE_CHECKING:
    from tenantry.foundation.caches.redis_adapters import RedisEtagStore, RedisReplayGuard
    from tenantry.foundation.caches.redis_link import RedisLink


def open_caches(url: str | None, clock: Clock, *, etag_ttl_ms: int = 60_000, replay_window_ms: int = 300_000) -> Caches:
    """Open a cell's caches: Redis or Valkey at `url`, else plain Python for exactly one server process.

    Connects at the first use; `ready()` at start tells whether it answers. Raises Invalid for an unknown scheme.
    """
    if url is None:
        return _EmbeddedCaches(
            EmbeddedRateLimiter(clock),
            EmbeddedEtagStore(clock, ttl_ms=etag_ttl_ms),
            EmbeddedReplayGuard(clock, window_ms=replay_window_ms),
        )
    # The client costs 32 MiB and 0.3 s: only a server that is pointed at Redis pays for it.
    from tenantry.foundation.caches.redis_adapters import RedisEtagStore, RedisRateLimiter, RedisReplayGuard
    from tenantry.foundation.caches.redis_link import RedisLink

    link = RedisLink(url)
    limiter = LeasedRateLimiter(RedisRateLimiter(link), clock)
    link.on_connect(limiter.clear)
    return _RedisCaches(
        limiter,
        RedisEtagStore(link, ttl_ms=etag_ttl_ms),
        RedisReplayGuard(link, window_ms=replay_window_ms),
        link,
    )


@dataclass(frozen=True, slots=True)
class _EmbeddedCaches:
    limiter: EmbeddedRateLimiter
    etags: EmbeddedEtagStore
    replays: EmbeddedReplayGuard

    async def ready(self) -> None:
        """Return at once: there is nobody to ask."""

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Never call back: it ends with its process."""

    async def forget(self, tenant: UUID) -> int:
        return self.limiter.forget(tenant) + self.etags.forget(tenant) + self.replays.forget(tenant)

    async def close(self) -> None:
        """Keep nothing open."""


@dataclass(frozen=True, slots=True)
class _RedisCaches:
    limiter: LeasedRateLimiter
    etags: "RedisEtagStore"
    replays: "RedisReplayGuard"
    link: "RedisLink"

    async def ready(self) -> None:
        await self.link.ready()
        await self.replays.look_back()

    def on_connect(self, callback: Callable[[], None]) -> None:
        self.link.on_connect(callback)

    async def forget(self, tenant: UUID) -> int:
        removed = await self.link.remove_below(tenant_prefix(tenant))
        self.limiter.forget(tenant)
        return removed

    async def close(self) -> None:
        await self.link.close()
