"""Examines locked evidence: envelope, signature, rows and the trail against each other. What does not hold is told."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService, LogService
from tenantry.capabilities.audit.types import Outcome
from tenantry.capabilities.evidence import repository
from tenantry.capabilities.evidence.errors import EvidenceRefused
from tenantry.capabilities.evidence.service.envelopes import (
    digest_of,
    read_envelope,
    require_counting,
    require_signature,
)
from tenantry.capabilities.evidence.service.locking import EvidenceLocker, place_of
from tenantry.capabilities.evidence.service.statement import Statement, written
from tenantry.capabilities.evidence.types import EVIDENCE_TAMPERED, Description, Evidence, Examined, State
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.foundation import outbox
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Fault, Gone
from tenantry.foundation.ids import Prefix, format_id, suffix_of
from tenantry.kit.canonical_json import canonical_json
from tenantry.kit.strict_json import NotStrictError, parse_json

_LOCKED: Final = "evidence.locked"


@dataclass(frozen=True, slots=True)
class _Against:
    """What one piece is held against: its work as it is described now, and the digest that the trail tells.

    `left`: the trail tells none any more, since what is as old has left the log.
    """

    told: Description | None
    digest: str | None
    left: bool


class EvidenceExaminer:
    """Examines evidence of the session's tenant; `keys` are those of all regions that this process signs for."""

    def __init__(self, *, session: TenantSession, locker: EvidenceLocker, keys: Sequence[VerifierKey]) -> None:
        self._session = session
        self._locker = locker
        self._keys = keys
        self._audit = AuditService(session=session, clock=locker.clock)

    def opened(self, row: Evidence, keyset: Keyset) -> dict[str, Any] | None:
        """Open the envelope; None where there is none, or it does not open."""
        try:
            envelope = parse_json(keyset.open(row.sealed, place_of(row.evidence_id))) if row.sealed else None
        except (Fault, Gone, NotStrictError):
            return None
        return envelope if isinstance(envelope, dict) else None

    async def examine(self, rows: Sequence[Evidence], *, keyset: Keyset) -> list[Examined]:
        """Examine what is locked of these; nothing is changed. Rows come with what is sealed."""
        locked = [row for row in rows if row.state is State.LOCKED or (row.state is State.WIP and row.sealed)]
        if not locked:
            return []
        described = await self._locker.describe(self._session, locked)
        names = {row.evidence_id: format_id(Prefix.EVIDENCE, row.evidence_id) for row in locked}
        log = LogService(session=self._session)
        traces, left = await log.trace(dict.fromkeys(names.values(), _LOCKED)), await log.left_before()
        found = []
        for row in locked:
            events = [event for event in traces[names[row.evidence_id]] if event.action == _LOCKED]
            digest = events[-1].details.get("sha256") if events else None
            gone = digest is None and left is not None and row.locked_at is not None and row.locked_at <= left
            against = _Against(described.get(row.subject_id), digest, gone)
            found.append(Examined(row, tuple(dict.fromkeys(self._faults(row, against, keyset)))))
        return found

    async def examine_and_note(self, ids: Sequence[UUID], *, keyset: Keyset, wait: bool = False) -> list[Examined]:
        """Examine, and note in the session's transaction which held, and which are tampered with from now on."""
        rows = await repository.take_evidence(self._session, ids, wait=wait)
        examined = await self.examine(rows, keyset=keyset)
        now = self._locker.clock.now()
        if held := [one.evidence.evidence_id for one in examined if not one.faults]:
            await repository.note_examined(self._session, held, now=now, due_at=now + self._locker.check_every)
        for one in examined:
            if one.faults:
                await repository.note_tampered(self._session, one.evidence.evidence_id, one.faults, now=now)
                await self._tell(one)
        return examined

    async def _tell(self, one: Examined) -> None:
        row = one.evidence
        evidence, subject = format_id(Prefix.EVIDENCE, row.evidence_id), self._locker.subject_id(row)
        await self._audit.record(
            "evidence.tampered",
            resource_type="evidence",
            resource_id=evidence,
            outcome=Outcome.ERROR,
            reason=one.faults[0],
            details={"subject": subject, "faults": list(one.faults)},
        )
        payload = {"workspace_id": row.workspace_id.hex, "evidence_id": row.evidence_id.hex, "subject_id": subject}
        await outbox.publish(self._session, topic=EVIDENCE_TAMPERED, payload=payload)

    def _faults(self, row: Evidence, against: _Against, keyset: Keyset) -> Iterable[str]:
        """Give what does not hold, in stable words."""
        if row.sealed is None:
            yield "envelope_missing"
            return
        if row.state is not State.LOCKED:
            yield "row_differs"
        envelope = self.opened(row, keyset)
        if envelope is None:
            yield "envelope_unreadable"
            return
        digest = digest_of(envelope)
        if digest != row.sha256 or len(canonical_json(envelope)) != row.size_bytes:
            yield "row_differs"
        told = digest.hex() if against.left else against.digest
        if told != digest.hex():
            yield "trail_differs"
        try:
            statement = self._signed(envelope, told=told)
        except EvidenceRefused as refused:
            yield refused.code
            return
        if not _agrees(row, statement, tenant=format_id(Prefix.TENANT, self._session.scope.tenant_id)):
            yield "row_differs"
        if row.subject_kind in self._locker.kinds:
            yield from _compared(statement, against.told)

    def _signed(self, envelope: dict[str, Any], *, told: str | None) -> Statement:
        """Read what is signed; raises EvidenceRefused.

        By a key that is not known here it counts where the trail tells its digest: a tenant that was imported brings
        what another installation has signed. Once the trail has let that go, it counts by the tenant's own key.
        """
        read = read_envelope(envelope)
        try:
            key = require_signature(read, keys=self._keys)
        except EvidenceRefused as refused:
            if refused.code != "key_unknown" or told != digest_of(envelope).hex():
                raise
            return Statement.read(read.payload)
        statement = Statement.read(read.payload)
        require_counting(key, statement.locked_at)
        return statement


def _agrees(row: Evidence, statement: Statement, *, tenant: str) -> bool:
    """Say whether the columns of a row are what was signed."""
    said = statement.predicate
    return (
        (said.evidence, said.tenant) == (format_id(Prefix.EVIDENCE, row.evidence_id), tenant)
        and said.workspace == format_id(Prefix.WORKSPACE, row.workspace_id)
        and said.subject.kind == row.subject_kind
        and said.subject.id.rpartition("_")[2] == suffix_of(row.subject_id)
        and said.persistence_mode == row.persistence_mode
        and said.labels == dict(row.labels)
        and canonical_json(said.policies) == canonical_json(dict(row.judged))
        and said.created_at == written(row.created_at)
        and row.ended_at is not None
        and said.ended_at == written(row.ended_at)
        and row.locked_at is not None
        and said.locked_at == written(row.locked_at)
        and (said.audit.first, said.audit.last) == (row.first_sequence, row.last_sequence)
    )


def _compared(statement: Statement, told: Description | None) -> Iterable[str]:
    """Hold the work as it is described now against what was signed; what later versions tell besides does not count."""
    if told is None:
        yield "subject_missing"
        return
    signed = statement.predicate.execution
    if _told_of(signed, told.execution) != canonical_json(signed):
        yield "subject_differs"
    products = {one.name: one.digest.sha256 for one in statement.subject[1:]}
    if products != {one.name: one.sha256.hex() for one in told.products}:
        yield "products_differ"


def _told_of(signed: Mapping[str, Any], told: Mapping[str, Any]) -> bytes:
    try:
        return canonical_json({name: told[name] for name in signed if name in told})
    except ValueError:  # what has no canonical form was signed by nobody
        return hashlib.sha256().digest()
