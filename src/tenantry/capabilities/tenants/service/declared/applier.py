"""The server's side of declared tenants: loads the directory, tells what does not count, applies what does."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

import structlog

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.errors import unknown_region
from tenantry.capabilities.tenants.service.catalogues import OverlayCatalogue
from tenantry.capabilities.tenants.service.declared.declaration import Declaration, FileFault
from tenantry.capabilities.tenants.service.declared.difference import (
    Action,
    Change,
    compare,
    impossibility,
    resumption_fault,
)
from tenantry.capabilities.tenants.service.declared.folder import Loaded, TenantFolder, changed_files
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.plans import PlanCatalogue
from tenantry.capabilities.tenants.service.tenants import KeepKey, TenantRegistry, TenantService
from tenantry.capabilities.tenants.types import (
    Isolation,
    NewTenant,
    Placement,
    TenantSettings,
    TenantStatus,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import ErrorKind, TenantryError
from tenantry.foundation.scope import SYSTEM, Actor, TenantScope

_ATTEMPTS: Final = 3
_LATER: Final = frozenset({ErrorKind.UNAVAILABLE, ErrorKind.CONFLICT, ErrorKind.PRECONDITION, ErrorKind.FAULT})
_log = structlog.get_logger(__name__)


class DeclaredMode(StrEnum):
    CHECK = "check"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Difference:
    """One tenant that is not as declared, or was not until now."""

    file: str
    slug: str
    action: Action
    fields: tuple[str, ...]
    applied: bool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a look at the directory found and did."""

    mode: DeclaredMode
    loaded: int
    changed: tuple[Difference, ...]
    skipped: tuple[FileFault, ...]


class DeclaredTenants:
    """One for each server process. Several apply the same files safely: a change names the version it was compared
    with, a slug is reserved once, and who comes second finds nothing left to do.
    """

    def __init__(
        self,
        *,
        folder: TenantFolder,
        mode: DeclaredMode,
        registry: TenantRegistry,
        directory: Directory,
        cells: Cells,
        plans: PlanCatalogue,
        overlays: OverlayCatalogue,
        regions: tuple[str, ...],
        clock: Clock,
        keep_key: KeepKey,
        forget: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._mode = mode
        self._registry = registry
        self._directory = directory
        self._cells = cells
        self._plans = plans
        self._overlays = overlays
        self._regions = regions
        self._served = frozenset(cell.region for cell in cells)
        self._clock = clock
        self._keep_key = keep_key
        self._forget = forget
        self._turn = asyncio.Lock()
        self._seen: Loaded | None = None
        self._fresh: set[str] = set()
        self._due: set[str] = set()
        self._told: set[FileFault] = set()

    async def reload(self) -> Reloaded:
        """Read all files now and check or apply each; drift counts as a change. Raises nothing for a single file."""
        async with self._turn:
            loaded = self._seen = await asyncio.to_thread(self._folder.load)
            self._fresh.clear()
            return await self._settle(loaded, loaded.declared)

    async def poll(self) -> Reloaded | None:
        """Look whether files have changed and check or apply those; None when there is nothing to do.

        A changed file counts once two looks in a row have found it the same: one that is still being written is not
        taken for what its author means. What could not be applied is tried again.
        """
        async with self._turn:
            loaded, before = await asyncio.to_thread(self._folder.load), self._seen
            changed = set(changed_files(before or Loaded(), loaded))
            self._due |= changed if before is None else self._fresh - changed
            self._fresh = set() if before is None else changed
            self._seen = loaded
            due = [each for each in loaded.declared if each.file in self._due]
            faults_are_new = bool(set(loaded.skipped) - self._told) and not self._fresh
            if not due and not faults_are_new:
                self._due &= {each.file for each in loaded.declared}
                return None
            return await self._settle(loaded, due)

    async def _settle(self, loaded: Loaded, declarations: Iterable[Declaration]) -> Reloaded:
        changed: list[Difference] = []
        skipped = list(loaded.skipped)
        later: set[str] = set()
        for declaration in declarations:
            found = await self._bring_about(declaration, later)
            if isinstance(found, list):
                skipped.extend(found)
            elif found is not None:
                changed.append(found)
        self._due = later
        self._tell(skipped, changed)
        return Reloaded(self._mode, len(loaded.declared), tuple(changed), tuple(skipped))

    def _tell(self, skipped: list[FileFault], changed: list[Difference]) -> None:
        for fault in skipped:
            if fault not in self._told:
                _log.warning("declared.skipped", file=fault.file, line=fault.line, field=fault.field, rule=fault.rule)
        self._told = set(skipped)
        for each in changed:
            event = "declared.applied" if each.applied else "declared.differs"
            _log.info(event, file=each.file, tenant=each.slug, change=each.action.value, fields=list(each.fields))

    async def _bring_about(self, declaration: Declaration, later: set[str]) -> Difference | list[FileFault] | None:
        for attempt in range(_ATTEMPTS):
            try:
                found = await self._one(declaration)
            except TenantryError as error:
                if error.kind is ErrorKind.PRECONDITION and attempt + 1 < _ATTEMPTS:
                    continue  # somebody changed it between our look and our change: look again
                if error.kind in _LATER:
                    later.add(declaration.file)
                return _faults_of(declaration, error)
            except OSError as error:
                later.add(declaration.file)
                return [declaration.fault("slug", f"its key could not be written: {error.strerror}")]
            return [found] if isinstance(found, FileFault) else found
        return None

    async def _one(self, declaration: Declaration) -> Difference | FileFault | None:
        tenant = declaration.tenant
        self._plans.require(tenant.plan)
        if tenant.region not in self._regions:
            raise unknown_region(tenant.region, self._regions)
        overlays = declaration.named
        self._overlays.require_of_tenant(
            plan=tenant.plan, slos=overlays.get("slo_overlay"), labels=overlays.get("label_overlay")
        )
        placement = await self._directory.find(tenant.slug)
        if (placement.region if placement else tenant.region) not in self._served:
            # Another server's to bring about; here only what no server can is told.
            return impossibility(declaration, asdict(placement)) if placement else None
        if placement is None or placement.status is TenantStatus.PENDING:
            change = compare(declaration, None)
            assert isinstance(change, Change), "what is not there stands in nobody's way"  # noqa: S101 - an invariant
            if self._mode is DeclaredMode.APPLY:
                await self._create(declaration, change)
            return self._difference(change)
        if fault := impossibility(declaration, asdict(placement)):
            return fault
        scope = _scope(declaration.file, placement)
        async with self._cells.session(scope, lifecycle=True) as session:
            found = await self._update(session, declaration)
        if isinstance(found, Change):
            if found.suspends or found.resumes:
                await self._follow(placement, found)
            return self._difference(found)
        return found

    async def _create(self, declaration: Declaration, change: Change) -> None:
        actor = _actor(declaration.file)
        tenant, _ = await self._registry.create(_new_tenant(declaration, change.body), actor=actor, keep=self._keep_key)
        if not change.suspends:
            return
        placement = await self._directory.get(tenant.tenant_id)
        async with self._cells.session(_scope(declaration.file, placement), lifecycle=True) as session:
            await self._service(session).suspend(reason=change.reason)
        await self._follow(placement, change)

    async def _update(self, session: TenantSession, declaration: Declaration) -> Change | FileFault | None:
        service = self._service(session)
        present = await service.get()
        change = compare(declaration, asdict(present))
        if isinstance(change, FileFault):
            return change
        if change.resumes and (fault := resumption_fault(declaration, asdict(present))):
            return fault
        if change.action is Action.UNCHANGED:
            return None
        if self._mode is DeclaredMode.APPLY:
            await self._write(service, change, version=present.version)
        return change

    async def _write(self, service: TenantService, change: Change, *, version: int) -> None:
        body = change.body
        if "plan" in body:
            body = {**body, "quotas": {**self._plans.require(body["plan"]).quotas, **body.get("quotas", {})}}
        if body:
            await service.update(body, if_version=version)
        if change.suspends:
            await service.suspend(reason=change.reason)
        if change.resumes:
            await service.resume()

    async def _follow(self, placement: Placement, change: Change) -> None:
        """Let the directory and this process's caches follow what the cell has committed."""
        if self._mode is DeclaredMode.APPLY:
            status = TenantStatus.SUSPENDED if change.suspends else TenantStatus.ACTIVE
            self._forget(placement.tenant_id.hex)
            await self._directory.set_status(placement.tenant_id, status)

    def _service(self, session: TenantSession) -> TenantService:
        audit = AuditService(session=session, clock=self._clock)
        return TenantService(session=session, audit=audit, clock=self._clock)

    def _difference(self, change: Change) -> Difference:
        fields = tuple(dict.fromkeys(each.field for each in change.fields))
        return Difference(change.file, change.slug, change.action, fields, self._mode is DeclaredMode.APPLY)


def _faults_of(declaration: Declaration, error: TenantryError) -> list[FileFault]:
    if error.code == "slug_taken":
        # Another server is making it, or one died while it did: after half a minute the next look takes it over.
        return [declaration.fault("slug", "is being made just now: looked at again later")]
    several = error.fields.get("errors")
    if isinstance(several, list):
        return [declaration.fault(str(each["field"]), str(each["message"])) for each in several]
    field = str(error.fields.get("field") or "slug")
    return [declaration.fault(field, error.message.removeprefix(f"{field}: "))]


def _actor(file: str) -> Actor:
    """Say in the trail that a file did it, and which."""
    return Actor(SYSTEM.type, SYSTEM.id, (f"tenants/{file}",))


def _scope(file: str, placement: Placement) -> TenantScope:
    return TenantScope(tenant_id=placement.tenant_id, region=placement.region, actor=_actor(file))


def _new_tenant(declaration: Declaration, body: dict[str, Any]) -> NewTenant:
    tenant = declaration.tenant
    free = ("quotas", "limits", "billing", "contacts", "metadata", "compliance", "slo_overlay", "label_overlay")
    return NewTenant(
        name=tenant.name,
        slug=tenant.slug,
        plan=tenant.plan,
        region=tenant.region,
        owner=tenant.owner,
        isolation=Isolation(body["isolation"]) if "isolation" in body else None,
        settings=tenant.settings if "settings" in body else TenantSettings(),
        clock_skew_ms=tenant.clock_skew_ms,
        **{name: body.get(name) for name in free},
    )
