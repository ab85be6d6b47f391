"""Snapshots of sandboxes, and sandboxes that begin from one, or from what another left.

A kept tree is never written again, so a snapshot of what is kept, and a fork, is one more row beside it: nothing is
copied, and the bytes go when nothing begins from them any more.
"""

import base64
from datetime import datetime
from typing import Any
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits.service import QuotaService
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.errors import (
    content_not_kept,
    nothing_kept,
    sandbox_busy,
    sandbox_not_found,
    snapshot_name_taken,
    snapshot_not_found,
    too_many_snapshots,
)
from tenantry.capabilities.sandboxes.service.live import LiveSandboxService
from tenantry.capabilities.sandboxes.service.live_client import LiveClient
from tenantry.capabilities.sandboxes.service.live_content import LiveContent
from tenantry.capabilities.sandboxes.types import TREE
from tenantry.capabilities.sandboxes.types.living import (
    MOST_SNAPSHOTS,
    KeptTree,
    LiveSandbox,
    LiveState,
    NewSandbox,
    Snapshot,
    Starter,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id, new_id


class SnapshotService:
    """Snapshots of the session's tenant."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        sandboxes: LiveSandboxService,
        content: LiveContent,
        client: LiveClient,
        quotas: QuotaService,
        clock: Clock,
    ) -> None:
        self._session = session
        self._audit = audit
        self._sandboxes = sandboxes
        self._content = content
        self._client = client
        self._quotas = quotas
        self._clock = clock

    async def take(self, sandbox_id: UUID, *, workspace_id: UUID, name: str, principal: str) -> Snapshot:
        """Keep the files of a sandbox under a name: as they are where it runs, else as they were left.

        Commits while the worker of a running one saves. Raises Conflict `content_not_kept`, `nothing_kept`,
        `sandbox_busy`, `name_taken`, `snapshot_limit`, Exhausted `quota_exceeded`, Unavailable `sandbox_away`.
        """
        sandbox = await self._sandboxes.get(sandbox_id, workspace_id=workspace_id)
        fresh = await self._saved(sandbox)
        try:
            return await self._write(sandbox, fresh, name=name, principal=principal)
        except BaseException:
            await self._let_go(fresh)
            raise

    async def _write(self, sandbox: LiveSandbox, fresh: KeptTree | None, *, name: str, principal: str) -> Snapshot:
        locked = await self._locked(sandbox)
        present = await repository.list_snapshots(self._session, sandbox.sandbox_id, limit=MOST_SNAPSHOTS)
        if len(present) >= MOST_SNAPSHOTS:
            raise too_many_snapshots(MOST_SNAPSHOTS)
        tree = await self._tree(locked, fresh)
        snapshot = Snapshot(new_id(), sandbox.sandbox_id, name, self._clock.now(), principal, tree)
        if not await repository.insert_snapshot(self._session, snapshot, workspace_id=sandbox.workspace_id):
            raise snapshot_name_taken(name)
        await self._record("sandbox.snapshot_taken", sandbox, {"name": name, "size_bytes": tree.size_bytes})
        await self._reserve(fresh, sandbox)
        return snapshot

    async def get(self, sandbox_id: UUID, snapshot_id: UUID, *, workspace_id: UUID) -> Snapshot:
        found = await repository.find_snapshot(self._session, snapshot_id, workspace_id=workspace_id)
        if found is None or found.sandbox_id != sandbox_id:
            raise snapshot_not_found()
        return found

    async def list_snapshots(
        self, sandbox_id: UUID, *, workspace_id: UUID, after: UUID | None = None, limit: int = 50
    ) -> list[Snapshot]:
        await self._sandboxes.get(sandbox_id, workspace_id=workspace_id)
        return await repository.list_snapshots(self._session, sandbox_id, after=after, limit=limit)

    async def delete(self, sandbox_id: UUID, snapshot_id: UUID, *, workspace_id: UUID) -> None:
        """Delete it; sandboxes that began from it keep what they have."""
        sandbox = await self._sandboxes.get(sandbox_id, workspace_id=workspace_id)
        found = await repository.find_snapshot(self._session, snapshot_id, workspace_id=workspace_id, lock=True)
        if found is None or found.sandbox_id != sandbox_id:
            raise snapshot_not_found()
        await repository.delete_snapshot(self._session, snapshot_id)
        await repository.drop_tree(self._session, found.tree.tree_id, now=self._clock.now())
        await self._record("sandbox.snapshot_deleted", sandbox, {"name": found.name})

    async def fork(
        self,
        sandbox_id: UUID,
        *,
        workspace_id: UUID,
        name: str,
        starter: Starter,
        snapshot_id: UUID | None = None,
        start: bool = True,
    ) -> tuple[LiveSandbox, Denied | None]:
        """Make another sandbox like this one, whose files begin as a snapshot's, or as this one's are.

        Commit, then raise what comes with it. Raises what `take` and `create` raise, NotFound for no such snapshot.
        """
        source = await self._sandboxes.get(sandbox_id, workspace_id=workspace_id)
        fresh = None if snapshot_id is not None else await self._saved(source)
        try:
            locked = await self._locked(source)
            if snapshot_id is None:
                tree = await self._tree(locked, fresh)
            else:
                tree = await self._snapshot_tree(locked, snapshot_id)
            made, refusal = await self._sandboxes.create(
                await self._like(locked, name), workspace_id=workspace_id, starter=starter, start=start, tree=tree
            )
            if refusal is None:
                await self._record("sandbox.forked", locked, {"into": format_id(Prefix.SANDBOX, made.sandbox_id)})
                await self._reserve(fresh, locked)
        except BaseException:
            await self._let_go(fresh)
            raise
        if refusal is not None and fresh is not None:
            await repository.delete_tree(self._session, fresh.tree_id)
            await self._let_go(fresh)
        return made, refusal

    async def _like(self, source: LiveSandbox, name: str) -> NewSandbox:
        return NewSandbox(
            name=name,
            image=source.image,
            env=await self._content.open_environment(source, tenant_id=self._session.scope.tenant_id),
            limits=source.limits,
            labels=source.labels,
            environment=source.environment,
            secrets=source.secrets,
            network=source.network,
            ttl_seconds=source.ttl_seconds,
            idle_seconds=source.idle_seconds,
        )

    async def _snapshot_tree(self, source: LiveSandbox, snapshot_id: UUID) -> KeptTree:
        found = await repository.find_snapshot(self._session, snapshot_id, workspace_id=source.workspace_id, lock=True)
        if found is None or found.sandbox_id != source.sandbox_id:
            raise snapshot_not_found()
        return found.tree

    async def _saved(self, sandbox: LiveSandbox) -> KeptTree | None:
        """Have a running one saved; None of one that does not run. Commits before."""
        if not sandbox.keeps:
            raise content_not_kept()
        if sandbox.state in (LiveState.STARTING, LiveState.STOPPING):
            raise sandbox_busy(sandbox.state)
        if sandbox.state is not LiveState.RUNNING:
            return None
        _, place = await self._sandboxes.place(sandbox.sandbox_id, workspace_id=sandbox.workspace_id)
        await self._session.commit()
        tree_id = new_id()
        return _tree_of(sandbox, tree_id, await self._client.ask(place, "save", tree=tree_id.hex))

    async def _locked(self, sandbox: LiveSandbox) -> LiveSandbox:
        found = await repository.find_sandbox(
            self._session, sandbox.sandbox_id, workspace_id=sandbox.workspace_id, lock=True
        )
        if found is None:
            raise sandbox_not_found()
        return found

    async def _tree(self, locked: LiveSandbox, fresh: KeptTree | None) -> KeptTree:
        """Give what has just been saved, with its row, or what is kept."""
        if fresh is not None:
            await repository.insert_tree(self._session, fresh)
            return fresh
        if locked.tree is None:
            raise nothing_kept()
        return locked.tree

    async def _reserve(self, fresh: KeptTree | None, sandbox: LiveSandbox) -> None:
        """Count what has been saved, now that its size is known; last, as it locks the counters."""
        if fresh is not None:
            room = {Quota.STORAGE: fresh.size_bytes}
            await self._quotas.reserve(fresh.tree_id, room, kind=TREE, workspace_id=sandbox.workspace_id)

    async def _let_go(self, fresh: KeptTree | None) -> None:
        if fresh is not None:
            await self._content.delete_tree(
                tenant_id=self._session.scope.tenant_id,
                place=fresh.place,
                sandbox_id=fresh.sandbox_id,
                tree_id=fresh.tree_id,
            )

    async def _record(self, action: str, sandbox: LiveSandbox, details: dict[str, Any]) -> None:
        await self._audit.record(
            action,
            resource_type="sandbox",
            resource_id=format_id(Prefix.SANDBOX, sandbox.sandbox_id),
            details=details,
        )


def _tree_of(sandbox: LiveSandbox, tree_id: UUID, told: dict[str, Any]) -> KeptTree:
    return KeptTree(
        tree_id=tree_id,
        workspace_id=sandbox.workspace_id,
        sandbox_id=sandbox.sandbox_id,
        place=str(told["place"]),
        content_key=base64.b64decode(told["content_key"]),
        size_bytes=int(told["size_bytes"]),
        files=int(told["files"]),
        sha256=bytes.fromhex(told["sha256"]),
        created_at=datetime.fromisoformat(told["created_at"]),
    )
