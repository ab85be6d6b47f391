"""Workspaces of one tenant."""

import re
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types.classes import FreeText
from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import (
    path_owner_mismatch,
    path_taken,
    region_fixed,
    state_conflict,
    version_mismatch,
    workspace_not_found,
)
from tenantry.capabilities.tenants.ports import Room
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.tenants import announce_revocation
from tenantry.capabilities.tenants.types import (
    OWNER_FOLDERS,
    Workspace,
    WorkspaceOwner,
    WorkspaceSettings,
    WorkspaceStatus,
)
from tenantry.foundation import outbox
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id, suffix_of

_MOST_TOLD: Final = 20
WORKSPACE_SUSPENDED: Final = "workspace.suspended"
"""Outbox topic; payload {"workspace_id": …, "reason": …}: whatever runs there stops."""


@dataclass(frozen=True, slots=True)
class NewWorkspace:
    """`path` None: the owner's folder and the name, made unique; `region` None: the tenant's."""

    name: str
    owner: WorkspaceOwner
    path: str | None = None
    region: str | None = None
    settings: WorkspaceSettings = field(default_factory=WorkspaceSettings)


class WorkspaceService:
    """Create, read, list, change, suspend, resume, archive."""

    def __init__(self, *, session: TenantSession, directory: Directory, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._directory = directory
        self._audit = audit
        self._clock = clock

    async def create(self, new: NewWorkspace, *, room: Room) -> Workspace:
        """Make a workspace.

        Raises Conflict `path_taken`, Invalid `region_fixed` or `path_owner_mismatch`, Exhausted `quota_exceeded`.
        """
        region = self._session.scope.region
        if new.region not in (None, region):
            raise region_fixed(region)
        if new.path:
            _require_agreement(new.path, new.owner.type)
        now = self._clock.now()
        workspace = Workspace(
            workspace_id=new_id(),
            name=new.name,
            path=new.path or _default_path(new),
            region=region,
            owner_type=new.owner.type,
            owner_id=new.owner.id,
            settings=new.settings,
            slo_overlay={},
            label_overlay={},
            status=WorkspaceStatus.ACTIVE,
            status_reason=None,
            version=1,
            created_at=now,
            updated_at=now,
            archived_at=None,
        )
        await room.take(repository.count_open_workspaces)
        # Placed first: a placement without rows only says "not found", rows without one would let no key in.
        await self._directory.place_workspace(
            workspace_id=workspace.workspace_id, tenant_id=self._session.scope.tenant_id, region=region
        )
        if not await repository.insert_workspace(self._session, workspace):
            if new.path:
                raise path_taken(new.path)
            workspace = replace(workspace, path=f"{workspace.path[:60]}-{suffix_of(workspace.workspace_id)[-8:]}")
            await repository.insert_workspace(self._session, workspace)
        await self._record("workspace.created", workspace, details={"path": workspace.path})
        return workspace

    async def get(self, workspace_id: UUID, *, lock: bool = False) -> Workspace:
        """Find it; `lock` keeps others from changing it until the transaction ends. Raises NotFound."""
        workspace = await repository.find_workspace(self._session, workspace_id, lock=lock)
        if workspace is None:
            raise workspace_not_found()
        return workspace

    async def find(self, workspace_id: UUID) -> Workspace | None:
        return await repository.find_workspace(self._session, workspace_id)

    async def list_workspaces(
        self, *, after: UUID | None = None, limit: int = 50, only: list[UUID] | None = None
    ) -> list[Workspace]:
        """Oldest first; `only` narrows to what the caller may see."""
        return await repository.list_workspaces(self._session, after=after, limit=limit, only=only)

    async def update(self, workspace_id: UUID, changes: dict[str, Any], *, if_version: int | None) -> Workspace:
        """Change name, path, owner or settings. What was made under an old path stays in its place.

        Raises Precondition, Conflict `path_taken` or `state_conflict`, Invalid `path_owner_mismatch`.
        """
        workspace = await self._locked(workspace_id, if_version)
        if workspace.status is WorkspaceStatus.ARCHIVED:
            raise state_conflict("workspace", workspace.status, "changed")
        _require_agreement(changes.get("path", workspace.path), changes.get("owner_type", workspace.owner_type))
        changed = await repository.update_workspace(self._session, workspace_id, changes, now=self._clock.now())
        if changed is None:
            raise path_taken(changes["path"])
        await self._record("workspace.updated", changed, details=_changes_of(workspace, changed, sorted(changes)))
        was, now_is = workspace.settings.persistence_mode, changed.settings.persistence_mode
        if was != now_is:
            await self._record("workspace.persistence_changed", changed, details={"from": was, "to": now_is})
        await announce_revocation(self._session)
        return changed

    async def suspend(self, workspace_id: UUID, *, reason: str) -> Workspace:
        """Refuse new work and stop what runs; reading goes on. Suspending twice changes nothing."""
        workspace = await self._locked(workspace_id, None)
        if workspace.status is WorkspaceStatus.SUSPENDED:
            return workspace
        if workspace.status is WorkspaceStatus.ARCHIVED:
            raise state_conflict("workspace", workspace.status, "suspended")
        return await self._enter(workspace, WorkspaceStatus.SUSPENDED, "workspace.suspended", reason=FreeText(reason))

    async def resume(self, workspace_id: UUID, *, room: Room) -> Workspace:
        """Open a suspended or archived workspace again.

        Raises Conflict `path_taken` when its path has been reused, Exhausted `quota_exceeded`.
        """
        workspace = await self._locked(workspace_id, None)
        if workspace.status is WorkspaceStatus.ACTIVE:
            return workspace
        if workspace.status is WorkspaceStatus.ARCHIVED:
            await room.take(repository.count_open_workspaces)
        return await self._enter(workspace, WorkspaceStatus.ACTIVE, "workspace.resumed")

    async def archive(self, workspace_id: UUID, *, if_version: int | None) -> Workspace:
        """Close it softly: nothing runs, everything can be read, its path is free."""
        workspace = await self._locked(workspace_id, if_version)
        if workspace.status is WorkspaceStatus.ARCHIVED:
            return workspace
        return await self._enter(workspace, WorkspaceStatus.ARCHIVED, "workspace.archived", reason="archived")

    async def _locked(self, workspace_id: UUID, if_version: int | None) -> Workspace:
        workspace = await repository.find_workspace(self._session, workspace_id, lock=True)
        if workspace is None:
            raise workspace_not_found()
        if if_version is not None and workspace.version != if_version:
            raise version_mismatch(workspace.version)
        return workspace

    async def _enter(
        self, workspace: Workspace, status: WorkspaceStatus, action: str, *, reason: str | None = None
    ) -> Workspace:
        now = self._clock.now()
        changes = {
            "status": status.value,
            "status_reason": reason,
            "archived_at": now if status is WorkspaceStatus.ARCHIVED else None,
        }
        changed = await repository.update_workspace(self._session, workspace.workspace_id, changes, now=now)
        if changed is None:
            raise path_taken(workspace.path)
        if status is not WorkspaceStatus.ACTIVE:
            payload = {"workspace_id": workspace.workspace_id.hex, "reason": reason}
            await outbox.publish(self._session, topic=WORKSPACE_SUSPENDED, payload=payload)
        await announce_revocation(self._session)
        await self._record(action, changed, reason=reason)
        return changed

    async def _record(
        self, action: str, workspace: Workspace, *, reason: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        await self._audit.record(
            action,
            resource_type="workspace",
            resource_id=format_id(Prefix.WORKSPACE, workspace.workspace_id),
            reason=reason,
            details=details,
        )


def place_of(path: str, workspace_id: UUID) -> str:
    """Name the folder of a workspace below its tenant's: objects and directories lie there.

    The last segment begins as no segment of a path can and names the workspace, so no two workspaces share a place or
    lie in each other's, not even when one takes the path that another has left.
    """
    return f"workspaces/{path}/_{suffix_of(workspace_id)}"


def is_place_of(place: str, workspace_id: UUID) -> bool:
    """Tell whether `place_of` can have named it, by whatever path the workspace had then."""
    first, _, rest = place.partition("/")
    path, _, last = rest.rpartition("/")
    return first == "workspaces" and bool(path) and last == f"_{suffix_of(workspace_id)}"


def owner_of_path(path: str, *, caller: str) -> WorkspaceOwner:
    """Tell whose a path is: the team or agent that it names, else the caller."""
    folder, name = path.split("/")[:2]
    kind: Literal["user", "team", "ai-agent"] = "user"
    if folder == OWNER_FOLDERS["team"]:
        kind = "team"
    elif folder == OWNER_FOLDERS["ai-agent"]:
        kind = "ai-agent"
    return WorkspaceOwner(type=kind, id=caller if kind == "user" else name)


def _default_path(new: NewWorkspace) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", new.name.lower())[:50].strip("-") or "workspace"
    return f"{OWNER_FOLDERS[new.owner.type]}/{slug}"


def _require_agreement(path: str, owner_type: str) -> None:
    folder = OWNER_FOLDERS[owner_type]
    if path.partition("/")[0] != folder:
        raise path_owner_mismatch(path, folder)


def _changes_of(before: Workspace, after: Workspace, fields: list[str]) -> dict[str, Any]:
    """Say what has changed, from and to; of a long list only how long it is."""
    changed = {
        name: [getattr(before, name), getattr(after, name)]
        for name in ("name", "path", "owner_type", "owner_id")
        if getattr(before, name) != getattr(after, name)
    }
    old, new = before.settings.model_dump(), after.settings.model_dump()
    for name in old:
        if old[name] != new[name]:
            changed[f"settings.{name}"] = [_told(old[name]), _told(new[name])]
    return {"fields": fields, "changed": changed}


def _told(value: Any) -> Any:
    return f"{len(value)} entries" if isinstance(value, list) and len(value) > _MOST_TOLD else value
