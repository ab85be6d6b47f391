"""The roots of tenants' images on this machine, for moves and erasures."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID

from tenantry.capabilities.sandboxes.service.images import ImageLibrary
from tenantry.capabilities.tenants.types import StoredThing, StoreTally
from tenantry.engines.jail.directory_image import archive_bytes, archive_of
from tenantry.engines.jail.tree import Caps
from tenantry.foundation.objects.threads import in_thread

_ALGORITHM: Final = "sha256:"


class TenantImages:
    """The `TenantStore` of image roots, by region; a root is named by the digest of its content."""

    def __init__(self, libraries: Mapping[str, ImageLibrary]) -> None:
        self._libraries = libraries

    async def copy(self, tenant_id: UUID, *, source: str, target: str) -> int:
        """Copy roots that are not there yet, each whole or not at all."""
        ours, theirs = (self._libraries[region].directory(tenant_id) / "sha256" for region in (source, target))
        roots = await asyncio.to_thread(lambda: list(ours.glob("*")))
        for root in roots:
            # One that is called off in between still waits for its root: it must not go on beside an erasure.
            await in_thread(_copy, root, theirs)
        return len(roots)

    async def measure(self, tenant_id: UUID, *, region: str) -> StoreTally:
        place = self._libraries[region].directory(tenant_id) / "sha256"
        return StoreTally(await asyncio.to_thread(lambda: len(list(place.glob("*")))))

    async def things(self, tenant_id: UUID, *, region: str) -> AsyncIterator[StoredThing]:
        """Give each root as a tar, named by the hexadecimal of its digest."""
        if not await asyncio.to_thread(self._libraries[region].directory(tenant_id).is_dir):
            return
        store = await self._libraries[region].store(tenant_id)
        for image in await asyncio.to_thread(store.list):
            size = await asyncio.to_thread(archive_bytes, image.path)
            about = {"name": image.name, "env": dict(image.env), "workdir": image.workdir}
            name = image.digest.removeprefix(_ALGORITHM)
            yield StoredThing(name, size, _in_threads(archive_of(image.path)), about)

    async def restore(
        self, tenant_id: UUID, *, region: str, name: str, size: int, about: Mapping[str, Any], content: BinaryIO
    ) -> None:
        """Unpack a root under its digest, by the rules of an import; raises ImageInvalid for a hostile one."""
        store = await self._libraries[region].store(tenant_id)
        await asyncio.to_thread(store.restore, f"{_ALGORITHM}{name}", content, about=about, caps=Caps(bytes=size))

    async def erase(self, tenant_id: UUID, *, region: str) -> int:
        """Remove all roots and unfinished imports; tells how many roots."""
        library = self._libraries[region]
        library.forget(tenant_id)
        place = library.directory(tenant_id)
        count = len(list((place / "sha256").glob("*")))
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
        return count


def _copy(root: Path, target: Path) -> None:
    place = target / root.name
    if not place.is_dir():
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = target.parent / f"copy-{root.name}"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(root, fresh, symlinks=True)
        fresh.rename(place)


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
