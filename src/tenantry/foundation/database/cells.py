"""The cells this process serves. A region is a cell with its own database; a process holds no other's credentials."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from tenantry.foundation.changes import EVERYTHING, ChangeKeeper
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.context import ContextSigner, derive_context_key
from tenantry.foundation.database.link import Link
from tenantry.foundation.database.places import SHARED, Locator, Place, Places, is_schema
from tenantry.foundation.database.pool import SessionPool, database_errors, open_pool
from tenantry.foundation.database.session import TenantSession, Vault
from tenantry.foundation.errors import WrongRegion
from tenantry.foundation.scope import TenantScope

_PING = "select 1"


@dataclass(frozen=True, slots=True)
class Cell:
    """One region's database, or databases, as the application sees them."""

    region: str
    places: Places
    signer: ContextSigner
    keeper: ChangeKeeper | None = None
    """None: whoever vouches hears of changes from the news alone."""
    vault: Vault | None = None
    """What its sessions seal personal data with."""

    @property
    def pool(self) -> SessionPool:
        """Connections to the shared place."""
        return self.places.shared.pool

    @property
    def link(self) -> Link:
        """The news of the cell's own database."""
        return self.places.link

    def fresh_for(self, tenant_id: UUID) -> bool:
        """Say whether what was cached of a tenant may be believed: news of it would have been heard."""
        place = self.places.known(tenant_id)
        return place is not None and is_schema(place.name) and self.link.fresh

    def session(
        self, scope: TenantScope, *, lifecycle: bool = False, beside: bool = False, lock_seconds: float | None = None
    ) -> TenantSession:
        """Open a session at the tenant's place; no connection is taken before its first query.

        `beside` where whoever opens it may hold another; this and `lock_seconds`: see `TenantSession`.
        """
        # A link that has measured the database's clock keeps contexts valid on machines whose clocks disagree.
        self.signer.clock_offset = self.link.clock_offset
        return TenantSession(
            places=self.places,
            signer=self.signer,
            scope=scope,
            lifecycle=lifecycle,
            beside=beside,
            lock_seconds=lock_seconds,
            keeper=self.keeper,
            vault=self.vault,
        )

    async def session_at(self, place: str, scope: TenantScope, *, lifecycle: bool = False) -> TenantSession:
        """Open a session at a place of this cell, wherever the directory says that the tenant is."""
        self.signer.clock_offset = self.link.clock_offset
        at = await self.places.open(place)
        return TenantSession(
            places=self.places,
            signer=self.signer,
            scope=scope,
            lifecycle=lifecycle,
            at=at,
            keeper=self.keeper,
            vault=self.vault,
        )

    @asynccontextmanager
    async def all_changes(self, tenant_id: UUID) -> AsyncIterator[None]:
        """Let nobody vouch for anything of a tenant while work on its whole commits."""
        if self.keeper is not None:
            await self.keeper.close(tenant_id, (EVERYTHING,))
        yield
        if self.keeper is not None:
            await self.keeper.open(tenant_id, (EVERYTHING,))

    async def ping(self) -> None:
        """Ask the database for a sign of life; raises Unavailable."""
        with database_errors():
            await self.pool.execute(_PING)

    async def start(self) -> None:
        """Begin to hear news; raises Unavailable when the database does not answer."""
        await self.link.start()

    async def close(self) -> None:
        await self.places.close()


async def open_cell(
    region: str,
    dsn: str,
    *,
    context_master: bytes,
    pool_size: int,
    clock: Clock,
    locate: Locator | None = None,
    keeper: ChangeKeeper | None = None,
    vault: Vault | None = None,
) -> Cell:
    """Open pool and link (not yet started); raises Unavailable when the database does not answer.

    `locate` tells where a tenant's rows lie; without it all lie in the shared schema.
    """
    pool = await open_pool(dsn, search_path=SHARED, max_size=pool_size)
    signer = ContextSigner(key=derive_context_key(master=context_master, region=region))
    places = Places(dsn=dsn, shared=Place(SHARED, pool), link=Link(dsn, clock=clock), locate=locate, clock=clock)
    return Cell(region=region, places=places, signer=signer, keeper=keeper, vault=vault)


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

    def session(
        self, scope: TenantScope, *, lifecycle: bool = False, beside: bool = False, lock_seconds: float | None = None
    ) -> TenantSession:
        cell = self.get(scope.region)
        return cell.session(scope, lifecycle=lifecycle, beside=beside, lock_seconds=lock_seconds)

    async def close(self) -> None:
        for cell in self:
            await cell.close()
