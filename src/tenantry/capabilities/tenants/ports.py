"""What tenants need of higher rooms, handed in by `entrypoints`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from tenantry.capabilities.tenants.types import BootstrapKey, Isolation, Measure, Owner, StoredThing, StoreTally
from tenantry.foundation.database.session import TenantSession


class OwnerAdmission(Protocol):
    """Lets the owner of a new tenant in, inside the transaction that makes the tenant."""

    def issue(self, *, tenant_id: UUID, region: str) -> BootstrapKey:
        """Draw a key that opens nothing until its owner is admitted with it."""
        ...

    async def admit(self, session: TenantSession, *, owner: Owner, key: BootstrapKey | None = None) -> BootstrapKey:
        """Make the owner's user, its binding and its first key; give the key, whose secret is shown once.

        With `key` it is that one: drawn before, by `issue`.
        """
        ...


class Stopper(Protocol):
    """Stops what a capability runs. Whatever runs something registers one, so that a suspension reaches all of it."""

    async def stop_all(self, session: TenantSession, *, workspace_id: UUID | None, reason: str) -> int:
        """Stop everything of the session's tenant, or of one workspace; tells how many. Repeating it is safe."""
        ...


class Drain(Protocol):
    """Ends what a draining tenant has that would not end by itself in the time it is given, and can begin again."""

    async def drain(self, session: TenantSession) -> int:
        """End it, with nothing lost that was promised to be kept; tells how many. Called until nothing runs."""
        ...


class TenantStore(Protocol):
    """What of tenants lies outside of their database: objects, images, cached entries. Calls may be repeated safely."""

    async def copy(self, tenant_id: UUID, *, source: str, target: str) -> int:
        """Copy everything of a tenant to another region, and verify it; tells how many things."""
        ...

    async def measure(self, tenant_id: UUID, *, region: str) -> StoreTally:
        """Count what there is of a tenant in a region."""
        ...

    async def erase(self, tenant_id: UUID, *, region: str) -> int:
        """Remove everything of a tenant in a region; tells how many things."""
        ...


class ArchivedStore(Protocol):
    """A `TenantStore` whose things a tenant takes along in its archive."""

    def things(self, tenant_id: UUID, *, region: str) -> AsyncIterator[StoredThing]:
        """Give each in turn; what goes meanwhile is passed over."""
        ...

    async def restore(
        self, tenant_id: UUID, *, region: str, name: str, size: int, about: Mapping[str, Any], content: BinaryIO
    ) -> None:
        """Put a thing back; repeating it is safe. Raises Invalid for one that is not what its name says."""
        ...


class Inspection(Protocol):
    """Looks at what an archive says of a capability's own, once its rows and things are there and nobody is let in."""

    async def inspect(self, tenant_id: UUID, *, region: str) -> None:
        """Raise Invalid `archive_refused` for what could not have come about here. Repeating it is safe."""
        ...


class Arrival(Protocol):
    """Tells a capability that a tenant has been imported, in the transaction that makes it ready."""

    async def arrive(self, session: TenantSession) -> None:
        """End what ran or waited where the archive was made: it does not go on here."""
        ...


class Provisioner(Protocol):
    """Makes and removes the places that tenants have for themselves. Both may be repeated safely."""

    def offers(self, region: str) -> frozenset[Isolation]:
        """Say which strategies a tenant of the region can have."""
        ...

    async def make(self, *, region: str, place: str) -> None:
        """Make a place, empty and behind the fence; raises Unavailable when it cannot be made now."""
        ...

    async def remove(self, *, region: str, place: str) -> None:
        """Remove a place with everything in it."""
        ...


class UsageSource(Protocol):
    """Counts what a higher room keeps for the session's tenant; each such room registers one in `entrypoints`."""

    async def measure(self, session: TenantSession) -> Sequence[Measure]:
        """Count `users`, or `storage.<kind>` in bytes by workspace, from the tenant's own rows, by index."""
        ...


class ContentKind(Protocol):
    """One kind of content that a workspace may not want kept; whatever room seals content registers one.

    What seals its content asks `WorkspaceSettings.persistence_mode` when it begins and keeps to that answer. At its end
    it puts itself into the purge list, see `service/purge`; from then on its routes answer 410 with size and digest.
    """

    @property
    def name(self) -> str:
        """The noun by which the purge list knows its items."""
        ...

    @property
    def columns(self) -> frozenset[str]:
        """Name the `table.column`s that hold sealed content, or keys of it: every one is null or gone after a purge."""
        ...

    async def remove_objects(self, session: TenantSession, item_id: UUID) -> None:
        """Remove what lies outside of the database; idempotent."""
        ...

    async def forget(self, session: TenantSession, item_id: UUID) -> None:
        """Remove rows and keys in the session's transaction; sizes and digests stay. Idempotent."""
        ...


class Keeping(Protocol):
    """Says what the sweep of content must leave, though its time is over: `evidence` implements it."""

    async def keeps(self, session: TenantSession, *, kind: str, item_id: UUID) -> bool:
        """Say whether an item is kept; what would keep it does not come about until the session's transaction ends."""
        ...


class Room(Protocol):
    """How many open workspaces there may be; `limits` implements it."""

    async def take(self, count: Callable[[TenantSession], Awaitable[int]], /) -> None:
        """Refuse one more than there may be, in the session's transaction, one after the other.

        `count` is given a session that sees the whole tenant. Raises Exhausted `quota_exceeded`.
        """
        ...
