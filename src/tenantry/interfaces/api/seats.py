"""How much of a tenant's may be open at once in this process: WebSockets, and what streams in and out of a sandbox."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from tenantry.foundation.errors import Exhausted


class Seats:
    """Counts by tenant. Each holds a connection, a task and buffers, however little comes over it."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._taken: Counter[UUID] = Counter()

    @contextmanager
    def taken(self, tenant_id: UUID) -> Iterator[None]:
        """Take one for a while; raises Exhausted `streams_exhausted`."""
        current = self._taken[tenant_id]
        if current >= self._most:
            raise Exhausted(
                "streams_exhausted",
                f"{current} streams are open, {self._most} are the most (server.max_streams_per_tenant): close some",
                layer="api",
                limit=self._most,
                current=current,
            )
        self._taken[tenant_id] += 1
        try:
            yield
        finally:
            self._taken[tenant_id] -= 1
            if not self._taken[tenant_id]:
                del self._taken[tenant_id]
