"""Asks for imports: examines an archive whole before anything of it is written, and reserves the tenant's place."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from tenantry.capabilities.tenants.errors import (
    archive_refused,
    isolation_unavailable,
    slug_taken,
    tenant_here,
    unknown_region,
    workspace_here,
)
from tenantry.capabilities.tenants.ports import OwnerAdmission, Provisioner
from tenantry.capabilities.tenants.service.archives import PURGES, Archive, ManifestTable, Row, examine, examine_rows
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.import_files import ImportFiles, ImportRequest
from tenantry.capabilities.tenants.service.imports import PROVISION, open_keys
from tenantry.capabilities.tenants.service.moves import MoverAccess
from tenantry.capabilities.tenants.service.operations import OperationLog, new_operation
from tenantry.capabilities.tenants.service.plans import PlanCatalogue
from tenantry.capabilities.tenants.service.tenants import place_for
from tenantry.capabilities.tenants.types import (
    PLATFORM_TENANT,
    RESERVED_SLUGS,
    BootstrapKey,
    Isolation,
    Operation,
    OperationKind,
    OperationStatus,
    Owner,
    Placement,
    Seat,
    TenantStatus,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.places import SHARED
from tenantry.foundation.database.transfer import open_rows
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, new_id, parse_id


class ImportService:
    """Imports to the regions of this process; `access` by region."""

    def __init__(
        self,
        *,
        directory: Directory,
        log: OperationLog,
        cells: Cells,
        access: Mapping[str, MoverAccess],
        provisioner: Provisioner,
        plans: PlanCatalogue,
        admission: OwnerAdmission,
        files: ImportFiles,
        regions: tuple[str, ...],
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._log = log
        self._cells = cells
        self._access = access
        self._provisioner = provisioner
        self._plans = plans
        self._admission = admission
        self._files = files
        self._regions = regions
        self._clock = clock

    async def request(
        self,
        content: AsyncIterator[bytes],
        *,
        key: bytes,
        region: str,
        isolation: Isolation | None,
        slug: str | None,
        requested_by: str,
    ) -> tuple[Operation, BootstrapKey]:
        """Take and examine an archive, then begin its import; gives the owner's key, which opens nothing until the end.

        Raises Invalid `archive_refused`, `export_key_wrong`, `plan_unknown`, `region_unknown` or
        `isolation_unavailable`, Conflict `tenant_here`, `slug_taken` or `workspace_here`; then nothing is kept.
        """
        if region not in self._regions:
            raise unknown_region(region, self._regions)
        self._cells.get(region)
        if region not in self._access:
            raise isolation_unavailable(isolation or Isolation.ROW_LEVEL, ())
        operation_id = new_id()
        path = await self._files.receive(content, operation_id, region=region)
        try:
            archive = await asyncio.to_thread(examine, path)
            tenant_id = await self._examine(archive, key=key, region=region)
            wanted = self._offered(isolation or Isolation(archive.manifest.isolation), region=region)
            return await self._begin(
                operation_id,
                tenant_id,
                Seat(region, wanted, place_for(wanted, region=region, tenant_id=tenant_id)),
                slug=slug or archive.manifest.slug,
                key=key,
                requested_by=requested_by,
            )
        except BaseException:
            await self._files.remove(operation_id, region=region)
            raise

    def _offered(self, wanted: Isolation, *, region: str) -> Isolation:
        if wanted not in (offered := self._provisioner.offers(region)):
            raise isolation_unavailable(wanted, offered)
        return wanted

    async def _begin(
        self, operation_id: UUID, tenant_id: UUID, seat: Seat, *, slug: str, key: bytes, requested_by: str
    ) -> tuple[Operation, BootstrapKey]:
        if slug in RESERVED_SLUGS or await self._directory.find(slug) is not None:
            raise slug_taken(slug)
        now = self._clock.now()
        operation = new_operation(
            OperationKind.IMPORT,
            step=PROVISION,
            operation_id=operation_id,
            tenant_id=tenant_id,
            source=seat,
            target=seat,
            requested_by=requested_by,
            now=now,
        )
        owner_key = self._admission.issue(tenant_id=tenant_id, region=seat.region)
        await self._files.keep(operation, ImportRequest(slug, key, owner_key))
        placement = Placement(tenant_id, slug, seat.region, seat.isolation, seat.place, TenantStatus.PENDING, now)
        if not await self._log.begin_import(operation, placement):
            raise slug_taken(slug)
        return operation, owner_key

    async def _examine(self, archive: Archive, *, key: bytes, region: str) -> UUID:
        """Examine what is in the archive against what is here; gives the tenant's id."""
        manifest = archive.manifest
        try:
            tenant_id = parse_id(Prefix.TENANT, manifest.tenant)
        except Invalid:
            raise archive_refused("tenant", "its tenant has no id") from None
        if tenant_id == PLATFORM_TENANT or await self._directory.find(tenant_id) is not None:
            raise tenant_here(manifest.tenant)
        await open_keys(archive, key, owner=tenant_id)
        seen = _Seen()
        known = await self._tables(tenant_id, region=region)
        await asyncio.to_thread(examine_rows, archive, known=known, tenant=str(tenant_id), look=seen.look)
        self._plans.require(seen.require_plan())
        if await self._directory.knows_workspaces(seen.workspaces):
            raise workspace_here()
        return tenant_id

    async def _tables(self, tenant_id: UUID, *, region: str) -> dict[str, tuple[str, ...]]:
        access = self._access[region]
        async with open_rows(access.dsn, place=SHARED, signer=access.signer, tenant_id=tenant_id) as rows:
            tables = {table.name: table.columns for table in await rows.tables()}
            queue = {table.qualified: table.columns for table in await rows.tables(queue=True)}
        return tables | {PURGES: queue[PURGES]}


async def remove_old_imports(log: OperationLog, files: ImportFiles, *, region: str, before: datetime) -> int:
    """Remove archives that a crash has left, of no import under way; tells how many."""
    count = 0
    for operation_id in await asyncio.to_thread(files.list_operations, region=region, before=before):
        operation = await log.find(operation_id)
        if operation is None or operation.status is not OperationStatus.RUNNING:
            await files.remove(operation_id, region=region)
            count += 1
    return count


class _Seen:
    """What of the rows decides whether the tenant can be taken."""

    def __init__(self) -> None:
        self.workspaces: list[UUID] = []
        self._tenants: list[dict[str, str | None]] = []

    def look(self, table: ManifestTable, row: Row) -> None:
        if table.name not in ("tenants", "workspaces"):
            return
        named = dict(zip(table.columns, row, strict=True))
        if table.name == "tenants":
            self._tenants.append(named)
            return
        try:
            self.workspaces.append(UUID(named.get("workspace_id") or ""))
        except ValueError:
            raise archive_refused("rows", "a workspace has no id") from None

    def require_plan(self) -> str:
        """Tell the tenant's plan; raises Invalid unless there is one tenant, with an owner who can be let in."""
        if len(self._tenants) != 1:
            raise archive_refused("tenant", "it holds no tenant, or several")
        try:
            owner: Any = json.loads(self._tenants[0].get("owner") or "")
            Owner.model_validate(owner)
        except (ValueError, RecursionError, ValidationError):
            raise archive_refused("owner", "its tenant has no owner") from None
        return self._tenants[0].get("plan") or ""
