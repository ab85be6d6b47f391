"""A tenant's own copy of everything it has, and a tenant put back from one."""

from typing import Annotated, Literal

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.tenants.service.archives import read_key
from tenantry.capabilities.tenants.types import PLATFORM_TENANT, SLUG_PATTERN, Isolation, Operation, OperationKind
from tenantry.foundation.errors import Denied, Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.administrators import administrator
from tenantry.interfaces.api.routes.operations import OperationAnswer, render
from tenantry.interfaces.api.routes.tenants import BootstrapKey
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer
from tenantry.interfaces.api.streams import uploaded
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_TAR = "application/x-tar"


class ExportAnswer(Answer):
    status: str
    size_bytes: int
    sha256: str
    key: str = Field(description="opens the keys in the archive: keep it apart from that")


class ImportAnswer(OperationAnswer):
    tenant: str
    bootstrap_key: BootstrapKey = Field(description="the owner's way in, once the import has succeeded")


async def _again(unit: Unit, resource_id: str) -> OperationAnswer:
    return render(await unit.operations.get(parse_id(Prefix.OPERATION, resource_id), tenant_id=unit.scope.tenant_id))


async def _import_again(unit: Unit, resource_id: str) -> OperationAnswer:
    """Show an import again, less the key."""
    return render(await unit.operations.get(parse_id(Prefix.OPERATION, resource_id), tenant_id=None))


@routes.post("/tenants/{tenant}/export", needs=Permission.TENANT_ADMIN, replay=_again, status=202, platform=True)
async def export_tenant(request: Request, tenant: str) -> OperationAnswer:
    """Collect everything of the tenant into one archive; its administrators fetch it when the operation has ended."""
    unit = unit_of(request)
    if unit.scope.tenant_id == PLATFORM_TENANT:
        raise Denied("platform_tenant", "the installation's own tenant stays as it is", layer="tenants")
    operation = await unit.exports.request(unit.scope.tenant_id, requested_by=administrator(unit.caller))
    unit.resource_id = format_id(Prefix.OPERATION, operation.operation_id)
    return render(operation)


@routes.get("/tenants/{tenant}/exports/{export}", needs=Permission.TENANT_ADMIN)
async def get_export(request: Request, tenant: str, export: str) -> ExportAnswer:
    """Size, digest and key of an archive that is ready; the trail is told of it."""
    unit = unit_of(request)
    found = await _find(unit, export)
    told = await unit.exports.describe(found)
    return ExportAnswer(status=found.status, size_bytes=told.size_bytes, sha256=told.sha256, key=told.key)


@routes.get("/tenants/{tenant}/exports/{export}/content", needs=Permission.TENANT_ADMIN, media_type=_TAR)
async def get_export_content(request: Request, tenant: str, export: str) -> Response:
    """The archive, streamed."""
    unit = unit_of(request)
    found = await _find(unit, export)
    size, digest, content = await unit.exports.content(found)
    unit.show_tag(digest)
    name = f"{unit.caller.tenant_slug}-{export}.tar"
    headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(content, media_type=_TAR, headers=headers)


@routes.post("/tenants/import", needs=Permission.PLATFORM_ADMIN, replay=_import_again, status=202, raw_body=True)
async def import_tenant(
    request: Request,
    region: Annotated[str, Query(max_length=16)],
    isolation: Annotated[Literal["row_level", "schema_level", "database_level"] | None, Query()] = None,
    slug: Annotated[str | None, Query(pattern=SLUG_PATTERN)] = None,
) -> ImportAnswer:
    """Put a tenant back from its archive (the body); `X-Export-Key` is the key that its export was given out with."""
    unit = unit_of(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != _TAR:
        raise Invalid("content_type_unsupported", f"Content-Type: send {_TAR}", layer="api")
    key, server = read_key(request.headers.get("x-export-key", "")), unit.runtime.settings.server
    operation, owner_key = await unit.runtime.imports.request(
        uploaded(request, server.max_upload_bytes, idle_seconds=server.upload_idle_seconds),
        key=key,
        region=region,
        isolation=Isolation(isolation) if isolation else None,
        slug=slug,
        requested_by=administrator(unit.caller),
    )
    name = format_id(Prefix.OPERATION, operation.operation_id)
    unit.resource_id = name
    tenant = format_id(Prefix.TENANT, operation.tenant_id)
    await unit.audit.record(
        "tenant.import_requested",
        resource_type="operation",
        resource_id=name,
        details={"tenant": tenant, "region": region},
    )
    bootstrap = BootstrapKey(id=owner_key.id, secret=owner_key.secret, expires_at=owner_key.expires_at)
    return ImportAnswer(**render(operation).model_dump(), tenant=tenant, bootstrap_key=bootstrap)


@routes.get("/imports/{operation}", needs=Permission.PLATFORM_ADMIN)
async def get_import(request: Request, operation: str) -> OperationAnswer:
    """How far an import has come; what has failed has left no tenant that could be asked for it."""
    unit = unit_of(request)
    found = await unit.operations.get(parse_id(Prefix.OPERATION, operation), tenant_id=None, kind=OperationKind.IMPORT)
    return render(found)


async def _find(unit: Unit, name: str) -> Operation:
    return await unit.operations.get(
        parse_id(Prefix.OPERATION, name), tenant_id=unit.scope.tenant_id, kind=OperationKind.EXPORT
    )
