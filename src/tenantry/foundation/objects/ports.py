from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """`size` in bytes; `sha256` of the content, hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    key: str
    size: int


class ObjectStore(Protocol):
    """Objects of many tenants; each call sees one of them.

    A key is one to 32 segments of `[A-Za-z0-9._-]`, joined by `/`, none of them `.` or `..`, each at most 128
    characters, all together 512. All calls raise Invalid `object_key_malformed` for any other, Unavailable when the
    store does not answer or is full (a retry is safe), Fault `object_damaged` when content does not match its digest.
    """

    async def put(self, tenant_id: UUID, key: str, content: AsyncIterator[bytes] | bytes) -> ObjectStat:
        """Store or replace, whole or not at all; a reader that has begun keeps what it began."""
        ...

    def get(self, tenant_id: UUID, key: str) -> AsyncGenerator[bytes, None]:
        """Stream the content; the first step raises NotFound `object_absent`, the last one Fault when damaged."""
        ...

    async def stat(self, tenant_id: UUID, key: str) -> ObjectStat:
        """Tell size and digest without reading the content; raises NotFound `object_absent`."""
        ...

    async def delete(self, tenant_id: UUID, key: str) -> None:
        """Idempotent."""
        ...

    def list_objects(self, tenant_id: UUID, prefix: str = "") -> AsyncGenerator[ObjectEntry, None]:
        """List in byte order of the keys. `prefix` is whole segments: `jobs/a` has `jobs/a/log`, not `jobs/ab`."""
        ...

    async def delete_all(self, tenant_id: UUID) -> None:
        """Remove every object of the tenant, unfinished writes too; idempotent, to be repeated after Unavailable."""
        ...

    async def clear_unfinished(self, tenant_id: UUID, before: datetime) -> int:
        """Remove what writes that died before that moment left behind; returns how many."""
        ...

    async def close(self) -> None: ...
