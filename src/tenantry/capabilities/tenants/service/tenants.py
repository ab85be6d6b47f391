"""Tenants: made by the platform, changed by their administrators, suspended, deleted, restored."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types.classes import FreeText
from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import (
    erasure_begun,
    isolation_unavailable,
    slug_taken,
    state_conflict,
    tenant_not_found,
    unknown_region,
    version_mismatch,
)
from tenantry.capabilities.tenants.ports import OwnerAdmission, Provisioner
from tenantry.capabilities.tenants.service.catalogues import OverlayCatalogue
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.keyring import TenantKeys
from tenantry.capabilities.tenants.service.plans import PlanCatalogue
from tenantry.capabilities.tenants.types import (
    PLATFORM_SLUG,
    PLATFORM_TENANT,
    RESERVED_SLUGS,
    REVOCATIONS,
    BootstrapKey,
    Isolation,
    NewTenant,
    Owner,
    Placement,
    Tenant,
    TenantStatus,
)
from tenantry.capabilities.tenants.types.plans import Plan
from tenantry.foundation import outbox
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell, Cells
from tenantry.foundation.database.places import SHARED, database_of, is_schema, schema_of
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.scope import SYSTEM, Actor, TenantScope

KeepKey = Callable[[Tenant, BootstrapKey], Awaitable[None]]
RETENTION: Final = timedelta(days=30)
"""How long a deletion can be taken back unless the settings say otherwise."""
ERASING: Final = "erasing"
"""Reason of a deleted tenant's status once nothing takes the deletion back."""
_MERGED: Final = frozenset({"settings", "quotas"})
TENANT_CHANGED: Final = "tenant.changed"
"""Outbox topic of a deletion and of a restoration; no payload: what counts is what the cell says when it is read."""
TENANT_SUSPENDED: Final = "tenant.suspended"
"""Outbox topic; payload {"reason": …}: whatever runs for the tenant stops."""


class TenantService:
    """The session's own tenant."""

    def __init__(
        self, *, session: TenantSession, audit: AuditService, clock: Clock, retention: timedelta = RETENTION
    ) -> None:
        self._session = session
        self._audit = audit
        self._clock = clock
        self._retention = retention

    async def get(self) -> Tenant:
        tenant = await repository.find_tenant(self._session)
        if tenant is None:
            raise tenant_not_found()
        return tenant

    async def update(self, changes: dict[str, Any], *, if_version: int | None) -> Tenant:
        """Change the named fields, in settings and quotas the named entries; raises Precondition for a stale one."""
        present = await self._locked(if_version)
        for name in _MERGED & set(changes):
            changes = {**changes, name: {**getattr(present, name), **changes[name]}}
        tenant = await repository.update_tenant(self._session, changes, now=self._clock.now())
        await self._record("tenant.updated", details={"fields": sorted(changes)})
        if tenant.plan != present.plan:
            await self._record("tenant.plan_changed", details={"from": present.plan, "to": tenant.plan})
        if {"clock_skew_ms", "plan", "limits", "quotas", "settings"} & set(
            changes
        ):  # what is cached of a tenant besides its state
            await announce_revocation(self._session)
        return tenant

    async def suspend(self, *, reason: str) -> Tenant:
        """Refuse everything of the tenant from this commit on, and stop what runs. Suspending twice changes nothing."""
        tenant = await self._locked(None)
        if tenant.status is TenantStatus.SUSPENDED:
            return tenant
        return await self._enter(tenant, TenantStatus.SUSPENDED, reason=FreeText(reason))

    async def resume(self) -> Tenant:
        """Let a suspended tenant work again. Resuming an active one changes nothing."""
        tenant = await self._locked(None)
        if tenant.status is TenantStatus.ACTIVE:
            return tenant
        if tenant.status is not TenantStatus.SUSPENDED:
            raise state_conflict("tenant", tenant.status, "resumed")
        return await self._enter(tenant, TenantStatus.ACTIVE)

    async def delete(self, *, if_version: int | None) -> Tenant:
        """Delete softly: refused like a suspended one, restorable until `erase_after`."""
        tenant = await self._locked(if_version)
        if tenant.status is TenantStatus.DELETED:
            return tenant
        return await self._enter(tenant, TenantStatus.DELETED, reason="deleted")

    async def restore(self) -> Tenant:
        """Take a deletion back; raises Conflict `erasure_begun` when it is too late, which the tenant's row decides."""
        tenant = await self._locked(None)
        if tenant.status_reason == ERASING:
            raise erasure_begun()
        if tenant.status is not TenantStatus.DELETED:
            raise state_conflict("tenant", tenant.status, "restored")
        return await self._enter(tenant, TenantStatus.ACTIVE)

    async def _locked(self, if_version: int | None) -> Tenant:
        tenant = await repository.find_tenant(self._session, lock=True)
        if tenant is None:
            raise tenant_not_found()
        if if_version is not None and tenant.version != if_version:
            raise version_mismatch(tenant.version)
        return tenant

    async def _enter(self, tenant: Tenant, status: TenantStatus, *, reason: str | None = None) -> Tenant:
        now = self._clock.now()
        deleted = status is TenantStatus.DELETED
        changes = {
            "status": status.value,
            "status_reason": reason,
            "suspended_at": now if status is TenantStatus.SUSPENDED else None,
            "deleted_at": now if deleted else None,
            "erase_after": now + self._retention if deleted else None,
        }
        await repository.set_tenant_state(self._session, status.value)
        changed = await repository.update_tenant(self._session, changes, now=now)
        if status is not TenantStatus.ACTIVE:
            await outbox.publish(self._session, topic=TENANT_SUSPENDED, payload={"reason": reason})
        if deleted or tenant.status is TenantStatus.DELETED:
            await outbox.publish(self._session, topic=TENANT_CHANGED, payload={})
        await announce_revocation(self._session)
        verb = {"active": "resumed", "suspended": "suspended", "deleted": "deleted"}[status.value]
        if tenant.status is TenantStatus.DELETED:
            verb = "restored"
        await self._record(f"tenant.{verb}", reason=reason)
        return changed

    async def _record(self, action: str, *, reason: str | None = None, details: dict[str, Any] | None = None) -> None:
        await self._audit.record(
            action,
            resource_type="tenant",
            resource_id=format_id(Prefix.TENANT, self._session.scope.tenant_id),
            reason=reason,
            details=details,
        )


class TenantRegistry:
    """Makes tenants: a place in the directory, then rows in the cell, then `active`."""

    def __init__(
        self,
        *,
        directory: Directory,
        cells: Cells,
        plans: PlanCatalogue,
        overlays: OverlayCatalogue,
        keys: TenantKeys,
        admission: OwnerAdmission,
        provisioner: Provisioner,
        regions: tuple[str, ...],
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._cells = cells
        self._plans = plans
        self._overlays = overlays
        self._keys = keys
        self._admission = admission
        self._provisioner = provisioner
        self._regions = regions
        self._clock = clock

    async def create(
        self, new: NewTenant, *, actor: Actor, trace_id: str = "", keep: KeepKey | None = None
    ) -> tuple[Tenant, BootstrapKey]:
        """Make the tenant; gives it and its owner's bootstrap key, whose secret nobody can read again.

        `keep` is given both before the tenant counts as made: if it fails, the next call makes a new key.

        Crash-safe: a place reserved without rows is taken over by the next call with the same slug. Raises Conflict
        `slug_taken`, Invalid `plan_unknown` or `region_unknown`, WrongRegion when another process must be asked.
        """
        plan = self._plans.require(new.plan)
        self._overlays.require_of_tenant(plan=new.plan, slos=new.slo_overlay, labels=new.label_overlay)
        if new.region not in self._regions:
            raise unknown_region(new.region, self._regions)
        if new.slug in RESERVED_SLUGS:
            raise slug_taken(new.slug)
        self._cells.get(new.region)
        isolation, offered = new.isolation or Isolation(plan.isolation), self._provisioner.offers(new.region)
        if isolation not in offered:
            raise isolation_unavailable(isolation, offered)
        tenant_id = new_id()
        wanted = Placement(
            tenant_id=tenant_id,
            slug=new.slug,
            region=new.region,
            isolation=isolation,
            placement=place_for(isolation, region=new.region, tenant_id=tenant_id),
            status=TenantStatus.PENDING,
            created_at=self._clock.now(),
        )
        placement = await self._directory.reserve(wanted)
        await self._provisioner.make(region=placement.region, place=placement.placement)
        scope = TenantScope(tenant_id=placement.tenant_id, region=placement.region, actor=actor, trace_id=trace_id)
        tenant = self._record_of(new, plan, placement)
        async with self._cells.session(scope, lifecycle=True) as session:
            if (found := await repository.find_tenant(session)) is not None:
                # An earlier call got this far and died before the directory knew: its key was never shown.
                tenant = found
                key = await self._admission.admit(session, owner=Owner.model_validate(found.owner))
            else:
                key = await self._settle(session, tenant, new)
        if keep is not None:
            await keep(tenant, key)
        await self._directory.set_status(placement.tenant_id, TenantStatus.ACTIVE)
        return tenant, key

    async def _settle(self, session: TenantSession, tenant: Tenant, new: NewTenant) -> BootstrapKey:
        keyset_id, wrapped = await self._keys.make(tenant.tenant_id)
        await repository.set_tenant_state(session, "active")
        await repository.insert_tenant(session, tenant)
        await repository.insert_keyset(session, keyset_id=keyset_id, wrapped=wrapped, now=tenant.created_at)
        await self._announce_in_cell(session)
        await AuditService(session=session, clock=self._clock).record(
            "tenant.created",
            resource_type="tenant",
            resource_id=format_id(Prefix.TENANT, tenant.tenant_id),
            details={"plan": tenant.plan, "region": tenant.region, "isolation": tenant.isolation.value},
        )
        return await self._admission.admit(session, owner=new.owner)

    async def _announce_in_cell(self, session: TenantSession) -> None:
        """Let a tenant with a database of its own into the cell's queue, which lies in the cell's."""
        place = await session.place()
        if not is_schema(place.name):
            cell = self._cells.get(session.scope.region)
            async with await cell.session_at(SHARED, session.scope, lifecycle=True) as shared:
                await repository.set_tenant_state(shared, "active", home=place.name)

    def _record_of(self, new: NewTenant, plan: Plan, placement: Placement) -> Tenant:
        now = self._clock.now()
        return Tenant(
            tenant_id=placement.tenant_id,
            slug=new.slug,
            name=new.name,
            status=TenantStatus.ACTIVE,
            status_reason=None,
            plan=new.plan,
            region=placement.region,
            isolation=placement.isolation,
            owner=new.owner.model_dump(),
            settings=new.settings.model_dump(),
            quotas=dict(plan.quotas) | (new.quotas or {}),
            limits=new.limits or {},
            billing=new.billing or {},
            contacts=new.contacts or {},
            metadata=new.metadata or {},
            compliance=new.compliance or {},
            slo_overlay=new.slo_overlay or {},
            label_overlay=new.label_overlay or {},
            clock_skew_ms=new.clock_skew_ms,
            version=1,
            created_at=now,
            updated_at=now,
            suspended_at=None,
            deleted_at=None,
            erase_after=None,
        )


def place_for(isolation: Isolation, *, region: str, tenant_id: UUID) -> str:
    """Name the place of a tenant under a strategy."""
    if isolation is Isolation.SCHEMA_LEVEL:
        return schema_of(tenant_id)
    return database_of(region, tenant_id) if isolation is Isolation.DATABASE_LEVEL else SHARED


async def announce_revocation(session: TenantSession) -> None:
    """Tell every process, at commit, to forget what it cached of this tenant: keys, permissions, states."""
    session.revokes = True
    await session.execute(f"select pg_notify('{REVOCATIONS}', $1)", session.scope.tenant_id.hex)


def refuse_unless_active(status: TenantStatus) -> None:
    """Raise Denied for a tenant that may not work; the fence says the same, later and whatever was cached."""
    if status is not TenantStatus.ACTIVE:
        raise Denied(
            "tenant_suspended",
            f"this tenant is {status}: its administrator or the operator can tell why",
            layer="tenants",
        )


async def ensure_platform_tenant(*, cell: Cell, keys: TenantKeys, clock: Clock) -> None:
    """Make the installation's own tenant in a cell; idempotent. It holds the platform's keys and its trail."""
    scope = TenantScope(tenant_id=PLATFORM_TENANT, region=cell.region, actor=SYSTEM)
    async with cell.session(scope, lifecycle=True) as session:
        if await repository.find_tenant(session):
            return
        now = clock.now()
        await repository.set_tenant_state(session, "active")
        tenant = Tenant(
            tenant_id=PLATFORM_TENANT,
            slug=PLATFORM_SLUG,
            name="The installation",
            status=TenantStatus.ACTIVE,
            status_reason=None,
            plan="enterprise",
            region=cell.region,
            isolation=Isolation.ROW_LEVEL,
            owner={},
            settings={},
            quotas={},
            limits={},
            billing={},
            contacts={},
            metadata={},
            compliance={},
            slo_overlay={},
            label_overlay={},
            clock_skew_ms=0,
            version=1,
            created_at=now,
            updated_at=now,
            suspended_at=None,
            deleted_at=None,
            erase_after=None,
        )
        await repository.insert_tenant(session, tenant)
        keyset_id, wrapped = await keys.make(PLATFORM_TENANT)
        await repository.insert_keyset(session, keyset_id=keyset_id, wrapped=wrapped, now=now)
