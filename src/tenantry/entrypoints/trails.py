"""What records reads and refusals, of each cell, and what signs and witnesses its logs."""

from collections.abc import Iterable
from typing import Final

from tenantry.capabilities.audit.service import AuditTrail, Notary, WitnessFile
from tenantry.capabilities.tenants.service import Directory
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.log_keys import LogKeys
from tenantry.foundation.secrets import Secrets
from tenantry.foundation.settings import Settings
from tenantry.foundation.signatures import Signer

_NAME_LENGTH = 16


_LOCK_SECONDS: Final = 2.0
"""What waits longer for a lock waits for its next turn, and leaves the connection to others."""
_FLUSHED_AT_ONCE: Final = 4


def make_trails(cells: Cells, *, directory: Directory, settings: Settings, clock: Clock) -> dict[str, AuditTrail]:
    """Make what records reads and refusals; of the connections of a cell they take half at most."""
    return {
        cell.region: AuditTrail(
            region=cell.region,
            open_session=lambda scope: cells.session(scope, lifecycle=True, lock_seconds=_LOCK_SECONDS),
            find_region=directory.find_region,
            clock=clock,
            flush_seconds=settings.audit.flush_seconds,
            capacity=settings.audit.buffer_events,
            sample_reads=settings.audit.sample_reads,
            at_once=min(_FLUSHED_AT_ONCE, settings.database.pool_size // 2),
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
