"""An evidence bundle: one piece of evidence as one JSON file, which is verified without a server.

    {"form": "tenantry-evidence/1",
     "meta": {"id", "tenant", "workspace", "subject", "state", "sha256", "created_at", "ended_at", "locked_at"},
     "keys": [{"key", "valid_from", "valid_until"}],
     "envelope": the DSSE envelope, or null while it is not locked}

What is signed counts; `meta` is held against it. The keys in it are believed by nobody who knows them otherwise. Files
of others may lie beside: of those `meta.tenant` is read. What has no envelope is `wip` only if `meta` has neither the
SHA-256 nor the time of one: else the envelope was taken away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.evidence.errors import EvidenceRefused
from tenantry.capabilities.evidence.service.envelopes import (
    digest_of,
    read_envelope,
    require_counting,
    require_signature,
)
from tenantry.capabilities.evidence.service.statement import Statement, written
from tenantry.capabilities.evidence.types import Evidence, State
from tenantry.engines.merkle.errors import MerkleError, NoteError
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.foundation.ids import Prefix, format_id
from tenantry.kit.strict_json import NotStrictError, parse_json

FORM: Final = "tenantry-evidence/1"
UNKNOWN: Final = "unknown"
"""What a tenant is called that a bundle does not name."""
_MEMBERS: Final = {"form", "meta", "keys", "envelope"}
_BARE: Final = {"envelope"}
_UNFORESEEN: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MerkleError)
"""What no form that is read here should end in: one file must not end the index of a directory."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a bundle proves. `pinned`: by keys that the caller has brought; else by its own, which anybody can make."""

    statement: Statement
    sha256: str
    key: VerifierKey
    pinned: bool


def make_bundle(
    evidence: Evidence,
    envelope: Mapping[str, Any] | None,
    *,
    tenant_id: UUID,
    subject: str,
    keys: Sequence[VerifierKey],
) -> dict[str, Any]:
    """Make what is exported; `subject` is the id of what it is of."""
    return {
        "form": FORM,
        "meta": {
            "id": format_id(Prefix.EVIDENCE, evidence.evidence_id),
            "tenant": format_id(Prefix.TENANT, tenant_id),
            "workspace": format_id(Prefix.WORKSPACE, evidence.workspace_id),
            "subject": subject,
            "state": evidence.state.value,
            "sha256": evidence.sha256.hex() if evidence.sha256 else None,
            "created_at": written(evidence.created_at),
            "ended_at": _written(evidence.ended_at),
            "locked_at": _written(evidence.locked_at),
        },
        "keys": [
            {"key": str(key), "valid_from": _written(key.valid_from), "valid_until": _written(key.valid_until)}
            for key in keys
        ],
        "envelope": dict(envelope) if envelope is not None else None,
    }


def read_bundle(content: bytes) -> dict[str, Any]:
    """Read a file as an object of JSON, a bare DSSE envelope as a bundle of it; raises EvidenceRefused."""
    try:
        bundle = parse_json(content)
    except NotStrictError as error:
        raise EvidenceRefused("bundle_unreadable", f"this is no JSON: {error}") from error
    if not isinstance(bundle, dict):
        raise EvidenceRefused("bundle_unreadable", "a bundle is an object of JSON")
    return {"envelope": bundle} if "payloadType" in bundle else bundle


def tenant_in(bundle: Mapping[str, Any]) -> str:
    """Tell whose it says it is: `meta.tenant`, of a bare envelope what it carries; else UNKNOWN."""
    meta = bundle.get("meta")
    named = meta.get("tenant") if isinstance(meta, dict) else None
    if named is None and "meta" not in bundle and bundle.get("envelope") is not None:
        try:
            named = Statement.read(read_envelope(bundle["envelope"]).payload).predicate.tenant
        except EvidenceRefused:
            return UNKNOWN
    return named if isinstance(named, str) and named else UNKNOWN


def state_of(bundle: Mapping[str, Any]) -> State:
    """Tell what it says it is: `wip` where neither an envelope nor a trace of one shows that it was signed."""
    meta = bundle.get("meta")
    told: Mapping[str, Any] = meta if isinstance(meta, dict) else {}
    said = told.get("state")
    if said in (State.LOCKED.value, State.TAMPERED.value):
        return State(said)
    signed = (bundle.get("envelope"), told.get("sha256"), told.get("locked_at"))
    return State.WIP if signed == (None, None, None) else State.LOCKED


def verify_bundle(bundle: Mapping[str, Any], *, keys: Sequence[VerifierKey] | None = None) -> Verified:
    """Return if it is what one of the keys has signed, and says of itself what was signed.

    `keys` are the installation's, as the caller knows them; None: those in the bundle. Raises EvidenceRefused, whose
    code says what does not hold: `evidence_unlocked` where nothing was signed.
    """
    try:
        return _verified(bundle, keys)
    except _UNFORESEEN as error:
        raise EvidenceRefused("bundle_malformed", "it cannot be read as a bundle: it was altered") from error


def _verified(bundle: Mapping[str, Any], keys: Sequence[VerifierKey] | None) -> Verified:
    if bundle.get("envelope") is None:
        raise EvidenceRefused("evidence_unlocked", "it was not locked when it was exported: nothing is signed of it")
    envelope = read_envelope(bundle["envelope"])
    key = require_signature(envelope, keys=_own_keys(bundle) if keys is None else keys)
    statement = Statement.read(envelope.payload)
    require_counting(key, statement.locked_at)
    sha256 = digest_of(bundle["envelope"]).hex()
    if set(bundle) != _BARE:
        _require_meta(bundle, statement, sha256)
    return Verified(statement, sha256, key, pinned=keys is not None)


def _require_meta(bundle: Mapping[str, Any], statement: Statement, sha256: str) -> None:
    """Raise EvidenceRefused `tenant_mismatch` or `meta_mismatch` for words around the envelope that are not its own."""
    meta, predicate = bundle.get("meta"), statement.predicate
    if not isinstance(meta, dict) or meta.get("tenant") != predicate.tenant:
        raise EvidenceRefused("tenant_mismatch", f"the tenant it names is not {predicate.tenant}, which was signed")
    signed = {
        "id": predicate.evidence,
        "tenant": predicate.tenant,
        "workspace": predicate.workspace,
        "subject": predicate.subject.id,
        "sha256": sha256,
        "created_at": predicate.created_at,
        "ended_at": predicate.ended_at,
        "locked_at": predicate.locked_at,
    }
    wrong = sorted(name for name, value in signed.items() if meta.get(name) != value)
    if wrong or set(meta) != {*signed, "state"} or bundle.get("form") != FORM or set(bundle) != _MEMBERS:
        told = ", ".join(f"meta.{name}" for name in wrong) or "its form"
        raise EvidenceRefused("meta_mismatch", f"{told} is not what was signed")
    if meta["state"] not in (State.LOCKED.value, State.TAMPERED.value):
        raise EvidenceRefused("meta_mismatch", "meta.state says that it was not locked, but it was")


def _own_keys(bundle: Mapping[str, Any]) -> list[VerifierKey]:
    try:
        return [
            VerifierKey.parse(one["key"], valid_from=_read(one["valid_from"]), valid_until=_read(one["valid_until"]))
            for one in bundle.get("keys", [])
        ]
    except (NoteError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise EvidenceRefused("bundle_malformed", "its keys cannot be read: it was altered or damaged") from error


def _written(at: datetime | None) -> str | None:
    return written(at) if at else None


def _read(text: str | None) -> datetime | None:
    if text is None:
        return None
    if (at := datetime.fromisoformat(text)).tzinfo is None:
        raise ValueError("a time without its offset")
    return at.astimezone(UTC)
