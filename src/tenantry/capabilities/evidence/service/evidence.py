"""Evidence as its readers see it: list, get, export, lock early, count, examine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.evidence import repository
from tenantry.capabilities.evidence.errors import events_unsigned, evidence_not_found, not_lockable, subject_open
from tenantry.capabilities.evidence.service.bundle import make_bundle
from tenantry.capabilities.evidence.service.checking import EvidenceExaminer
from tenantry.capabilities.evidence.service.locking import EvidenceLocker
from tenantry.capabilities.evidence.types import Evidence, Examined, State
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.foundation.database.session import TenantSession

MOST_AT_ONCE: Final = 1000
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Shown:
    """Evidence, what its examination just now has found, and the bundle that is exported of it."""

    evidence: Evidence
    faults: tuple[str, ...]
    bundle: dict[str, Any]


class EvidenceService:
    """Evidence of workspaces of the session's tenant; `keys` are those of all regions that this process signs for."""

    def __init__(self, *, session: TenantSession, locker: EvidenceLocker, keys: Sequence[VerifierKey]) -> None:
        self._session = session
        self._locker = locker
        self.keys = keys
        self._examiner = EvidenceExaminer(session=session, locker=locker, keys=keys)

    def subject_id(self, evidence: Evidence) -> str:
        return self._locker.subject_id(evidence)

    async def list_evidence(
        self,
        *,
        workspace_id: UUID,
        before: UUID | None = None,
        limit: int = 50,
        state: State | None = None,
        subject_id: UUID | None = None,
    ) -> list[Evidence]:
        """Newest first."""
        return await repository.list_evidence(
            self._session, workspace_id=workspace_id, before=before, limit=limit, state=state, subject_id=subject_id
        )

    async def get(self, evidence_id: UUID, *, workspace_id: UUID, keyset: Keyset) -> Shown:
        """Find it and examine it, which changes nothing; raises NotFound."""
        row = await repository.find_evidence(self._session, evidence_id, sealed=True)
        if row is None or row.workspace_id != workspace_id:
            raise evidence_not_found()
        found = {one.evidence.evidence_id: one.faults for one in await self._examiner.examine([row], keyset=keyset)}
        return self._shown(row, found.get(evidence_id, row.faults), keyset)

    async def export(self, *, workspace_id: UUID, before: UUID | None, limit: int, keyset: Keyset) -> list[Shown]:
        """Newest first, as they are stored: whether they hold is for whoever verifies them."""
        rows = await repository.list_evidence(
            self._session, workspace_id=workspace_id, before=before, limit=limit, sealed=True
        )
        return [self._shown(row, row.faults, keyset) for row in rows]

    async def lock(self, evidence_id: UUID, *, workspace_id: UUID, keyset: Keyset) -> Evidence:
        """Lock it now, which else happens by itself; locking twice changes nothing.

        Raises NotFound, Conflict `evidence_open`, `evidence_unsigned`, `evidence_tampered`.
        """
        row = await self._find(evidence_id, workspace_id)
        if row.state is State.TAMPERED:
            raise not_lockable(row.state)
        if row.state is State.WIP:
            if row.ended_at is None:
                raise subject_open(row.subject_kind)
            await self._locker.lock(self._session, [evidence_id], keyset=keyset, wait=True)
            row = await self._find(evidence_id, workspace_id)
        if row.state is not State.LOCKED:
            raise events_unsigned()
        return row

    async def count(self, *, workspace_id: UUID) -> dict[State, int]:
        """Count by state, as the last examinations have found."""
        return await repository.count_states(self._session, workspace_id=workspace_id)

    async def examine_oldest(self, *, workspace_id: UUID, keyset: Keyset) -> list[Examined]:
        """Examine what was not for longest, MOST_AT_ONCE of what is locked there, and note what is tampered with."""
        ids = await repository.list_locked(self._session, workspace_id=workspace_id, limit=MOST_AT_ONCE)
        examined: list[Examined] = []
        for first in range(0, len(ids), _BATCH):
            batch = ids[first : first + _BATCH]
            examined += await self._examiner.examine_and_note(batch, keyset=keyset, wait=True)
        return examined

    async def _find(self, evidence_id: UUID, workspace_id: UUID) -> Evidence:
        row = await repository.find_evidence(self._session, evidence_id)
        if row is None or row.workspace_id != workspace_id:
            raise evidence_not_found()
        return row

    def _shown(self, row: Evidence, faults: tuple[str, ...], keyset: Keyset) -> Shown:
        bundle = make_bundle(
            replace(row, state=State.TAMPERED) if faults else row,
            self._examiner.opened(row, keyset),
            tenant_id=self._session.scope.tenant_id,
            subject=self.subject_id(row),
            keys=self.keys,
        )
        return Shown(row, faults, bundle)
