"""Bindings, of the whole tenant and of a workspace."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from tenantry.capabilities.access.types import Binding, Condition, Effect, Permission
from tenantry.capabilities.tenants.types import ENVIRONMENT_PATTERN
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

LABEL_PATTERN: Final = r"^[a-z][a-z0-9_.-]{0,62}$"


Value = Annotated[str, Field(min_length=1, max_length=200)]
LabelName = Annotated[str, Field(pattern=LABEL_PATTERN)]


class ConditionBody(Body):
    environments: list[Annotated[str, Field(pattern=ENVIRONMENT_PATTERN)]] = Field(
        default=[], max_length=20, description="slugs, one of which is the thing's"
    )
    labels: dict[LabelName, Annotated[list[Value], Field(min_length=1, max_length=20)]] = Field(
        default={}, max_length=20, description="for each label the values of which the thing has one"
    )
    paths: list[Annotated[str, Field(pattern=r"^[a-z0-9*._-]{1,64}(/[a-z0-9*._-]{1,64}){0,9}$")]] = Field(
        default=[], max_length=20, description="beginnings of the workspace's path, `*` for any one component"
    )

    def read(self) -> Condition:
        return Condition(
            environments=tuple(sorted(set(self.environments))),
            labels={name: tuple(sorted(set(values))) for name, values in sorted(self.labels.items())},
            paths=tuple(sorted(set(self.paths))),
        )


class BindingBody(Body):
    principal: str = Field(max_length=60, description="`usr_…`, `svc_…` or `grp_…`")
    role: str = Field(max_length=60)
    effect: Annotated[Effect, Field(strict=False)] = Effect.ALLOW
    condition: ConditionBody = ConditionBody()


class BindingAnswer(Answer):
    id: str
    principal: dict[str, str]
    role: str
    effect: str
    condition: dict[str, Any]
    workspace: str | None
    created_at: Moment
    created_by: str


async def _again(unit: Unit, resource_id: str) -> BindingAnswer:
    binding_id = parse_id(Prefix.BINDING, resource_id)
    return render(await unit.access.get_binding(binding_id, workspace_id=unit.scope.workspace_id))


async def _bind(unit: Unit, body: BindingBody, workspace_id: UUID | None) -> BindingAnswer:
    binding = await unit.access.create_binding(
        principal=body.principal,
        role=body.role,
        workspace_id=workspace_id,
        grantor=await unit.grantor(),
        effect=body.effect,
        condition=body.condition.read(),
    )
    unit.resource_id = format_id(Prefix.BINDING, binding.binding_id)
    return render(binding)


async def _list(unit: Unit, workspace_id: UUID | None, limit: int, cursor: str | None) -> Page[BindingAnswer]:
    found = await unit.access.list_bindings(workspace_id=workspace_id, after=after(unit, cursor), limit=limit + 1)
    items = [render(binding) for binding in found]
    return Page[BindingAnswer](**page(unit, items, ids=[b.binding_id for b in found], limit=limit))


async def _unbind(unit: Unit, binding: str, workspace_id: UUID | None) -> Response:
    await unit.access.delete_binding(
        parse_id(Prefix.BINDING, binding), workspace_id=workspace_id, grantor=await unit.grantor()
    )
    return Response(status_code=204)


@routes.post("/tenants/{tenant}/bindings", needs=Permission.ROLE_ADMIN, replay=_again, status=201)
async def create_tenant_binding(request: Request, tenant: str, body: BindingBody) -> BindingAnswer:
    """Give a principal or group a role in the whole tenant, or deny it; nobody gives more than they hold."""
    return await _bind(unit_of(request), body, None)


@routes.get("/tenants/{tenant}/bindings", needs=Permission.ROLE_READ)
async def list_tenant_bindings(
    request: Request,
    tenant: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[BindingAnswer]:
    """Bindings in the whole tenant."""
    return await _list(unit_of(request), None, limit, cursor)


@routes.delete("/tenants/{tenant}/bindings/{binding}", needs=Permission.ROLE_ADMIN, status=204, media_type="")
async def delete_tenant_binding(request: Request, tenant: str, binding: str) -> Response:
    """Take the role away, or lift the denial, everywhere within a second."""
    return await _unbind(unit_of(request), binding, None)


@routes.post("/workspaces/{ws}/bindings", needs=Permission.ROLE_ADMIN, replay=_again, status=201)
async def create_workspace_binding(request: Request, ws: str, body: BindingBody) -> BindingAnswer:
    """Give a principal or group a role in this workspace, or deny it; nobody gives more than they hold."""
    unit = unit_of(request)
    return await _bind(unit, body, unit.workspace_id)


@routes.get("/workspaces/{ws}/bindings", needs=Permission.ROLE_READ)
async def list_workspace_bindings(
    request: Request,
    ws: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[BindingAnswer]:
    """Bindings in this workspace."""
    unit = unit_of(request)
    return await _list(unit, unit.workspace_id, limit, cursor)


@routes.delete("/workspaces/{ws}/bindings/{binding}", needs=Permission.ROLE_ADMIN, status=204, media_type="")
async def delete_workspace_binding(request: Request, ws: str, binding: str) -> Response:
    """Take the role away, or lift the denial, everywhere within a second."""
    unit = unit_of(request)
    return await _unbind(unit, binding, unit.workspace_id)


def render(binding: Binding) -> BindingAnswer:
    return BindingAnswer(
        id=format_id(Prefix.BINDING, binding.binding_id),
        principal={"type": binding.principal_type, "id": binding.principal_id},
        role=binding.role,
        effect=binding.effect,
        condition=binding.condition.as_json(),
        workspace=named(Prefix.WORKSPACE, binding.workspace_id),
        created_at=binding.created_at,
        created_by=binding.created_by,
    )
