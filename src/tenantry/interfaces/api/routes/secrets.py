"""Secrets of a workspace: written, listed, removed, never shown."""

from typing import Annotated, Any

from fastapi import Request
from pydantic import AfterValidator, Field
from starlette.responses import Response

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.secrets.types import MAX_VALUE_BYTES, NAME_PATTERN, Secret, SecretVersion
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


def _fitting(value: str) -> str:
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise ValueError(f"must have at most {MAX_VALUE_BYTES} bytes")
    return value


class SecretBody(Body):
    name: str = Field(pattern=NAME_PATTERN)
    value: Annotated[str, AfterValidator(_fitting)] = Field(
        min_length=1, max_length=MAX_VALUE_BYTES, repr=False, description="no answer ever has it"
    )


class SecretAnswer(Answer):
    id: str
    workspace: str
    name: str
    version: int = Field(description="the newest, which a job is given unless it names another")
    created_at: Moment
    created_by: str
    updated_at: Moment


class SecretVersionAnswer(Answer):
    version: int
    created_at: Moment
    created_by: str
    kept: bool = Field(description="whether its value is still there")


class SecretWithVersionsAnswer(SecretAnswer):
    versions: list[SecretVersionAnswer] = Field(description="the fifty newest, newest first")


async def _again(unit: Unit, resource_id: str) -> SecretAnswer:
    return SecretAnswer(**_rendered(await unit.secrets.get(parse_id(Prefix.SECRET, resource_id))))


@routes.post("/workspaces/{ws}/secrets", needs=Permission.SECRET_ADMIN, replay=_again, status=201)
async def write_secret(request: Request, ws: str, body: SecretBody) -> SecretAnswer:
    """Write a secret; one of this name gets another version, which jobs are given from now on."""
    unit = unit_of(request)
    keyset = await unit.keyset()
    secret = await unit.secrets.write(name=body.name, value=body.value, keyset=keyset)
    unit.resource_id = format_id(Prefix.SECRET, secret.secret_id)
    unit.show_version(secret.version)
    return SecretAnswer(**_rendered(secret))


@routes.get("/workspaces/{ws}/secrets", needs=Permission.SECRET_READ)
async def list_secrets(request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None) -> Page[SecretAnswer]:
    """The secrets of the workspace, without their values."""
    unit = unit_of(request)
    found = await unit.secrets.list_secrets(after=after(unit, cursor), limit=limit + 1)
    items = [SecretAnswer(**_rendered(each)) for each in found]
    return Page[SecretAnswer](**page(unit, items, ids=[each.secret_id for each in found], limit=limit))


@routes.get("/workspaces/{ws}/secrets/{secret}", needs=Permission.SECRET_READ)
async def get_secret(request: Request, ws: str, secret: str) -> SecretWithVersionsAnswer:
    """One secret and its versions, without their values."""
    unit = unit_of(request)
    found = await unit.secrets.get(parse_id(Prefix.SECRET, secret))
    unit.show_version(found.version)
    versions = [_version(each) for each in await unit.secrets.list_versions(found)]
    return SecretWithVersionsAnswer(**_rendered(found), versions=versions)


@routes.delete("/workspaces/{ws}/secrets/{secret}", needs=Permission.SECRET_ADMIN, status=204, media_type="")
async def remove_secret(request: Request, ws: str, secret: str) -> Response:
    """Remove a secret with all its versions; a job that waits for it fails when it begins."""
    unit = unit_of(request)
    await unit.secrets.remove(parse_id(Prefix.SECRET, secret), if_version=unit.if_version)
    return Response(status_code=204)


def _rendered(secret: Secret) -> dict[str, Any]:
    return {
        "id": format_id(Prefix.SECRET, secret.secret_id),
        "workspace": format_id(Prefix.WORKSPACE, secret.workspace_id),
        "name": secret.name,
        "version": secret.version,
        "created_at": secret.created_at,
        "created_by": secret.created_by,
        "updated_at": secret.updated_at,
    }


def _version(version: SecretVersion) -> SecretVersionAnswer:
    return SecretVersionAnswer(
        version=version.version, created_at=version.created_at, created_by=version.created_by, kept=version.kept
    )
