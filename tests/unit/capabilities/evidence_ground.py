"""Evidence made by hand: a signer with keys of its own, and bundles of tenants."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tenantry.capabilities.audit.service import Notary
from tenantry.capabilities.evidence.service.bundle import make_bundle
from tenantry.capabilities.evidence.service.envelopes import EvidenceSigner, digest_of
from tenantry.capabilities.evidence.service.statement import Statement, written
from tenantry.capabilities.evidence.types import Evidence, State
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.log_keys import LogKeys

Json = dict[str, Any]
AT = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
EXECUTION: Json = {"status": "succeeded", "exit_code": 0, "usage": {"cpu_seconds": 0.5}}


class Fixed(SystemClock):
    def now(self) -> datetime:
        return AT


def signer_at(folder: Path, *, region: str = "us") -> EvidenceSigner:
    folder.mkdir(exist_ok=True)
    return EvidenceSigner(Notary("log.example", region, LogKeys(folder), Fixed()))


def predicate_of(tenant: UUID, evidence: UUID, workspace: UUID, job: UUID, **changed: Any) -> Json:
    return {
        "evidence": format_id(Prefix.EVIDENCE, evidence),
        "tenant": format_id(Prefix.TENANT, tenant),
        "workspace": format_id(Prefix.WORKSPACE, workspace),
        "region": "us",
        "subject": {"kind": "job", "id": format_id(Prefix.JOB, job)},
        "persistence_mode": "metadata_only",
        "labels": {"env": "dev"},
        "actor": {"type": "api_key", "id": "key_1", "chain": ["svc_1"]},
        "policies": {"verdict": "allow", "policies": []},
        "authority": {},
        "execution": EXECUTION,
        "audit": {
            "first": 7,
            "last": 9,
            "events": [{"id": "evt_1", "sequence": 7, "action": "job.created", "leaf": "ab" * 32}],
            "checkpoint": {"size": 9, "root": "cd" * 32, "note": "log.example/ten\n9\n\n— log 0000\n"},
        },
        "created_at": written(AT),
        "ended_at": written(AT + timedelta(seconds=1)),
        "locked_at": written(AT + timedelta(seconds=3)),
        **changed,
    }


def locked_bundle(signer: EvidenceSigner, *, tenant: UUID | None = None) -> Json:
    """A bundle of evidence that is locked, as the server exports it."""
    tenant, evidence, workspace, job = tenant or new_id(), new_id(), new_id(), new_id()
    predicate = predicate_of(tenant, evidence, workspace, job)
    envelope = signer.signed(Statement.make(predicate, products=[("art_1", bytes(32))]))
    row = row_of(evidence, workspace, job, State.LOCKED, sha256=digest_of(envelope))
    return make_bundle(row, envelope, tenant_id=tenant, subject=format_id(Prefix.JOB, job), keys=signer.verifier_keys())


def open_bundle(signer: EvidenceSigner, *, tenant: UUID) -> Json:
    """A bundle of evidence that was not locked when it was exported."""
    evidence, workspace, job = new_id(), new_id(), new_id()
    row = row_of(evidence, workspace, job, State.WIP)
    return make_bundle(row, None, tenant_id=tenant, subject=format_id(Prefix.JOB, job), keys=signer.verifier_keys())


def row_of(evidence: UUID, workspace: UUID, job: UUID, state: State, *, sha256: bytes | None = None) -> Evidence:
    return Evidence(
        evidence_id=evidence,
        workspace_id=workspace,
        subject_kind="job",
        subject_id=job,
        state=state,
        persistence_mode="metadata_only",
        labels={"env": "dev"},
        judged={},
        created_at=AT,
        ended_at=AT + timedelta(seconds=1),
        due_at=None,
        checked_at=None,
        faults=(),
        sha256=sha256,
        locked_at=AT + timedelta(seconds=3) if state is not State.WIP else None,
    )


def put(folder: Path, name: str, bundle: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(bundle))
    return file
