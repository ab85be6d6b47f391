"""Removes from a machine the roots of images that nobody names any more, and uploads that died on the way."""

import asyncio
import contextlib
import shutil
import time
from pathlib import Path
from typing import Final

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.images import ImageLibrary
from tenantry.engines.jail.errors import ImageNotFound
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.scope import SYSTEM, TenantScope

_SETTLED_SECONDS: Final = 3600.0
"""An import that is younger may not have its row yet."""


async def sweep_images(library: ImageLibrary, *, cell: Cell, settled_seconds: float = _SETTLED_SECONDS) -> int:
    """Remove what no image and no open job of its tenant starts from; tells how many roots. Safe to repeat.

    What an import or a pull that died left goes at once, whatever its age: those under way hold a lock.
    """
    removed = 0
    for tenant_id in await asyncio.to_thread(library.tenants):
        store = await library.store(tenant_id)
        await asyncio.to_thread(store.sweep)
        found = await asyncio.to_thread(_settled, library.directory(tenant_id), settled_seconds)
        if not found:
            continue
        scope = TenantScope(tenant_id=tenant_id, region=cell.region, actor=SYSTEM)
        async with cell.session(scope, lifecycle=True) as session:
            wanted = await repository.list_wanted_digests(session)
        unwanted = found - wanted
        if unwanted:  # none that has been imported again meanwhile
            unwanted &= await asyncio.to_thread(_settled, library.directory(tenant_id), settled_seconds)
        for digest in unwanted:
            with contextlib.suppress(ImageNotFound):
                await asyncio.to_thread(store.remove, digest)
                removed += 1
    return removed


def _settled(directory: Path, seconds: float) -> set[str]:
    """List digests, by the time of their last import; and delete as old uploads and copies that a move had begun."""
    before = time.time() - seconds
    for unfinished in (*(directory / "uploads").glob("import-*"), *directory.glob("copy-*")):
        if _modified(unfinished) < before:
            shutil.rmtree(unfinished, ignore_errors=True)
    places = (directory / "sha256").glob("*")
    return {f"sha256:{place.name}" for place in places if _modified(place) < before}


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
