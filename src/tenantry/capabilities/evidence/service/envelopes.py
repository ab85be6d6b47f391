"""DSSE envelopes (Dead Simple Signing Envelope, v1.0.2) around in-toto statements, signed with Ed25519.

    {"payload": base64, "payloadType": "application/vnd.in-toto+json", "signatures": [{"keyid": …, "sig": base64}]}
    signed: "DSSEv1" SP length(type) SP type SP length(payload) SP payload       (PAE; lengths in bytes, decimal)

An envelope has one signature and one spelling, that of RFC 8785: `digest_of` is the SHA-256 of it. `keyid` is a hint; a
key counts by what it verifies.
"""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tenantry.capabilities.audit.service import Notary
from tenantry.capabilities.evidence.errors import EvidenceRefused
from tenantry.engines.merkle.notes import VerifierKey, canonical_base64
from tenantry.foundation.derivation import derive_key
from tenantry.foundation.signatures import is_signature
from tenantry.kit.canonical_json import canonical_json

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_PURPOSE: Final = "evidence"


@dataclass(frozen=True, slots=True)
class SignedPayload:
    """An envelope as it was read, believed by nobody yet."""

    payload: bytes
    keyid: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class EvidenceSigner:
    """Signs for the tenants of one region, by keys of its own: each is derived from one that signs its checkpoints.

    So they are rotated, kept and lost together, and no signature of the one passes for one of the other.
    """

    notary: Notary

    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """Give the public halves, oldest first, called `INSTALLATION/REGION/evidence`. Raises Fault."""
        return tuple(key for key, _ in self._pairs())

    def signed(self, payload: bytes) -> dict[str, Any]:
        """Sign by the newest key; gives the envelope. Raises Fault."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key, seed = self._pairs()[-1]
        signature = Ed25519PrivateKey.from_private_bytes(seed).sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
        return {
            "payload": b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": keyid_of(key), "sig": b64encode(signature).decode()}],
        }

    def _pairs(self) -> list[tuple[VerifierKey, bytes]]:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        notary, pairs = self.notary, []
        for each in notary.keys.of(notary.region, now=notary.clock.now()):
            seed = derive_key(each.seed, purpose=_PURPOSE)
            public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
            name = f"{notary.installation}/{notary.region}/{_PURPOSE}"
            pairs.append((VerifierKey(name, public, each.valid_from, each.valid_until), seed))
        return pairs


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Write what is signed (DSSE v1.0.2, `PAE`)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def keyid_of(key: VerifierKey) -> str:
    """Name a key as envelopes do: its name and id, without the key itself."""
    return f"{key.name}+{key.key_id.hex()}"


def digest_of(envelope: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(canonical_json(dict(envelope))).digest()


def read_envelope(envelope: object) -> SignedPayload:
    """Read exactly the form above; raises EvidenceRefused `envelope_malformed`."""
    match envelope:
        case {"payload": str(text), "payloadType": str(kind), "signatures": [{"keyid": str(keyid), "sig": str(sig)}]}:
            payload, signature = canonical_base64(text), canonical_base64(sig)
            read = {"payload": text, "payloadType": PAYLOAD_TYPE, "signatures": [{"keyid": keyid, "sig": sig}]}
            if payload is not None and signature is not None and kind == PAYLOAD_TYPE and envelope == read:
                return SignedPayload(payload, keyid, signature)
    raise EvidenceRefused("envelope_malformed", "this is no DSSE envelope as it was written: it was altered or damaged")


def require_signature(envelope: SignedPayload, *, keys: Sequence[VerifierKey]) -> VerifierKey:
    """Give the key that has signed; raises EvidenceRefused `key_unknown`, `signature_invalid`."""
    named = [each for each in keys if keyid_of(each) == envelope.keyid]
    if not named:
        raise EvidenceRefused("key_unknown", f"{envelope.keyid!r} has signed, which is none of the keys that count")
    signed = pre_authentication_encoding(PAYLOAD_TYPE, envelope.payload)
    for key in named:
        if is_signature(signed, signature=envelope.signature, public_key=key.public):
            return key
    raise EvidenceRefused("signature_invalid", "the signature is not of what it stands by: one of them was altered")


def require_counting(key: VerifierKey, at: datetime) -> None:
    """Raise EvidenceRefused `key_expired` where the key did not count at that time."""
    if not key.counts(at):
        raise EvidenceRefused("key_expired", "it says that it was signed when its key did not count")
