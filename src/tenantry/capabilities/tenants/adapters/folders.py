"""The directory of a tenant in each region: what no other store counts as its own."""

import asyncio
import shutil
from pathlib import Path
from uuid import UUID

from tenantry.capabilities.tenants.types import StoreTally
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.objects.keys import folder_of


class TenantFolders:
    """The `TenantStore` of `<home>/<region>/<tenant>`; what is worth keeping in there is some other store's to copy."""

    def __init__(self, home: Path) -> None:
        self._home = home

    async def copy(self, tenant_id: UUID, *, source: str, target: str) -> int:
        """Take nothing along: what other stores do not copy is unfinished."""
        del tenant_id, source, target
        return 0

    async def measure(self, tenant_id: UUID, *, region: str) -> StoreTally:
        return StoreTally(int(await asyncio.to_thread(self._folder(tenant_id, region).is_dir)))

    async def erase(self, tenant_id: UUID, *, region: str) -> int:
        """Remove the whole folder; raises Unavailable `folder_stays` when the machine does not let go of it."""
        folder = self._folder(tenant_id, region)
        there = await asyncio.to_thread(folder.is_dir)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if await asyncio.to_thread(folder.exists):
            raise Unavailable("folder_stays", "a directory of this tenant could not be removed yet", layer="tenants")
        return int(there)

    def _folder(self, tenant_id: UUID, region: str) -> Path:
        return self._home / region / folder_of(tenant_id)
