"""Assembles what does the work on whole tenants: moves, exports, imports, erasures."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from tenantry.capabilities.audit.service import AuditArrival
from tenantry.capabilities.notifications.service import NoticeArrival
from tenantry.capabilities.sandboxes.service import ImageArrival, JobArrival, JobStopper, KeptInspection, SandboxDrain
from tenantry.capabilities.tenants.service import (
    LEASE,
    Erasures,
    Exports,
    Imports,
    MoverAccess,
    Moves,
    OperationLog,
    OperationRunner,
    Steps,
    remove_old_exports,
    remove_old_imports,
)
from tenantry.capabilities.tenants.types import Operation, OperationKind
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.signatures import Signer

_UNCLAIMED: Final = timedelta(hours=1)

Watch = Callable[[Operation, str], Awaitable[None]]


def make_operations(parts: Parts, *, watch: Watch | None = None, lease: timedelta = LEASE) -> OperationRunner:
    """Make the runner for the regions whose mover this process may act as; `watch` hears of each step."""
    log = parts.directory.operations(parts.clock, lease=lease)
    access = parts.mover_access
    moves = Moves(
        log=log,
        cells=parts.cells,
        access=access,
        provisioner=parts.places,
        stores=parts.stores,
        drains=(SandboxDrain(JobStopper(settings=parts.settings.jobs, clock=parts.clock)),),
        drain_seconds=parts.settings.tenants.drain_seconds,
        clock=parts.clock,
    )
    erasures = Erasures(
        log=log,
        directory=parts.directory,
        cells=parts.cells,
        access=access,
        provisioner=parts.places,
        stores=parts.stores,
        forget_keys=lambda tenant_id, region: parts.keyrings[region].forget(tenant_id),
        signer=Signer(parts.secrets.signing_key),
        clock=parts.clock,
    )
    exports = Exports(
        access=access,
        objects=parts.objects,
        stores=parts.archived,
        wrapper=parts.wrapper,
        clock=parts.clock,
    )
    kinds: dict[str, Steps] = {
        OperationKind.MOVE: moves,
        OperationKind.ERASE: erasures,
        OperationKind.EXPORT: exports,
        OperationKind.IMPORT: _imports(parts, log, access),
    }
    return OperationRunner(log, kinds=kinds, regions=tuple(access), clock=parts.clock, watch=watch)


def _imports(parts: Parts, log: OperationLog, access: Mapping[str, MoverAccess]) -> Imports:
    return Imports(
        log=log,
        directory=parts.directory,
        cells=parts.cells,
        access=access,
        provisioner=parts.places,
        archived=parts.archived,
        stores=parts.stores,
        files=parts.import_files,
        wrapper=parts.wrapper,
        admission=parts.owner_admission,
        kinds={kind for cell in parts.cells for kind in parts.content_kinds(cell.region)},
        inspections=(
            KeptInspection(
                cells=parts.cells,
                objects=parts.objects,
                content=parts.kept,
                forget_keys=lambda tenant_id, region: parts.keyrings[region].forget(tenant_id),
                clock=parts.clock,
            ),
        ),
        arrivals=(
            JobArrival(settings=parts.settings.jobs, clock=parts.clock),
            ImageArrival(libraries=parts.libraries, clock=parts.clock),
            NoticeArrival(),
            AuditArrival(notaries=parts.notaries, clock=parts.clock),
        ),
        clock=parts.clock,
    )


async def tidy_operations(parts: Parts) -> None:
    """Remove exports that have lain their time, and archives of imports that never began."""
    log, now = parts.directory.operations(parts.clock), parts.clock.now()
    kept = timedelta(days=parts.settings.tenants.export_days)
    await remove_old_exports(log, parts.directory, parts.objects, now=now, kept=kept)
    for cell in parts.cells:
        await remove_old_imports(log, parts.import_files, region=cell.region, before=now - _UNCLAIMED)
