"""What records reads and refusals, of each cell, and what signs and witnesses its logs."""

from collections.abc import Iterable

from tenantry.capabilities.audit.service import AuditTrail, Notary, WitnessFile
from tenantry.capabilities.tenants.service import Directory
from tenantry.foundation.audit_settings import AuditSettings
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.log_keys import LogKeys
from tenantry.foundation.secrets import Secrets
from tenantry.foundation.settings import Settings
from tenantry.foundation.signatures import Signer

_NAME_LENGTH = 16


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


def make_notaries(regions: Iterable[str], *, settings: Settings, secrets: Secrets, clock: Clock) -> dict[str, Notary]:
    """Sign for the logs of each region's tenants, by the installation's name or, without one, its own key's."""
    installation = settings.audit.origin or f"tenantry-{Signer(secrets.signing_key).key_id[:_NAME_LENGTH]}"
    keys = LogKeys(settings.home)
    return {region: Notary(installation, region, keys, clock) for region in regions}


def make_witness(settings: Settings, region: str, clock: Clock) -> WitnessFile:
    """Give the file outside of the database that is told of each checkpoint."""
    configured = settings.audit.witness_dir
    place = settings.home / region / "checkpoints" if configured is None else configured / region
    return WitnessFile(place, clock=clock)
