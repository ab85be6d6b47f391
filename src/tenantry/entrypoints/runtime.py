"""Assembles what the processes are made of. Wiring only: who gets which port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry.capabilities.access.service import Admission, OwnerAdmissionByKey
from tenantry.capabilities.audit.service import AuditService, AuditTrail
from tenantry.capabilities.identity.service import KeyHasher
from tenantry.capabilities.sandboxes.service import ImageLibrary, JobContent, JobNews, JobService
from tenantry.capabilities.tenants.service import (
    Directory,
    TenantKeyring,
    TenantKeys,
    TenantRegistry,
    WorkspaceService,
    load_plans,
)
from tenantry.engines.envelope.key_file import KeyFile
from tenantry.entrypoints.addresses import Addresses, addresses_of
from tenantry.entrypoints.prepare import KEY_FILE
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell, Cells, open_cell
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.database.selftest import examine_cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Fault
from tenantry.foundation.objects.factory import open_objects
from tenantry.foundation.secrets import Secrets, load_secrets
from tenantry.foundation.settings import Settings
from tenantry.interfaces.api.runtime import Runtime

if TYPE_CHECKING:
    from tenantry.foundation.objects.s3 import Bucket


@dataclass(frozen=True, slots=True)
class Parts:
    """What server and worker share."""

    settings: Settings
    secrets: Secrets
    addresses: Addresses
    clock: SystemClock
    cells: Cells
    directory: Directory
    wrapper: KeyFile
    content: dict[str, JobContent]
    libraries: dict[str, ImageLibrary]

    def jobs(self, session: TenantSession) -> JobService:
        """Jobs of a session that no request has: news from the outbox."""
        audit = AuditService(session=session, clock=self.clock)
        return JobService(
            session=session,
            audit=audit,
            content=self.content[session.scope.region],
            workspaces=WorkspaceService(session=session, directory=self.directory, audit=audit, clock=self.clock),
            settings=self.settings.jobs,
            clock=self.clock,
        )


@asynccontextmanager
async def open_parts(settings: Settings, *, regions: tuple[str, ...] | None = None) -> AsyncIterator[Parts]:
    """Open the cells (all, or those named), the directory and the objects; closes them again.

    Raises Fault `fence_broken`, listing every finding, when a cell's self-test fails: nothing is served then.
    """
    secrets = load_secrets(settings.home)
    addresses = addresses_of(settings, secrets)
    clock = SystemClock()
    wrapper = KeyFile.open(settings.home / KEY_FILE)
    served = regions or tuple(addresses.cells)
    cells: dict[str, Cell] = {}
    content, libraries = {}, {}
    directory = Directory(await open_pool(addresses.directory, search_path="directory", max_size=4))
    try:
        for region in served:
            cell = cells[region] = await open_cell(
                region,
                addresses.cells[region].app,
                context_master=secrets.context_key,
                pool_size=settings.database.pool_size,
                clock=clock,
            )
            await require_fence(addresses.cells[region].app, cell)
            keyring = TenantKeyring(cell=cell, wrapper=wrapper, clock=clock)
            objects = open_objects(root=settings.home / region, bucket=_bucket(settings, region))
            content[region] = JobContent(keyring=keyring, objects=objects)
            libraries[region] = ImageLibrary(home=settings.home, region=region)
        parts = Parts(
            settings=settings,
            secrets=secrets,
            addresses=addresses,
            clock=clock,
            cells=Cells(cells),
            directory=directory,
            wrapper=wrapper,
            content=content,
            libraries=libraries,
        )
        yield parts
    finally:
        await Cells(cells).close()
        await directory.close()


def _bucket(settings: Settings, region: str) -> "Bucket | None":
    configured = settings.regions.get(region)
    if configured is None or configured.bucket is None:
        return None
    from tenantry.foundation.objects.s3 import Bucket

    bucket = configured.bucket
    secret = bucket.secret_access_key
    return Bucket(
        name=bucket.name,
        region=bucket.region or region,
        prefix=bucket.prefix,
        endpoint_url=bucket.endpoint_url,
        access_key_id=bucket.access_key_id,
        secret_access_key=secret.get_secret_value() if secret else None,
    )


async def require_fence(dsn: str, cell: Cell) -> None:
    """Examine a cell before serving it; raises Fault `fence_broken` with all findings."""
    findings = await examine_cell(dsn, signer=cell.signer)
    if findings:
        told = "; ".join(f"{finding.code}: {finding.detail} ({finding.remedy})" for finding in findings)
        raise Fault("fence_broken", f"region {cell.region}: {told}", layer="database", faults=told.split("; "))


def make_runtime(parts: Parts) -> Runtime:
    """Make what the API serves from."""
    settings, clock = parts.settings, parts.clock
    hasher = KeyHasher(parts.secrets.pepper)
    plans = load_plans(settings.plans_file)
    trails = {
        cell.region: AuditTrail(
            region=cell.region,
            open_session=lambda scope: parts.cells.session(scope, lifecycle=True),
            clock=clock,
            flush_seconds=settings.audit.flush_seconds,
            capacity=settings.audit.buffer_events,
            sample_reads=settings.audit.sample_reads,
        )
        for cell in parts.cells
    }
    return Runtime(
        settings=settings,
        clock=clock,
        cursor_key=parts.secrets.cursor_key,
        cells=parts.cells,
        directory=parts.directory,
        admission=Admission(cells=parts.cells, directory=parts.directory, hasher=hasher, clock=clock),
        registry=TenantRegistry(
            directory=parts.directory,
            cells=parts.cells,
            plans=plans,
            keys=TenantKeys(parts.wrapper),
            admission=OwnerAdmissionByKey(hasher=hasher, clock=clock),
            regions=settings.region_names,
            clock=clock,
        ),
        plans=plans,
        hasher=hasher,
        trails=trails,
        content=parts.content,
        libraries=parts.libraries,
        news=JobNews(parts.cells),
    )
