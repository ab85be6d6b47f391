"""Locks evidence of work that has ended: builds the statement, signs it, seals it, once.

What is not ready yet is looked at again. Two that lock at once share the work: who finds a row taken passes it over. Of
each there is one envelope at most; a crash leaves it as it was.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from tenantry.capabilities.audit.service import AuditService, LogService
from tenantry.capabilities.audit.types import SignedCheckpoint, TracedEvent
from tenantry.capabilities.evidence import repository
from tenantry.capabilities.evidence.ports import SubjectKind
from tenantry.capabilities.evidence.service.envelopes import EvidenceSigner
from tenantry.capabilities.evidence.service.statement import Statement, written
from tenantry.capabilities.evidence.types import Description, Envelope, Evidence, State
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.notes import Note
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.kit.canonical_json import canonical_json

_AGAIN: Final = timedelta(seconds=1)
_MUCH_LATER: Final = timedelta(hours=1)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ready:
    evidence: Evidence
    told: Description
    events: Sequence[TracedEvent]
    checkpoint: SignedCheckpoint


class EvidenceLocker:
    """One for each cell; `kinds` by the noun by which evidence knows them."""

    def __init__(
        self, *, signer: EvidenceSigner, kinds: Mapping[str, SubjectKind], check_every: timedelta, clock: Clock
    ) -> None:
        self.signer = signer
        self.kinds = kinds
        self.check_every = check_every
        self.clock = clock

    async def lock(
        self, session: TenantSession, ids: Sequence[UUID], *, keyset: Keyset, wait: bool = False
    ) -> list[Envelope]:
        """Lock what is ready of these, in the session's transaction; what is not is due again. Safe to repeat."""
        rows = [
            row
            for row in await repository.take_evidence(session, ids, wait=wait)
            if row.state is State.WIP and row.ended_at is not None and row.sealed is None
        ]
        if not rows:
            return []
        ready, described = await self._ready(session, rows)
        now = self.clock.now()
        made, failed = await asyncio.to_thread(self._made, session, ready, keyset, now)
        if made:
            await repository.insert_envelopes(session, made, check_at=now + self.check_every)
        await self._record(session, made, {one.evidence.evidence_id: one for one in ready})
        left = {row.evidence_id for row in rows} - {one.evidence_id for one in made}
        soon = {row.evidence_id for row in rows if row.subject_id in described} - set(failed)
        for waiting, delay in ((left & soon, _AGAIN), (left - soon, _MUCH_LATER)):
            if waiting:
                await repository.postpone(session, sorted(waiting), due_at=now + delay)
        return made

    async def postpone(self, session: TenantSession, ids: Sequence[UUID], *, until: datetime) -> None:
        """Look at these no earlier than then."""
        await repository.postpone(session, ids, due_at=until)

    async def describe(self, session: TenantSession, rows: Sequence[Evidence]) -> dict[UUID, Description]:
        """Ask the capabilities what they say of this work, by its id."""
        found: dict[UUID, Description] = {}
        for kind, knows in self.kinds.items():
            if ids := [row.subject_id for row in rows if row.subject_kind == kind]:
                found |= await knows.describe(session, ids)
        return found

    async def _ready(
        self, session: TenantSession, rows: Sequence[Evidence]
    ) -> tuple[list[_Ready], dict[UUID, Description]]:
        """Find those whose events all lie under the newest checkpoint."""
        described = await self.describe(session, rows)
        log = LogService(session=session)
        ends = {told.resource: told.end for told in described.values()}
        among = frozenset[str]().union(*(told.events for told in described.values()))
        traces = await log.trace(ends, among=among)
        checkpoint = await log.covering(0)
        ready = []
        for row in rows:
            told = described.get(row.subject_id)
            events = traces[told.resource] if told is not None else []
            if told is None or checkpoint is None or not events or events[-1].action != told.end:
                continue
            if all(event.sequence is not None and event.sequence <= checkpoint.size for event in events):
                ready.append(_Ready(row, told, events, checkpoint))
        return ready, described

    def _made(
        self, session: TenantSession, ready: Sequence[_Ready], keyset: Keyset, now: datetime
    ) -> tuple[list[Envelope], list[UUID]]:
        """Sign and seal, beside the loop: it holds up no request. What has no form waits, and holds up nobody."""
        made, failed = [], []
        for one in ready:
            try:
                made.append(self._envelope(session, one, keyset, now))
            except ValueError as error:
                evidence = format_id(Prefix.EVIDENCE, one.evidence.evidence_id)
                _log.error("evidence.no_form", evidence=evidence, kind=type(error).__name__)
                failed.append(one.evidence.evidence_id)
        return made, failed

    def _envelope(self, session: TenantSession, one: _Ready, keyset: Keyset, now: datetime) -> Envelope:
        scope, row = session.scope, one.evidence
        places = [event.sequence or 0 for event in one.events]
        predicate = {
            "evidence": format_id(Prefix.EVIDENCE, row.evidence_id),
            "tenant": format_id(Prefix.TENANT, scope.tenant_id),
            "workspace": format_id(Prefix.WORKSPACE, row.workspace_id),
            "region": scope.region,
            "subject": {"kind": row.subject_kind, "id": self.subject_id(row)},
            "persistence_mode": row.persistence_mode,
            "labels": dict(row.labels),
            "actor": _actor(one.events[0]),
            "policies": dict(row.judged),
            "authority": dict(one.told.authority),
            "execution": dict(one.told.execution),
            "audit": {
                "first": min(places),
                "last": max(places),
                "events": [_event(event) for event in one.events],
                "checkpoint": _checkpoint(one.checkpoint),
            },
            "created_at": written(row.created_at),
            "ended_at": written(row.ended_at or now),
            "locked_at": written(now),
        }
        payload = Statement.make(predicate, products=[(each.name, each.sha256) for each in one.told.products])
        plain = canonical_json(self.signer.signed(payload))
        return Envelope(
            evidence_id=row.evidence_id,
            workspace_id=row.workspace_id,
            sealed=keyset.seal(plain, place_of(row.evidence_id)),
            sha256=hashlib.sha256(plain).digest(),
            size_bytes=len(plain),
            first_sequence=min(places),
            last_sequence=max(places),
            locked_at=now,
        )

    def subject_id(self, row: Evidence) -> str:
        """Write the id of what it is of; of a kind that nobody knows here, without its prefix."""
        known = self.kinds.get(row.subject_kind)
        return format_id(known.prefix, row.subject_id) if known else row.subject_id.hex

    async def _record(self, session: TenantSession, made: Sequence[Envelope], ready: Mapping[UUID, _Ready]) -> None:
        audit = AuditService(session=session, clock=self.clock)
        for one in made:
            await audit.record(
                "evidence.locked",
                resource_type="evidence",
                resource_id=format_id(Prefix.EVIDENCE, one.evidence_id),
                details={
                    "subject": self.subject_id(ready[one.evidence_id].evidence),
                    "sha256": one.sha256.hex(),
                    "size_bytes": one.size_bytes,
                },
            )


def place_of(evidence_id: UUID) -> bytes:
    """Name what a sealed envelope is bound to."""
    return b"evidence/" + evidence_id.bytes


def _actor(event: TracedEvent) -> dict[str, Any]:
    actor = event.actor
    return {"type": actor.type.value, "id": actor.id, "chain": list(actor.chain)}


def _event(event: TracedEvent) -> dict[str, Any]:
    return {
        "id": format_id(Prefix.AUDIT_EVENT, event.event_id),
        "sequence": event.sequence,
        "action": event.action,
        "leaf": event.leaf.hex(),
    }


def _checkpoint(signed: SignedCheckpoint) -> dict[str, Any]:
    told = Checkpoint.parse(Note.parse(signed.note).text)
    return {"size": told.size, "root": told.root.hex(), "note": signed.note.decode()}
