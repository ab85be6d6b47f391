"""What a process knows of tenants: read once for a whole tenant, kept until news of it come."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar
from uuid import UUID

from tenantry.capabilities.tenants.types import REVOCATIONS
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells

Known = TypeVar("Known")

_CACHED: Final = 50_000
_BELIEVED_SECONDS: Final = 1.0
"""How long what is known of a tenant counts whose news this process does not hear."""


class KnownTenants(Generic[Known]):
    """One for each process and kind of knowledge; `read` asks the database, in a transaction of its own."""

    def __init__(self, *, cells: Cells, clock: Clock, read: Callable[[UUID, str], Awaitable[Known]]) -> None:
        self._cells = cells
        self._clock = clock
        self._read = read
        self._known: OrderedDict[UUID, tuple[Known, float]] = OrderedDict()
        # Counts news heard: what was read while they arrived is not cached.
        self._generation = 0
        for cell in cells:
            cell.link.subscribe(REVOCATIONS, self.forget)
            cell.link.on_reconnect(self._forget_all)

    async def of(self, tenant_id: UUID, *, region: str) -> Known:
        """Tell it, reading only when it is not known."""
        held = self._known.get(tenant_id)
        if held is not None and self._believed(held[1], tenant_id, region):
            return held[0]
        generation, at = self._generation, self._clock.monotonic()
        known = await self._read(tenant_id, region)
        if generation == self._generation:
            self._known[tenant_id] = (known, at)
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        return known

    def forget(self, payload: str) -> None:
        """Drop what is known of a tenant, named by the hexadecimal of its id as the news name it."""
        self._generation += 1
        self._known.pop(UUID(hex=payload), None)

    def _forget_all(self) -> None:
        self._generation += 1
        self._known.clear()

    def _believed(self, at: float, tenant_id: UUID, region: str) -> bool:
        if self._cells.get(region).fresh_for(tenant_id):
            return True
        return self._clock.monotonic() - at < _BELIEVED_SECONDS
