"""Workspaces of the credential's tenant."""

from typing import Any

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.service import decide
from tenantry.capabilities.access.types import Access, Circumstances, Permission
from tenantry.capabilities.policies.service import require_settings
from tenantry.capabilities.tenants.service import NewWorkspace, owner_of_path
from tenantry.capabilities.tenants.types import PATH_PATTERN, Workspace, WorkspaceOwner, WorkspaceSettings
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.changes import name_of
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.context import tenant_mismatch
from tenantry.interfaces.api.routing import Reach, RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class WorkspaceBody(Body):
    tenant: str | None = Field(default=None, max_length=60, description="id or slug; must be the credential's")
    name: DisplayName
    path: str | None = Field(default=None, pattern=PATH_PATTERN)
    region: str | None = Field(default=None, max_length=16)
    owner: WorkspaceOwner | None = Field(default=None, description="when absent: who the path names, else whoever asks")
    settings: WorkspaceSettings | None = None


class WorkspaceChanges(Body):
    name: DisplayName | None = None
    path: str | None = Field(default=None, pattern=PATH_PATTERN)
    owner: WorkspaceOwner | None = None
    settings: dict[str, Any] | None = Field(default=None, description="only the named settings change")


class Reason(Body):
    reason: str = Field(min_length=1, max_length=500)


class WorkspaceAnswer(Answer):
    id: str
    tenant: str
    name: str
    path: str
    region: str
    owner: dict[str, str]
    settings: dict[str, Any]
    status: str
    status_reason: str | None
    version: int
    created_at: Moment
    updated_at: Moment
    archived_at: Moment | None


async def _again(unit: Unit, resource_id: str) -> WorkspaceAnswer:
    return render(unit, await unit.workspaces.get(parse_id(Prefix.WORKSPACE, resource_id)))


@routes.post("/workspaces", needs=Permission.WORKSPACE_CREATE, replay=_again, status=201)
async def create_workspace(request: Request, body: WorkspaceBody) -> WorkspaceAnswer:
    """Make a workspace; it takes the region of its tenant."""
    unit = unit_of(request)
    own = (unit.caller.tenant_slug, format_id(Prefix.TENANT, unit.scope.tenant_id))
    if body.tenant is not None and body.tenant not in own:
        raise tenant_mismatch()
    settings = body.settings or WorkspaceSettings()
    if "persistence_mode" not in settings.model_fields_set:
        tenant = await unit.tenants.get()
        mode = tenant.settings.get("persistence_mode", settings.persistence_mode)
        settings = settings.model_copy(update={"persistence_mode": mode})
    require_settings(settings)
    owner = body.owner
    if owner is None:
        caller = unit.caller.principal
        owner = owner_of_path(body.path, caller=caller) if body.path else WorkspaceOwner(type="user", id=caller)
    workspace = await unit.workspaces.create(
        NewWorkspace(
            name=body.name,
            owner=owner,
            path=body.path,
            region=body.region,
            settings=settings,
        ),
        room=unit.workspace_room,
    )
    unit.resource_id = format_id(Prefix.WORKSPACE, workspace.workspace_id)
    return _shown(unit, workspace)


@routes.get("/workspaces", needs=Permission.WORKSPACE_READ, narrowed=Reach.ANYWHERE)
async def list_workspaces(request: Request, limit: Limit = 50, cursor: CursorText = None) -> Page[WorkspaceAnswer]:
    """The workspaces that the credential may read."""
    unit = unit_of(request)
    access = unit.caller.access
    only = None if access.wide else sorted(access.named_workspaces)
    found = await unit.workspaces.list_workspaces(after=after(unit, cursor), limit=limit + 1, only=only)
    made = page(unit, found, ids=[w.workspace_id for w in found], limit=limit)
    # A page is cut before what is denied there, or not held, is left out: it may show fewer than were asked for.
    made["items"] = [render(unit, workspace) for workspace in made["items"] if _readable(access, workspace)]
    return Page[WorkspaceAnswer](**made)


def _readable(access: Access, workspace: Workspace) -> bool:
    about = Circumstances(path=workspace.path)
    return decide(access, Permission.WORKSPACE_READ, workspace.workspace_id, about).allowed


@routes.get("/workspaces/{ws}", needs=Permission.WORKSPACE_READ)
async def get_workspace(request: Request, ws: str) -> WorkspaceAnswer:
    """One workspace."""
    unit = unit_of(request)
    await unit.show_vouched(name_of("workspaces", unit.workspace_id))
    return _shown(unit, await unit.workspaces.get(unit.workspace_id))


@routes.patch("/workspaces/{ws}", needs=Permission.WORKSPACE_UPDATE)
async def change_workspace(request: Request, ws: str, body: WorkspaceChanges) -> WorkspaceAnswer:
    """Change name, path, owner or the named settings."""
    unit = unit_of(request)
    changes: dict[str, Any] = {name: value for name in ("name", "path") if (value := getattr(body, name)) is not None}
    if body.owner is not None:
        changes |= {"owner_type": body.owner.type, "owner_id": body.owner.id}
    if body.settings is not None:
        present = await unit.workspaces.get(unit.workspace_id, lock=True)
        merged = present.settings.model_dump() | body.settings
        settings = validated_settings(merged)
        changes["settings"] = settings.model_dump()
        if body.settings.keys() & {"allowed_images", "blocked_images"}:
            await unit.bundles.apply_settings(unit.workspace_id, settings)
    return _shown(unit, await unit.workspaces.update(unit.workspace_id, changes, if_version=unit.if_version))


@routes.delete("/workspaces/{ws}", needs=Permission.WORKSPACE_ADMIN, closed_too=True)
async def archive_workspace(request: Request, ws: str) -> WorkspaceAnswer:
    """Archive: nothing runs, everything can be read, `resume` opens it again."""
    unit = unit_of(request)
    return _shown(unit, await unit.workspaces.archive(unit.workspace_id, if_version=unit.if_version))


@routes.post("/workspaces/{ws}/suspend", needs=Permission.WORKSPACE_ADMIN, replay=_again, closed_too=True)
async def suspend_workspace(request: Request, ws: str, body: Reason) -> WorkspaceAnswer:
    """Refuse new work and stop what runs."""
    unit = unit_of(request)
    return _shown(unit, await unit.workspaces.suspend(unit.workspace_id, reason=body.reason))


@routes.post("/workspaces/{ws}/resume", needs=Permission.WORKSPACE_ADMIN, replay=_again, closed_too=True)
async def resume_workspace(request: Request, ws: str) -> WorkspaceAnswer:
    """Open a suspended or archived workspace again."""
    unit = unit_of(request)
    return _shown(unit, await unit.workspaces.resume(unit.workspace_id, room=unit.workspace_room))


def validated_settings(values: dict[str, Any]) -> WorkspaceSettings:
    """Validate merged settings as a request of their own: what breaks a rule is the caller's."""
    from fastapi.exceptions import RequestValidationError
    from pydantic import ValidationError

    try:
        return WorkspaceSettings.model_validate(values)
    except ValidationError as error:
        faults = [{**e, "loc": ("body", "settings", *e["loc"])} for e in error.errors(include_url=False)]
        raise RequestValidationError(faults) from None


def _shown(unit: Unit, workspace: Workspace) -> WorkspaceAnswer:
    unit.show_version(workspace.version)
    return render(unit, workspace)


def render(unit: Unit, workspace: Workspace) -> WorkspaceAnswer:
    return WorkspaceAnswer(
        id=format_id(Prefix.WORKSPACE, workspace.workspace_id),
        tenant=format_id(Prefix.TENANT, unit.scope.tenant_id),
        name=workspace.name,
        path=workspace.path,
        region=workspace.region,
        owner={"type": workspace.owner_type, "id": workspace.owner_id},
        settings=workspace.settings.model_dump(),
        status=workspace.status,
        status_reason=workspace.status_reason,
        version=workspace.version,
        created_at=workspace.created_at,
        updated_at=workspace.updated_at,
        archived_at=workspace.archived_at,
    )
