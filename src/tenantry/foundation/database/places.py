"""Where the rows of a tenant lie in its cell: the shared schema, a schema of its own, a database of its own (ADR 0018).

The name of a place is what the directory keeps: `tenantry`, `t_…` (a schema of the cell's database), or anything else
(a database on the cell's server). A session is opened at its tenant's place; a place has its own connections, because
one that served several schemas would hold the tables of all in memory and plan each statement for each anew.

What is cached here needs no fresh link: a session at a place that its tenant has left is refused by the place itself
(`tenant_moved`), and the next one asks the directory.

A process listens to its cells' own databases alone. What is committed in a tenant's own is told there afterwards, as a
hint: whoever must not miss it looks from time to time, and nothing cached of such a tenant is believed.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg

from tenantry.foundation.clock import Clock
from tenantry.foundation.database.link import Link
from tenantry.foundation.database.migrate import cell_revision, head_revision
from tenantry.foundation.database.pool import SessionPool, database_errors, open_pool, tenant_moved
from tenantry.foundation.errors import TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, format_id

SHARED: Final = "tenantry"
"""The schema that tenants share; also the name of that place in the directory."""
_SCHEMA_PREFIX: Final = "t_"
PLACE_NEWS: Final = "tenantry_places"
"""NOTIFY channel of a cell; the payload is the place, in a database of its tenant's own, where something was done."""
_TELL: Final = "select pg_notify(n.channel, n.payload) from unnest($1::text[], $2::text[]) as n (channel, payload)"
_POOL_SIZE: Final = 4
_IDLE_SECONDS: Final = 4.0
_CACHED: Final = 100_000
_SETTLED_SECONDS: Final = 10.0
_BEHIND_SECONDS: Final = 60

Locator = Callable[[UUID], Awaitable[str | None]]
"""Tells the name of a tenant's place; None for one the directory does not know."""


@dataclass(frozen=True, slots=True)
class Place:
    """Connections of the application role to one place."""

    name: str
    pool: SessionPool


def schema_of(tenant_id: UUID) -> str:
    """Name the schema of a tenant's own."""
    return f"{_SCHEMA_PREFIX}{tenant_id.hex}"


def database_of(region: str, tenant_id: UUID) -> str:
    """Name the database of a tenant's own, on its cell's server."""
    return f"tenantry_{region.replace('-', '_')}_{tenant_id.hex}"


def is_schema(name: str) -> bool:
    """Say whether a place lies in the cell's own database."""
    return name == SHARED or name.startswith(_SCHEMA_PREFIX)


def schema_at(name: str) -> str:
    """Name the schema that holds the tables of a place."""
    return name if is_schema(name) else SHARED


def tenant_at(name: str) -> str:
    """Say whose a place is, for the log: the name of a database has the form of a key there, and is masked."""
    return name if name == SHARED else format_id(Prefix.TENANT, UUID(hex=name.rpartition("_")[2]))


def dsn_at(dsn: str, name: str) -> str:
    """Tell the address of a place's database from that of its cell's."""
    if is_schema(name):
        return dsn
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


class Places:
    """The places of one cell as one process sees them: opened when first needed, closed with it."""

    def __init__(self, *, dsn: str, shared: Place, link: Link, locate: Locator | None, clock: Clock) -> None:
        self._dsn = dsn
        self.link = link
        self._locate = locate
        self._clock = clock
        self._open: dict[str, Place] = {SHARED: shared}
        self._opened_at: dict[str, float] = {}
        self._known: OrderedDict[UUID, Place] = OrderedDict()
        self._opening = asyncio.Lock()
        self._examined: set[str] = {SHARED}

    @property
    def shared(self) -> Place:
        return self._open[SHARED]

    def known(self, tenant_id: UUID) -> Place | None:
        """Tell a tenant's place without asking anybody."""
        return self._known.get(tenant_id)

    async def find(self, tenant_id: UUID) -> Place:
        """Tell a tenant's place; asks the directory when it is not known.

        Raises Unavailable when nobody answers, and `place_behind` for one whose tables are of an older release.
        """
        name = (await self._locate(tenant_id) if self._locate else None) or SHARED
        place = self._open.get(name) or await self.open(name)
        if name not in self._examined:
            await self._examine(place)
        self._known[tenant_id] = place
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return place

    def forget(self, tenant_id: UUID) -> None:
        self._known.pop(tenant_id, None)

    def forget_all(self) -> None:
        self._known.clear()

    async def retain(self, names: Collection[str]) -> None:
        """Close places that are none any more; one opened only now may be younger than `names`."""
        settled = self._clock.monotonic() - _SETTLED_SECONDS
        for name in [name for name, opened in self._opened_at.items() if opened < settled and name not in names]:
            await self._leave(name)

    async def open(self, name: str) -> Place:
        """Open a place that exists."""
        async with self._opening:
            if (place := self._open.get(name)) is not None:
                return place
            pool = await open_pool(
                dsn_at(self._dsn, name),
                search_path=schema_at(name),
                min_size=0,
                max_size=_POOL_SIZE,
                idle_seconds=_IDLE_SECONDS,
            )
            place = self._open[name] = Place(name, pool)
            self._opened_at[name] = self._clock.monotonic()
            return place

    async def _examine(self, place: Place) -> None:
        own = place.name if is_schema(place.name) else None
        try:
            with database_errors():
                revision = await cell_revision(place.pool, schema=own)
        except asyncpg.InvalidCatalogNameError:
            revision = None
        if revision is None:
            raise tenant_moved()
        if revision < head_revision("cell"):
            raise Unavailable(
                "place_behind",
                "what this tenant has for itself is of an older release: it could not be brought to this one when "
                "the installation was started, and its operator was told why",
                layer="database",
                retry_after=_BEHIND_SECONDS,
            )
        self._examined.add(place.name)

    async def _leave(self, name: str) -> None:
        """Close a place; tenants known to be there are asked for anew."""
        self._examined.discard(name)
        place = self._open.pop(name)
        del self._opened_at[name]
        for tenant_id in [tenant for tenant, at in self._known.items() if at is place]:
            del self._known[tenant_id]
        await place.pool.close()

    async def tell(self, place: Place, news: Collection[tuple[str, str | None]]) -> None:
        """Repeat news of a tenant's own database in the cell's, where processes listen; what is lost is only late."""
        channels, payloads = zip(*((channel, payload or place.name) for channel, payload in news), strict=True)
        with contextlib.suppress(TenantryError), database_errors():
            await self.shared.pool.execute(_TELL, list(channels), list(payloads))

    async def close(self) -> None:
        await self.link.stop()
        for place in self._open.values():
            await place.pool.close()
