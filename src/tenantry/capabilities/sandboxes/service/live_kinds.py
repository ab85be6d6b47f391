"""What sandboxes leave, as the purge list knows it: kept trees that nothing begins from, folders of deleted ones."""

from typing import ClassVar
from uuid import UUID

from tenantry.capabilities.limits.service import give_back
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.live_content import LiveContent
from tenantry.capabilities.sandboxes.types.living import SANDBOX, TREES
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession


class TreeKind:
    """Kept trees (`ContentKind`)."""

    name: ClassVar[str] = TREES
    columns: ClassVar[frozenset[str]] = frozenset({"sandbox_trees.content_key"})

    def __init__(self, *, content: LiveContent, clock: Clock) -> None:
        self._content = content
        self._clock = clock

    async def remove_objects(self, session: TenantSession, item_id: UUID) -> None:
        tree = await repository.find_tree(session, item_id)
        if tree is not None:
            await self._content.delete_tree(
                tenant_id=session.scope.tenant_id, place=tree.place, sandbox_id=tree.sandbox_id, tree_id=item_id
            )

    async def forget(self, session: TenantSession, item_id: UUID) -> None:
        await repository.delete_tree(session, item_id)
        await give_back(session, item_id, (Quota.STORAGE,), clock=self._clock)


class SandboxKind:
    """What a deleted sandbox was given, gone with it, and what a worker may have kept since (`ContentKind`)."""

    name: ClassVar[str] = SANDBOX
    columns: ClassVar[frozenset[str]] = frozenset({"sandboxes.content_key", "sandboxes.given"})

    def __init__(self, *, content: LiveContent) -> None:
        self._content = content

    async def remove_objects(self, session: TenantSession, item_id: UUID) -> None:
        place = await repository.find_place(session, item_id)
        if place is not None:
            kept = await repository.list_trees_of(session, item_id)
            await self._content.sweep(tenant_id=session.scope.tenant_id, place=place, sandbox_id=item_id, kept=kept)

    async def forget(self, session: TenantSession, item_id: UUID) -> None:
        """Nothing is left to forget: it went in the transaction of the deletion."""
