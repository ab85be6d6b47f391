"""What records reads and refusals, of each cell."""

from typing import TYPE_CHECKING

from tenantry.capabilities.audit.service import AuditTrail

if TYPE_CHECKING:
    from tenantry.entrypoints.runtime import Parts


def make_trails(parts: "Parts") -> dict[str, AuditTrail]:
    settings = parts.settings.audit
    return {
        cell.region: AuditTrail(
            region=cell.region,
            open_session=lambda scope: parts.cells.session(scope, lifecycle=True),
            find_region=parts.directory.find_region,
            clock=parts.clock,
            flush_seconds=settings.flush_seconds,
            capacity=settings.buffer_events,
            sample_reads=settings.sample_reads,
        )
        for cell in parts.cells
    }
