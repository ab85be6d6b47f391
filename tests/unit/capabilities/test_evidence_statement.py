"""What is signed, byte for byte: the Statement of in-toto, and the envelope of DSSE."""

import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf import json_format  # type: ignore[import-untyped]  # ships no types
from in_toto_attestation.v1 import statement_pb2 as statement_proto
from in_toto_attestation.v1.statement import Statement as InTotoStatement
from pydantic import ValidationError
from securesystemslib.dsse import Envelope
from tests.unit.capabilities.evidence_ground import AT, EXECUTION, predicate_of, signer_at

from tenantry.capabilities.evidence.errors import EvidenceRefused
from tenantry.capabilities.evidence.service.envelopes import (
    PAYLOAD_TYPE,
    keyid_of,
    pre_authentication_encoding,
    read_envelope,
    require_counting,
    require_signature,
)
from tenantry.capabilities.evidence.service.statement import Statement, render_schema

TENANT, EVIDENCE, WORKSPACE, JOB = (UUID(int=number) for number in range(1, 5))
STATEMENT = (
    b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"actor":{"chain":["svc_1"],"id":"key_1","type":"api_key"},'
    b'"audit":{"checkpoint":{"note":"log.example/ten\\n9\\n\\n\xe2\x80\x94 log 0000\\n",'
    b'"root":"' + b"cd" * 32 + b'","size":9},'
    b'"events":[{"action":"job.created","id":"evt_1","leaf":"' + b"ab" * 32 + b'","sequence":7}],'
    b'"first":7,"last":9},'
    b'"authority":{},"created_at":"2030-01-02T03:04:05.678901+00:00","ended_at":"2030-01-02T03:04:06.678901+00:00",'
    b'"evidence":"evd_00000000000000000000000002",'
    b'"execution":{"exit_code":0,"status":"succeeded",'
    b'"usage":{"cpu_seconds":0.5}},'
    b'"labels":{"env":"dev"},"locked_at":"2030-01-02T03:04:08.678901+00:00","persistence_mode":"metadata_only",'
    b'"policies":{"policies":[],"verdict":"allow"},"region":"us",'
    b'"subject":{"id":"job_00000000000000000000000004","kind":"job"},"tenant":"ten_00000000000000000000000001",'
    b'"workspace":"ws_00000000000000000000000003"},"predicateType":"urn:tenantry:evidence:v1",'
    b'"subject":[{"digest":{"sha256":"9b8bb2ae"},"name":"job_00000000000000000000000004"},'
    b'{"digest":{"sha256":"' + b"00" * 32 + b'"},"name":"art_1"}]}'
).replace(
    b"9b8bb2ae",
    hashlib.sha256(b'{"exit_code":0,"status":"succeeded","usage":{"cpu_seconds":0.5}}').hexdigest().encode(),
)  # fmt: skip


def made(**changed: Any) -> bytes:
    predicate = predicate_of(TENANT, EVIDENCE, WORKSPACE, JOB, **changed)
    return Statement.make(predicate, products=[("art_1", bytes(32))])


def test_a_statement_has_these_bytes() -> None:
    assert made() == STATEMENT


def test_in_toto_reads_it() -> None:
    parsed = json_format.Parse(made(), statement_proto.Statement())
    InTotoStatement.copy_from_pb(parsed).validate()
    assert [one.name for one in parsed.subject] == ["job_00000000000000000000000004", "art_1"]
    assert parsed.subject[0].digest["sha256"] == hashlib.sha256(rfc8785.dumps(EXECUTION)).hexdigest()


def test_it_is_read_as_it_was_written() -> None:
    read = Statement.read(STATEMENT)
    assert (read.predicate.evidence, read.predicate.audit.last) == ("evd_00000000000000000000000002", 9)
    assert read.locked_at.microsecond == AT.microsecond


@pytest.mark.parametrize(
    ("what", "before", "after"),
    [
        ("another type", b"Statement/v1", b"Statement/v2"),
        ("another predicate", b"evidence:v1", b"evidence:v2"),
        ("a member more", b'"labels":{', b'"more":1,"labels":{'),
        ("a member less", b'"region":"us",', b""),
        ("another order", b'"first":7,"last":9', b'"last":9,"first":7'),
        ("a space", b'"first":7', b'"first": 7'),
        ("a name twice", b'"first":7', b'"first":7,"first":7'),
        ("what the subject's digest is not of", b'"exit_code":0', b'"exit_code":1'),
        ("another subject", b'000000004","kind":"job"', b'000000005","kind":"job"'),
        ("two products of one name", b'"name":"art_1"', b'"name":"job_00000000000000000000000004"'),
        ("a time in another zone", b"06.678901+00:00", b"06.678901+01:00"),
        ("a mode that is none", b'"persistence_mode":"metadata_only"', b'"persistence_mode":"some"'),
        ("no JSON", b"}]}", b"}]"),
    ],
)  # fmt: skip
def test_what_is_not_exactly_one_is_refused(what: str, before: bytes, after: bytes) -> None:
    assert before in STATEMENT
    with pytest.raises(EvidenceRefused) as refused:
        Statement.read(STATEMENT.replace(before, after, 1))
    assert refused.value.code == "statement_malformed", what


def test_what_has_no_form_is_not_signed() -> None:
    with pytest.raises(ValidationError):
        made(region=None)
    with pytest.raises(ValueError, match=r".+"):
        made(execution={"size": 2**60})


def test_the_schema_is_that_of_the_statement() -> None:
    schema = json.loads(render_schema())
    assert schema["$id"] == "urn:tenantry:evidence:v1"
    assert set(schema["required"]) == {"_type", "subject", "predicateType", "predicate"}
    assert set(schema["$defs"]["Predicate"]["required"]) == set(json.loads(STATEMENT)["predicate"])


@pytest.mark.parametrize(
    ("kind", "payload", "encoded"),
    [
        ("http://example.com/HelloWorld", b"hello world", b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"),
        ("", b"", b"DSSEv1 0  0 "),
        ("\u00e9", b"\x00\xff", b"DSSEv1 2 \xc3\xa9 2 \x00\xff"),
        (PAYLOAD_TYPE, b"{}", b"DSSEv1 28 application/vnd.in-toto+json 2 {}"),
    ],
)
def test_the_encoding_is_that_of_the_protocol(kind: str, payload: bytes, encoded: bytes) -> None:
    """The first is the vector of the DSSE specification (protocol.md); the others count bytes, not characters."""
    assert pre_authentication_encoding(kind, payload) == encoded
    assert Envelope(payload, kind, {}).pae() == encoded


def test_a_signature_is_over_that_encoding_by_a_key_derived_for_evidence_alone(tmp_path: Path) -> None:
    signer = signer_at(tmp_path)
    envelope = signer.signed(STATEMENT)
    [key] = signer.verifier_keys()
    read = read_envelope(envelope)
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(STATEMENT), STATEMENT)
    Ed25519PublicKey.from_public_bytes(key.public).verify(read.signature, encoded)
    assert read.keyid == keyid_of(key) == f"log.example/us/evidence+{key.key_id.hex()}"
    [own] = signer.notary.keys.of("us", now=AT)
    of_log = Ed25519PrivateKey.from_private_bytes(own.seed).public_key().public_bytes_raw()
    assert key.public != of_log
    assert signer.signed(STATEMENT) == envelope


def test_a_rotated_key_still_verifies_what_it_signed_and_nothing_later(tmp_path: Path) -> None:
    signer = signer_at(tmp_path)
    before = read_envelope(signer.signed(STATEMENT))
    signer.notary.keys.rotate("us", now=AT)
    after = read_envelope(signer.signed(STATEMENT))
    first, second = signer.verifier_keys()
    assert require_signature(before, keys=signer.verifier_keys()) == first
    assert require_signature(after, keys=signer.verifier_keys()) == second
    assert first.valid_until is not None
    require_counting(first, AT)
    with pytest.raises(EvidenceRefused) as refused:
        require_counting(first, first.valid_until)
    assert refused.value.code == "key_expired"


def test_keys_of_regions_are_others(tmp_path: Path) -> None:
    envelope = read_envelope(signer_at(tmp_path).signed(STATEMENT))
    with pytest.raises(EvidenceRefused) as refused:
        require_signature(envelope, keys=signer_at(tmp_path, region="eu").verifier_keys())
    assert refused.value.code == "key_unknown"
