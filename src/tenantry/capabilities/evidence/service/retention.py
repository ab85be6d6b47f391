"""Collects evidence that neither days, floor nor a hold keeps any longer, with a report; or tells what it would do."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.evidence import repository
from tenantry.capabilities.evidence.types import FLOOR, MOST_DAYS, CollectionReport
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id

MOST_AT_ONCE: Final = 500
"""Pieces of evidence that one collection deletes: they are one transaction."""


class EvidenceCollector:
    """Of the session's tenant. `floor_days` are the installation's: no workspace and no tenant can have fewer."""

    def __init__(self, *, session: TenantSession, audit: AuditService, floor_days: int, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._floor_days = floor_days
        self._clock = clock

    async def floor(self) -> int:
        """Tell the days that count here: the installation's, or more where the platform has said so of the tenant."""
        return max(self._floor_days, floor_of(await repository.find_limits(self._session)))

    async def collect(self, *, workspace_id: UUID | None, dry_run: bool) -> CollectionReport:
        """Delete what is over, of a workspace or with None of the tenant, each with an event; at most MOST_AT_ONCE.

        With `dry_run` the same is told and nothing deleted. Holds that are placed meanwhile wait for the commit.
        """
        await repository.hold_still(self._session, workspace_id=workspace_id)
        floor, now = await self.floor(), self._clock.now()
        scanned = await repository.count_states(self._session, workspace_id=workspace_id)
        expired, under_floor, held = await repository.tally_expired(
            self._session, workspace_id=workspace_id, floor_days=floor, now=now
        )
        chosen = await repository.list_collectable(
            self._session, workspace_id=workspace_id, floor_days=floor, now=now, limit=MOST_AT_ONCE
        )
        if not dry_run:
            gone = await repository.delete_evidence(self._session, [one.evidence_id for one in chosen])
            chosen = [one for one in chosen if one.evidence_id in gone]
            for one in chosen:
                await self._record(one.evidence_id, sha256=one.sha256, state=one.state.value, ended_at=one.ended_at)
        return CollectionReport(
            dry_run=dry_run,
            scanned=scanned,
            expired=expired,
            under_floor=under_floor,
            held=held,
            deleted=len(chosen),
            bytes=sum(one.size_bytes for one in chosen),
            left=expired - under_floor - held - len(chosen),
            floor_days=floor,
        )

    async def _record(self, evidence_id: UUID, *, sha256: bytes | None, state: str, ended_at: datetime) -> None:
        await self._audit.record(
            "evidence.collected",
            resource_type="evidence",
            resource_id=format_id(Prefix.EVIDENCE, evidence_id),
            details={"sha256": sha256.hex() if sha256 else None, "state": state, "ended_at": ended_at.isoformat()},
        )


def floor_of(limits: Mapping[str, Any]) -> int:
    """Read a tenant's own floor in days, 0 where there is none; what is no number of days keeps all there is."""
    said = limits.get(FLOOR, 0)
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= MOST_DAYS else MOST_DAYS
