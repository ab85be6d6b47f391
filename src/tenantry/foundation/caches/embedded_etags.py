from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from tenantry.foundation.caches.ports import CasOutcome, CasResult, EtagEntry
from tenantry.foundation.caches.rules import etag_key, etag_of, tenant_of, ttl_of
from tenantry.foundation.clock import Clock

# What one entry costs beside its key and value, measured with tracemalloc on CPython 3.11.
_OVERHEAD_BYTES = 512


@dataclass(slots=True)
class _Shelf:
    """One tenant's entries, least recently used first."""

    entries: OrderedDict[str, tuple[EtagEntry, float]] = field(default_factory=OrderedDict)
    bytes: int = 0


@dataclass(slots=True)
class _Storage:
    limit_bytes: int
    shelves: dict[UUID, _Shelf] = field(default_factory=dict)
    bytes: int = 0

    def drop(self, tenant: UUID, key: str) -> None:
        shelf = self.shelves.get(tenant)
        found = shelf.entries.pop(key, None) if shelf else None
        if shelf is None or found is None:
            return
        size = _size(key, found[0])
        shelf.bytes -= size
        self.bytes -= size
        if not shelf.entries:
            del self.shelves[tenant]

    def drop_all(self, tenant: UUID) -> int:
        shelf = self.shelves.pop(tenant, None)
        if shelf is None:
            return 0
        self.bytes -= shelf.bytes
        return len(shelf.entries)

    def keep(self, tenant: UUID, key: str, entry: EtagEntry, until: float) -> None:
        self.drop(tenant, key)
        shelf = self.shelves.setdefault(tenant, _Shelf())
        shelf.entries[key] = entry, until
        shelf.bytes += _size(key, entry)
        self.bytes += _size(key, entry)
        while self.bytes > self.limit_bytes:
            fullest = max(self.shelves, key=lambda owner: self.shelves[owner].bytes)
            self.drop(fullest, next(iter(self.shelves[fullest].entries)))


def _size(key: str, entry: EtagEntry) -> int:
    return len(key) + len(entry.value) + _OVERHEAD_BYTES


class EmbeddedEtagStore:
    """At most `limit_bytes` for all tenants; who holds the most is evicted first, least recently used entry first."""

    def __init__(
        self,
        clock: Clock,
        *,
        tenant: UUID | None = None,
        ttl_ms: int = 60_000,
        limit_bytes: int = 32 << 20,
        storage: _Storage | None = None,
    ) -> None:
        self._clock = clock
        self._tenant = tenant
        self._ttl_ms = ttl_of(ttl_ms, ttl_ms)
        self._storage = storage or _Storage(limit_bytes)

    def for_tenant(self, tenant: UUID) -> Self:
        return type(self)(self._clock, tenant=tenant_of(tenant, None), ttl_ms=self._ttl_ms, storage=self._storage)

    @property
    def bytes_held(self) -> int:
        return self._storage.bytes

    async def find(self, resource: str, *, tenant: UUID | None = None) -> EtagEntry | None:
        owner = tenant_of(tenant, self._tenant)
        return self._alive(owner, etag_key(owner, resource))

    async def find_all(self, resources: Sequence[str], *, tenant: UUID | None = None) -> list[EtagEntry | None]:
        owner = tenant_of(tenant, self._tenant)
        return [self._alive(owner, key) for key in [etag_key(owner, resource) for resource in resources]]

    async def put(self, resource: str, value: bytes, *, tenant: UUID | None = None, ttl_ms: int | None = None) -> str:
        owner = tenant_of(tenant, self._tenant)
        return self._keep(owner, etag_key(owner, resource), value, ttl_ms)

    async def compare_and_set(
        self,
        resource: str,
        *,
        expected: str | None,
        value: bytes,
        tenant: UUID | None = None,
        ttl_ms: int | None = None,
    ) -> CasResult:
        owner = tenant_of(tenant, self._tenant)
        key = etag_key(owner, resource)
        present = self._alive(owner, key)
        if present is None and expected is not None:
            return CasResult(CasOutcome.MISSING, None)
        if present is not None and present.etag != expected:
            return CasResult(CasOutcome.CHANGED, present.etag)
        return CasResult(CasOutcome.STORED, self._keep(owner, key, value, ttl_ms))

    async def delete(self, resource: str, *, tenant: UUID | None = None) -> None:
        owner = tenant_of(tenant, self._tenant)
        self._storage.drop(owner, etag_key(owner, resource))

    def forget(self, tenant: UUID) -> int:
        return self._storage.drop_all(tenant)

    def _keep(self, owner: UUID, key: str, value: bytes, ttl_ms: int | None) -> str:
        entry = EtagEntry(etag_of(value), value)
        until = self._clock.monotonic() + ttl_of(ttl_ms, self._ttl_ms) / 1000
        self._storage.keep(owner, key, entry, until)
        return entry.etag

    def _alive(self, owner: UUID, key: str) -> EtagEntry | None:
        shelf = self._storage.shelves.get(owner)
        if shelf is None or key not in shelf.entries:
            return None
        entry, until = shelf.entries[key]
        if until <= self._clock.monotonic():
            self._storage.drop(owner, key)
            return None
        shelf.entries.move_to_end(key)
        return entry
