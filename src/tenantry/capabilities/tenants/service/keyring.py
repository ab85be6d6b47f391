"""A tenant's data keys, opened by the KMS and held in memory only."""

from functools import partial
from uuid import UUID

from tenantry.capabilities.tenants import repository
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.envelope.keyset_cache import KeysetCache
from tenantry.engines.envelope.wrapping import KeyWrapper
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Gone
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import SYSTEM, TenantScope


class KeysetShelf:
    """Keysets that this process has read of one cell; also the Vault port, which reads in the asking transaction."""

    def __init__(self, wrapper: KeyWrapper, clock: Clock) -> None:
        self._cache = KeysetCache(wrapper, clock)
        self._wrapped: dict[UUID, tuple[UUID, bytes]] = {}

    async def keys(self, session: TenantSession) -> Keyset | None:
        """Give the keyset of the session's tenant, None when it has none. One read at first, then from memory.

        What is read is kept once the session has committed: a tenant may be in the making in it.
        """
        owner = session.scope.tenant_id
        if (held := await self.held(owner)) is not None:
            return held
        found = await repository.find_keyset(session)
        if found is None:
            return None
        session.after_commit(partial(self._wrapped.__setitem__, owner, found))
        return await self._opened(owner, found)

    async def held(self, owner: UUID) -> Keyset | None:
        """Give the keyset if it was read before."""
        found = self._wrapped.get(owner)
        return None if found is None else await self._opened(owner, found)

    def forget_all(self) -> None:
        """Drop all: news may have been missed."""
        for owner in list(self._wrapped):
            self.forget(owner)

    def forget(self, owner: UUID) -> None:
        """Drop what is in memory: the tenant is gone, moved, or has new keys."""
        if found := self._wrapped.pop(owner, None):
            self._cache.forget(keyset_context(owner, found[0]))

    async def _opened(self, owner: UUID, found: tuple[UUID, bytes]) -> Keyset:
        keyset_id, wrapped = found
        return await self._cache.get(wrapped, context=keyset_context(owner, keyset_id))


class TenantKeyring:
    """The Keyring port for the tenants of one cell."""

    def __init__(self, *, cell: Cell, shelf: KeysetShelf) -> None:
        self._cell = cell
        self._shelf = shelf

    async def keyset(self, owner: UUID) -> Keyset:
        """Open the tenant's keyset; read once, then from memory. Raises Gone `key_destroyed` when it has none."""
        found = await self._shelf.held(owner)
        if found is None:
            scope = TenantScope(tenant_id=owner, region=self._cell.region, actor=SYSTEM)
            async with self._cell.session(scope, lifecycle=True, beside=True) as session:
                found = await self._shelf.keys(session)
        if found is None:
            raise Gone("key_destroyed", "this tenant's keys are no more", layer="tenants")
        return found

    def hear(self, payload: str) -> None:
        """Drop the keys of the tenant that the news name by its hexadecimal: they may be no more."""
        self._shelf.forget(UUID(hex=payload))

    def forget_all(self) -> None:
        """Drop all: news may have been missed."""
        self._shelf.forget_all()

    def forget(self, owner: UUID) -> None:
        """Drop what is in memory: the tenant is gone, moved, or has new keys."""
        self._shelf.forget(owner)


class TenantKeys:
    """Makes the keys of a new tenant."""

    def __init__(self, wrapper: KeyWrapper) -> None:
        self._wrapper = wrapper

    async def make(self, owner: UUID) -> tuple[UUID, bytes]:
        """Create a keyset; gives its id and its wrapped form, the only one that is stored."""
        keyset_id = new_id()
        wrapped = await Keyset.create().wrapped(wrapper=self._wrapper, context=keyset_context(owner, keyset_id))
        return keyset_id, wrapped


def keyset_context(owner: UUID, keyset_id: UUID) -> bytes:
    """Name what a wrapped keyset is bound to: moved to another tenant or row, it does not open."""
    return b"tenantry/keyset/" + owner.bytes + keyset_id.bytes
