"""A bundle that was altered anywhere is refused, and says what does not hold."""

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from tests.unit.capabilities.evidence_ground import Json, locked_bundle, open_bundle, signer_at

from tenantry.capabilities.evidence.errors import EvidenceRefused
from tenantry.capabilities.evidence.service.bundle import Verified, read_bundle, tenant_in, verify_bundle
from tenantry.capabilities.evidence.service.envelopes import EvidenceSigner
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.foundation.ids import Prefix, format_id, new_id


@pytest.fixture
def signer(tmp_path: Path) -> EvidenceSigner:
    return signer_at(tmp_path)


@pytest.fixture
def bundle(signer: EvidenceSigner) -> Json:
    return locked_bundle(signer)


def verified(bundle: Any, signer: EvidenceSigner) -> Verified:
    return verify_bundle(read_bundle(json.dumps(bundle).encode()), keys=signer.verifier_keys())


def refusal(bundle: Any, signer: EvidenceSigner) -> str:
    with pytest.raises(EvidenceRefused) as refused:
        verified(bundle, signer)
    return refused.value.code


def altered(bundle: Json, path: str, value: Any) -> Json:
    changed = copy.deepcopy(bundle)
    *way, last = path.split(".")
    inside: Any = changed
    for step in way:
        inside = inside[int(step) if step.isdecimal() else step]
    inside[int(last) if last.isdecimal() else last] = value
    return changed


def test_what_was_signed_is_verified_by_keys_that_one_knows(bundle: Json, signer: EvidenceSigner) -> None:
    found = verified(bundle, signer)
    assert (found.pinned, found.sha256) == (True, bundle["meta"]["sha256"])
    assert found.statement.predicate.tenant == bundle["meta"]["tenant"]


def test_by_its_own_keys_it_is_believed_and_says_so(bundle: Json) -> None:
    assert not verify_bundle(bundle).pinned


def test_how_the_file_is_laid_out_does_not_count(bundle: Json, signer: EvidenceSigner) -> None:
    again = json.dumps(bundle, indent=4, sort_keys=True).encode()
    assert verify_bundle(read_bundle(again), keys=signer.verifier_keys()).pinned


def test_a_bare_envelope_is_verified_as_well(bundle: Json, signer: EvidenceSigner) -> None:
    bare = read_bundle(json.dumps(bundle["envelope"]).encode())
    assert verify_bundle(bare, keys=signer.verifier_keys()).sha256 == bundle["meta"]["sha256"]
    assert tenant_in(bare) == bundle["meta"]["tenant"]


_OTHER = format_id(Prefix.EVIDENCE, new_id())
ALTERED = [
    ("form", "tenantry-evidence/2", "meta_mismatch"),
    ("more", 1, "meta_mismatch"),
    ("meta.id", _OTHER, "meta_mismatch"),
    ("meta.tenant", format_id(Prefix.TENANT, new_id()), "tenant_mismatch"),
    ("meta.tenant", None, "tenant_mismatch"),
    ("meta.workspace", format_id(Prefix.WORKSPACE, new_id()), "meta_mismatch"),
    ("meta.subject", format_id(Prefix.JOB, new_id()), "meta_mismatch"),
    ("meta.state", "wip", "meta_mismatch"),
    ("meta.state", "open", "meta_mismatch"),
    ("meta.sha256", "00" * 32, "meta_mismatch"),
    ("meta.created_at", "2031-01-02T03:04:05.678901+00:00", "meta_mismatch"),
    ("meta.ended_at", None, "meta_mismatch"),
    ("meta.locked_at", "2031-01-02T03:04:05.678901+00:00", "meta_mismatch"),
    ("meta.more", 1, "meta_mismatch"),
    ("meta", None, "tenant_mismatch"),
    ("envelope", None, "evidence_unlocked"),
    ("envelope", [], "envelope_malformed"),
    ("envelope.payloadType", "text/plain", "envelope_malformed"),
    ("envelope.payload", base64.b64encode(b"{}").decode(), "signature_invalid"),
    ("envelope.payload", "e30", "envelope_malformed"),
    ("envelope.more", 1, "envelope_malformed"),
    ("envelope.signatures", [], "envelope_malformed"),
    ("envelope.signatures.0.more", 1, "envelope_malformed"),
    ("envelope.signatures.0.sig", base64.b64encode(bytes(64)).decode(), "signature_invalid"),
    ("envelope.signatures.0.sig", base64.b64encode(bytes(63)).decode(), "signature_invalid"),
    ("envelope.signatures.0.keyid", "other+00000000", "key_unknown"),
]


@pytest.mark.parametrize(("path", "value", "code"), ALTERED, ids=[f"{path}-{code}" for path, _, code in ALTERED])
def test_each_member_counts(path: str, value: Any, code: str, bundle: Json, signer: EvidenceSigner) -> None:
    verified(bundle, signer)
    assert refusal(altered(bundle, path, value), signer) == code


def test_no_byte_of_it_can_be_another(bundle: Json, signer: EvidenceSigner) -> None:
    """But of its own keys, which nobody believes who has brought others."""
    content = rfc8785.dumps({**bundle, "keys": []})
    keys = signer.verifier_keys()
    verify_bundle(read_bundle(content), keys=keys)
    passed = []
    for at in range(len(content)):
        for other in (content[at] ^ 1, content[at] ^ 0x20):
            try:
                verify_bundle(read_bundle(content[:at] + bytes([other]) + content[at + 1 :]), keys=keys)
            except EvidenceRefused:
                continue
            passed.append((at, content[max(0, at - 20) : at + 20]))
    assert passed == []


def test_no_bit_of_what_is_signed_can_be_another(bundle: Json, signer: EvidenceSigner) -> None:
    payload = base64.b64decode(bundle["envelope"]["payload"])
    for at in range(0, len(payload), 7):
        other = payload[:at] + bytes([payload[at] ^ 4]) + payload[at + 1 :]
        changed = altered(bundle, "envelope.payload", base64.b64encode(other).decode())
        assert refusal(changed, signer) == "signature_invalid"


def test_what_another_key_has_signed_anew_is_refused(bundle: Json, signer: EvidenceSigner, tmp_path: Path) -> None:
    """Whoever forges all of it brings a key along: that passes by its own keys, and by nobody's who knows better."""
    forger = signer_at(tmp_path / "forger")
    payload = base64.b64decode(bundle["envelope"]["payload"])
    forged = altered(bundle, "envelope", forger.signed(payload))
    forged = altered(forged, "keys", [{"key": str(forger.verifier_keys()[0]), "valid_from": None, "valid_until": None}])
    forged["meta"]["sha256"] = verify_bundle({**forged, "meta": forged["meta"]} | {"meta": _signed(forged)}).sha256
    assert not verify_bundle(forged).pinned
    assert refusal(forged, signer) == "key_unknown"


def test_a_key_under_the_name_of_another_does_not_pass(bundle: Json, signer: EvidenceSigner, tmp_path: Path) -> None:
    [other], [own] = signer_at(tmp_path / "other").verifier_keys(), signer.verifier_keys()
    posing = VerifierKey(own.name, other.public)
    with pytest.raises(EvidenceRefused) as refused:
        verify_bundle(bundle, keys=[posing])
    assert refused.value.code == "key_unknown"


def test_an_envelope_in_anothers_wrapping_is_refused(bundle: Json, signer: EvidenceSigner) -> None:
    other = locked_bundle(signer)
    assert refusal({**bundle, "envelope": other["envelope"]}, signer) == "tenant_mismatch"


def test_what_was_not_locked_proves_nothing(signer: EvidenceSigner) -> None:
    assert refusal(open_bundle(signer, tenant=new_id()), signer) == "evidence_unlocked"


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{", b'{"a":1,"a":2}', b"\xff", b'{"a":NaN}'])
def test_what_is_no_object_is_unreadable(content: bytes) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        read_bundle(content)
    assert refused.value.code == "bundle_unreadable"


def test_damaged_keys_of_its_own_are_refused(bundle: Json) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        verify_bundle(altered(bundle, "keys.0.key", "x"))
    assert refused.value.code == "bundle_malformed"


def _signed(bundle: Json) -> Json:
    """Meta that agrees with whatever envelope there is."""
    from tenantry.capabilities.evidence.service.envelopes import digest_of

    return {**bundle["meta"], "sha256": digest_of(bundle["envelope"]).hex()}
