"""Tenants: made, suspended, deleted by the platform; read and changed by their own administrators too."""

import base64
from typing import Any, Literal

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.tenants.types import (
    PLATFORM_TENANT,
    SLUG_PATTERN,
    Compliance,
    Isolation,
    NewTenant,
    Owner,
    Placement,
    Tenant,
    TenantSettings,
)
from tenantry.capabilities.tenants.types.plans import Quota
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.changes import name_of
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.foundation.signatures import key_id_of
from tenantry.interfaces.api.administrators import administrator
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_FREE_FORM = Field(default=None, max_length=100)


class TenantBody(Body):
    name: DisplayName
    slug: str = Field(pattern=SLUG_PATTERN, max_length=40)
    plan: str = Field(max_length=40)
    region: str = Field(max_length=16)
    owner: Owner
    isolation: Literal["row_level", "schema_level", "database_level"] | None = None
    settings: TenantSettings | None = None
    quotas: dict[str, Quota] | None = _FREE_FORM
    limits: dict[str, int | float | str] | None = _FREE_FORM
    billing: dict[str, str] | None = _FREE_FORM
    contacts: dict[str, str] | None = _FREE_FORM
    metadata: dict[str, str | int | float | bool] | None = _FREE_FORM
    compliance: Compliance | None = None
    slo_overlay: dict[str, Any] | None = None
    label_overlay: dict[str, Any] | None = None
    clock_skew_ms: int = Field(default=5000, ge=0, le=300_000)


class TenantChanges(Body):
    name: DisplayName | None = None
    owner: Owner | None = None
    settings: TenantSettings | None = None
    contacts: dict[str, str] | None = _FREE_FORM
    metadata: dict[str, str | int | float | bool] | None = _FREE_FORM
    compliance: Compliance | None = None
    slo_overlay: dict[str, Any] | None = Field(default=None, description="replaces what the tenant lays over, whole")
    label_overlay: dict[str, Any] | None = Field(default=None, description="the same")
    clock_skew_ms: int | None = Field(default=None, ge=0, le=300_000)
    plan: str | None = Field(default=None, max_length=40, description="by the platform only")
    quotas: dict[str, Quota] | None = _FREE_FORM
    limits: dict[str, int | float | str] | None = _FREE_FORM
    billing: dict[str, str] | None = _FREE_FORM


_PLATFORM_FIELDS = frozenset({"plan", "quotas", "limits", "billing"})


class Reason(Body):
    reason: str = Field(min_length=1, max_length=500)


class BootstrapKey(Answer):
    id: str
    secret: str = Field(description="shown once, valid for 24 hours")
    expires_at: Moment


class TenantAnswer(Answer):
    id: str
    slug: str
    name: str
    status: str
    status_reason: str | None
    plan: str
    region: str
    isolation: str
    owner: dict[str, Any]
    settings: dict[str, Any]
    quotas: dict[str, Any]
    limits: dict[str, Any]
    billing: dict[str, Any]
    contacts: dict[str, Any]
    metadata: dict[str, Any]
    compliance: dict[str, Any]
    slo_overlay: dict[str, Any]
    label_overlay: dict[str, Any]
    clock_skew_ms: int
    version: int
    created_at: Moment
    updated_at: Moment
    suspended_at: Moment | None
    deleted_at: Moment | None
    erase_after: Moment | None


class NewTenantAnswer(TenantAnswer):
    bootstrap_key: BootstrapKey


class CertificateAnswer(Answer):
    document: dict[str, Any]
    signature: str = Field(description="Ed25519 over `tenantry/certificate/1`, LF and the document by RFC 8785; base64")
    public_key: str = Field(description="of the installation, 32 bytes, base64")
    key_id: str


class PlacementAnswer(Answer):
    id: str
    slug: str
    region: str
    isolation: str
    status: str
    created_at: Moment


async def _again(unit: Unit, resource_id: str) -> TenantAnswer | PlacementAnswer:
    """Show a tenant again, less the key; one made from here lies in another cell: its placement says what it is."""
    if resource_id != format_id(Prefix.TENANT, unit.scope.tenant_id) and unit.scope.tenant_id == PLATFORM_TENANT:
        placement = await unit.runtime.directory.get(parse_id(Prefix.TENANT, resource_id))
        return render_placement(placement)
    return render(await unit.tenants.get())


@routes.post("/tenants", needs=Permission.PLATFORM_ADMIN, replay=_again, status=201)
async def create_tenant(request: Request, body: TenantBody) -> NewTenantAnswer:
    """Make a tenant in a region; its owner comes in with `bootstrap_key`."""
    unit = unit_of(request)
    new = NewTenant(
        name=body.name,
        slug=body.slug,
        plan=body.plan,
        region=body.region,
        owner=body.owner,
        isolation=Isolation(body.isolation) if body.isolation else None,
        settings=body.settings or TenantSettings(),
        quotas=dict(body.quotas) if body.quotas else None,
        limits=dict(body.limits) if body.limits else None,
        billing=dict(body.billing) if body.billing else None,
        contacts=dict(body.contacts) if body.contacts else None,
        metadata=dict(body.metadata) if body.metadata else None,
        compliance=dict(body.compliance) if body.compliance else None,
        slo_overlay=body.slo_overlay,
        label_overlay=body.label_overlay,
        clock_skew_ms=body.clock_skew_ms,
    )
    tenant, key = await unit.runtime.registry.create(new, actor=unit.scope.actor, trace_id=unit.scope.trace_id)
    tenant_id = format_id(Prefix.TENANT, tenant.tenant_id)
    unit.resource_id = tenant_id
    unit.show_version(tenant.version)
    await unit.audit.record(
        "tenant.created",
        resource_type="tenant",
        resource_id=tenant_id,
        # Ids only: this trail is the platform's and may lie in another region, which holds no word of the tenant.
        details={"plan": tenant.plan, "region": tenant.region},
    )
    bootstrap = BootstrapKey(id=key.id, secret=key.secret, expires_at=key.expires_at)
    return NewTenantAnswer(**render(tenant).model_dump(), bootstrap_key=bootstrap)


@routes.get("/tenants", needs=Permission.PLATFORM_ADMIN)
async def list_tenants(request: Request, limit: Limit = 50, cursor: CursorText = None) -> Page[PlacementAnswer]:
    """All tenants of the installation, as the directory knows them."""
    unit = unit_of(request)
    found = await unit.runtime.directory.list_placements(after=after(unit, cursor), limit=limit + 1)
    items = [render_placement(placement) for placement in found]
    return Page[PlacementAnswer](**page(unit, items, ids=[p.tenant_id for p in found], limit=limit))


@routes.get("/tenants/{tenant}", needs=Permission.TENANT_READ, platform=True)
async def get_tenant(request: Request, tenant: str) -> TenantAnswer:
    """The tenant's record."""
    unit = unit_of(request)
    lasting = tenant.startswith(f"{Prefix.TENANT}_")
    if lasting:
        await unit.show_vouched(name_of("tenants", unit.scope.tenant_id))
    found = await unit.tenants.get()
    unit.show_version(found.version, lasting=lasting)
    return render(found)


@routes.patch("/tenants/{tenant}", needs=Permission.TENANT_ADMIN, platform=True)
async def change_tenant(request: Request, tenant: str, body: TenantChanges) -> TenantAnswer:
    """Change the named fields, in settings and quotas the named entries; plan and numbers: by the platform only."""
    unit = unit_of(request)
    changes = body.model_dump(exclude_unset=True)
    if unit.caller.tenant_id != PLATFORM_TENANT and (refused := sorted(_PLATFORM_FIELDS & set(changes))):
        raise Denied(
            "platform_field",
            f"{refused[0]}: only the operator of the installation changes it",
            layer="access",
            allow_with=("platform-admin",),
        )
    if changes.get("plan"):
        plan = unit.runtime.plans.require(changes["plan"])
        changes["quotas"] = {**plan.quotas, **(changes.get("quotas") or {})}
    if body.slo_overlay is not None or body.label_overlay is not None:
        unit.runtime.overlays.require_of_tenant(
            plan=changes.get("plan") or (await unit.tenants.get()).plan,
            slos=body.slo_overlay,
            labels=body.label_overlay,
        )
    changed = await unit.tenants.update(
        {name: value for name, value in changes.items() if value is not None}, if_version=unit.if_version
    )
    unit.show_version(changed.version)
    return render(changed)


@routes.post("/tenants/{tenant}/suspend", needs=Permission.PLATFORM_ADMIN, replay=_again)
async def suspend_tenant(request: Request, tenant: str, body: Reason) -> TenantAnswer:
    """Refuse everything of the tenant and stop what it runs."""
    unit = _of_named_tenant(request)
    return _shown(unit, await unit.tenants.suspend(reason=body.reason))


@routes.post("/tenants/{tenant}/resume", needs=Permission.PLATFORM_ADMIN, replay=_again)
async def resume_tenant(request: Request, tenant: str) -> TenantAnswer:
    """Let a suspended tenant work again."""
    unit = _of_named_tenant(request)
    return _shown(unit, await unit.tenants.resume())


@routes.delete("/tenants/{tenant}", needs=Permission.PLATFORM_ADMIN)
async def delete_tenant(request: Request, tenant: str) -> TenantAnswer:
    """Delete softly; `restore` takes it back until `erase_after`. Refused while a legal hold keeps what it has."""
    unit = _of_named_tenant(request)
    deleted = await unit.tenants.delete(if_version=unit.if_version)
    await unit.holds.require_none()  # whoever places one holds the tenant's row, which is locked by now
    return _followed(unit, deleted)


@routes.post("/tenants/{tenant}/restore", needs=Permission.PLATFORM_ADMIN, replay=_again)
async def restore_tenant(request: Request, tenant: str) -> TenantAnswer:
    """Take a deletion back."""
    unit = _of_named_tenant(request)
    await unit.runtime.offboarding.require_restorable(unit.scope.tenant_id)
    return _followed(unit, await unit.tenants.restore())


@routes.get("/tenants/{tenant}/certificate", needs=Permission.PLATFORM_ADMIN, erased_too=True)
async def get_certificate(request: Request, tenant: str) -> CertificateAnswer:
    """What is shown of an erased tenant: ids, counts and digests, signed by the installation."""
    unit = unit_of(request)
    found = await unit.runtime.offboarding.certificate(unit.about, region=unit.scope.region)
    public_key = unit.runtime.public_key
    return CertificateAnswer(
        document=found.document,
        signature=base64.b64encode(found.signature or b"").decode(),
        public_key=base64.b64encode(public_key).decode(),
        key_id=key_id_of(public_key),
    )


def _of_named_tenant(request: Request) -> Unit:
    """Give the unit, unless the platform's own tenant is named: it is the floor everything stands on."""
    unit = unit_of(request)
    if unit.scope.tenant_id == PLATFORM_TENANT:
        raise Denied("platform_tenant", "the installation's own tenant stays as it is", layer="tenants")
    return unit


def _followed(unit: Unit, tenant: Tenant) -> TenantAnswer:
    """Answer, and let directory and erasure follow; what a crash in between leaves undone, the relay does."""

    async def follow() -> None:
        offboarding = unit.runtime.offboarding
        await offboarding.follow(tenant.tenant_id, region=tenant.region, requested_by=administrator(unit.caller))

    unit.afterwards.append(follow)
    unit.show_version(tenant.version)
    return render(tenant)


def _shown(unit: Unit, tenant: Tenant) -> TenantAnswer:
    """Answer, and let the directory follow once the cell has committed: the cell is what counts."""

    async def follow() -> None:
        await unit.runtime.directory.set_status(tenant.tenant_id, tenant.status)

    unit.afterwards.append(follow)
    unit.show_version(tenant.version)
    return render(tenant)


def render(tenant: Tenant) -> TenantAnswer:
    return TenantAnswer(
        id=format_id(Prefix.TENANT, tenant.tenant_id),
        slug=tenant.slug,
        name=tenant.name,
        status=tenant.status,
        status_reason=tenant.status_reason,
        plan=tenant.plan,
        region=tenant.region,
        isolation=tenant.isolation,
        owner=tenant.owner,
        settings=tenant.settings,
        quotas=tenant.quotas,
        limits=tenant.limits,
        billing=tenant.billing,
        contacts=tenant.contacts,
        metadata=tenant.metadata,
        compliance=tenant.compliance,
        slo_overlay=tenant.slo_overlay,
        label_overlay=tenant.label_overlay,
        clock_skew_ms=tenant.clock_skew_ms,
        version=tenant.version,
        created_at=tenant.created_at,
        updated_at=tenant.updated_at,
        suspended_at=tenant.suspended_at,
        deleted_at=tenant.deleted_at,
        erase_after=tenant.erase_after,
    )


def render_placement(placement: Placement) -> PlacementAnswer:
    return PlacementAnswer(
        id=format_id(Prefix.TENANT, placement.tenant_id),
        slug=placement.slug,
        region=placement.region,
        isolation=placement.isolation,
        status=placement.status,
        created_at=placement.created_at,
    )
