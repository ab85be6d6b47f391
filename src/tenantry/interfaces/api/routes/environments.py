"""Environments of a workspace, named by their slugs."""

from typing import Annotated

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.tenants.types import ENVIRONMENT_PATTERN, Environment, EnvironmentKind
from tenantry.foundation.errors import Invalid
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Description, Limit, Moment, Page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


Kind = Annotated[EnvironmentKind, Field(strict=False)]


class EnvironmentBody(Body):
    slug: str = Field(pattern=ENVIRONMENT_PATTERN)
    kind: Kind | None = Field(default=None, description="what the slug says, when absent: dev, test, staging or prod")
    description: Description = ""


class EnvironmentChanges(Body):
    kind: Kind | None = None
    description: Description | None = None


class EnvironmentAnswer(Answer):
    slug: str
    kind: str
    description: str
    version: int
    created_at: Moment
    updated_at: Moment


async def _again(unit: Unit, resource_id: str) -> EnvironmentAnswer:
    return _rendered(await unit.environments.get(resource_id))


@routes.post("/workspaces/{ws}/environments", needs=Permission.WORKSPACE_UPDATE, replay=_again, status=201)
async def add_environment(request: Request, ws: str, body: EnvironmentBody) -> EnvironmentAnswer:
    """Add a tier."""
    unit = unit_of(request)
    kind = body.kind or _kind_of(body.slug)
    unit.resource_id = body.slug
    return _shown(unit, await unit.environments.add(body.slug, kind=kind, description=body.description))


@routes.get("/workspaces/{ws}/environments", needs=Permission.WORKSPACE_READ)
async def list_environments(
    request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[EnvironmentAnswer]:
    """The tiers of the workspace, by slug."""
    unit = unit_of(request)
    found = await unit.environments.list_environments(after=unit.read_cursor(cursor), limit=limit + 1)
    more = unit.make_cursor(found[limit - 1].slug) if len(found) > limit else None
    return Page[EnvironmentAnswer](items=[_rendered(each) for each in found[:limit]], next_cursor=more)


@routes.get("/workspaces/{ws}/environments/{environment}", needs=Permission.WORKSPACE_READ)
async def get_environment(request: Request, ws: str, environment: str) -> EnvironmentAnswer:
    """One tier."""
    unit = unit_of(request)
    return _shown(unit, await unit.environments.get(environment))


@routes.patch("/workspaces/{ws}/environments/{environment}", needs=Permission.WORKSPACE_UPDATE)
async def change_environment(
    request: Request, ws: str, environment: str, body: EnvironmentChanges
) -> EnvironmentAnswer:
    """Change kind or description; the slug stays."""
    unit = unit_of(request)
    changed = await unit.environments.change(
        environment, kind=body.kind, description=body.description, if_version=unit.if_version
    )
    return _shown(unit, changed)


@routes.delete("/workspaces/{ws}/environments/{environment}", needs=Permission.WORKSPACE_UPDATE)
async def remove_environment(request: Request, ws: str, environment: str) -> EnvironmentAnswer:
    """Remove it; gives what it was."""
    unit = unit_of(request)
    return _rendered(await unit.environments.remove(environment, if_version=unit.if_version))


def _kind_of(slug: str) -> EnvironmentKind:
    try:
        return EnvironmentKind(slug)
    except ValueError:
        known = [kind.value for kind in EnvironmentKind]
        raise Invalid(
            "kind_required",
            f"kind: {slug!r} does not say it: one of {', '.join(known)}",
            layer="tenants",
            field="kind",
            known=known,
        ) from None


def _shown(unit: Unit, environment: Environment) -> EnvironmentAnswer:
    # Removed and added again, a slug's versions begin anew.
    unit.show_version(environment.version, lasting=False)
    return _rendered(environment)


def _rendered(environment: Environment) -> EnvironmentAnswer:
    return EnvironmentAnswer(
        slug=environment.slug,
        kind=environment.kind,
        description=environment.description,
        version=environment.version,
        created_at=environment.created_at,
        updated_at=environment.updated_at,
    )
