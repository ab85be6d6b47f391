"""The objects of tenants, by region."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, BinaryIO, Final
from uuid import UUID

from tenantry.capabilities.tenants.errors import archive_refused
from tenantry.capabilities.tenants.types import EXPORTS, StoredThing, StoreTally
from tenantry.foundation.errors import Fault, NotFound
from tenantry.foundation.objects.ports import ObjectStore

_PIECE_BYTES: Final = 1 << 20


class TenantObjects:
    """The `TenantStore` of objects. Content stays sealed: it is copied as it lies."""

    def __init__(self, objects: Mapping[str, ObjectStore]) -> None:
        self._objects = objects

    async def copy(self, tenant_id: UUID, *, source: str, target: str) -> int:
        """Copy what is not there yet, and compare digests; raises Fault `copy_differs`."""
        ours, theirs = self._objects[source], self._objects[target]
        count = 0
        async for entry in ours.list_objects(tenant_id):
            wanted = await ours.stat(tenant_id, entry.key)
            stored = await theirs.put(tenant_id, entry.key, ours.get(tenant_id, entry.key))
            if stored != wanted:
                raise Fault("copy_differs", f"object {entry.key} did not arrive as it was", layer="objects")
            count += 1
        return count

    async def measure(self, tenant_id: UUID, *, region: str) -> StoreTally:
        count = size = 0
        async for entry in self._objects[region].list_objects(tenant_id):
            count, size = count + 1, size + entry.size
        return StoreTally(count, size)

    async def things(self, tenant_id: UUID, *, region: str) -> AsyncIterator[StoredThing]:
        """Give each object as it lies, sealed, by its key; former exports stay behind."""
        objects = self._objects[region]
        async for entry in objects.list_objects(tenant_id):
            if not entry.key.startswith(EXPORTS):
                content = objects.get(tenant_id, entry.key)
                try:
                    size = (await objects.stat(tenant_id, entry.key)).size
                    first = await anext(content, b"")
                except NotFound:  # purged meanwhile
                    continue
                yield StoredThing(entry.key, size, _chained(first, content))

    async def restore(
        self, tenant_id: UUID, *, region: str, name: str, size: int, about: Mapping[str, Any], content: BinaryIO
    ) -> None:
        """Put an object back under its key; what `about` says means nothing to objects."""
        del about
        if name.startswith(EXPORTS):
            raise archive_refused("objects", f"the object {name[:80]!r} has no place in an archive")
        stat = await self._objects[region].put(tenant_id, name, _read(content))
        if stat.size != size:
            raise archive_refused("objects", f"the object {name[:80]!r} is not of the size that was told")

    async def erase(self, tenant_id: UUID, *, region: str) -> int:
        """Remove all, and look that nothing is left."""
        objects = self._objects[region]
        count = len([entry async for entry in objects.list_objects(tenant_id)])
        await objects.delete_all(tenant_id)
        return count


async def _chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


async def _read(content: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(content.read, _PIECE_BYTES):
        yield piece
