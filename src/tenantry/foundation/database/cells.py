"""The cells this process serves. A region is a cell with its own database; a process holds no other's credentials."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenantry.foundation.clock import Clock
from tenantry.foundation.database.context import ContextSigner, derive_context_key
from tenantry.foundation.database.link import Link
from tenantry.foundation.database.pool import SessionPool, database_errors, open_pool
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import WrongRegion
from tenantry.foundation.scope import TenantScope

SHARED: Final = "tenantry"
"""The schema that tenants share; also the name of that place in the directory."""
_PING = "select 1"


@dataclass(frozen=True, slots=True)
class Cell:
    """One region's database as the application sees it."""

    region: str
    pool: SessionPool
    signer: ContextSigner
    link: Link

    def session(self, scope: TenantScope, *, lifecycle: bool = False) -> TenantSession:
        """Open a session at the tenant's place; no connection is taken before its first query."""
        # A link that has measured the database's clock keeps contexts valid on machines whose clocks disagree.
        self.signer.clock_offset = self.link.clock_offset
        return TenantSession(pool=self.pool, signer=self.signer, scope=scope, lifecycle=lifecycle)

    async def ping(self) -> None:
        """Ask the database for a sign of life; raises Unavailable."""
        with database_errors():
            await self.pool.execute(_PING)


async def open_cell(region: str, dsn: str, *, context_master: bytes, pool_size: int, clock: Clock) -> Cell:
    """Open pool and link (not yet started); raises Unavailable when the database does not answer."""
    pool = await open_pool(dsn, search_path="tenantry", max_size=pool_size)
    signer = ContextSigner(key=derive_context_key(master=context_master, region=region))
    return Cell(region=region, pool=pool, signer=signer, link=Link(dsn, clock=clock))


class Cells:
    """All cells of this process, by region."""

    def __init__(self, cells: dict[str, Cell]) -> None:
        self._cells = cells

    def get(self, region: str) -> Cell:
        """Find the cell; raises WrongRegion `wrong_region` for one that this process does not serve."""
        cell = self._cells.get(region)
        if cell is None:
            raise WrongRegion("wrong_region", f"this server does not serve the region {region}", layer="cells")
        return cell

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._cells.values())

    def session(self, scope: TenantScope, *, lifecycle: bool = False) -> TenantSession:
        return self.get(scope.region).session(scope, lifecycle=lifecycle)

    async def close(self) -> None:
        for cell in self:
            await cell.link.stop()
            await cell.pool.close()
