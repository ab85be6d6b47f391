"""What records reads and refusals, of each cell."""

from tenantry.capabilities.audit.service import AuditTrail
from tenantry.capabilities.tenants.service import Directory
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.settings import AuditSettings


def make_trails(cells: Cells, *, directory: Directory, settings: AuditSettings, clock: Clock) -> dict[str, AuditTrail]:
    return {
        cell.region: AuditTrail(
            region=cell.region,
            open_session=lambda scope: cells.session(scope, lifecycle=True),
            find_region=directory.find_region,
            clock=clock,
            flush_seconds=settings.flush_seconds,
            capacity=settings.buffer_events,
            sample_reads=settings.sample_reads,
        )
        for cell in cells
    }
