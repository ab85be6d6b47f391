"""The bytes of an audit event are kept for ever: they are pinned here, byte by byte and hash by hash."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from tenantry.capabilities.audit.types import FORM_VERSION, AuditEvent, Outcome, canonical_bytes
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.scope import Actor, ActorType

FULL = (
    b'{"action":"job.created","actor":{"chain":["svc_00000000000000000000000000","usr_00000000000000000000000001"],'
    b'"id":"key_01h455vb4pex5vsknk084sn02q","type":"api_key"},"details":{"a":"\xc3\xa9\\u0000\\u001b\\n\\"\\\\",'
    b'"b":[1,-1,0,100,1.5,1e+21,9007199254740991,null,true],"e":{"inner":"\xf0\x9f\x98\x80"}},"form":1,'
    b'"id":"evt_01h455vb4pex5vsknk084sn02q","ip":"2001:db8::1","occurred_at":"2026-03-01T12:00:00.000600+00:00",'
    b'"outcome":"denied","reason":"permission_missing","resource":{"id":"job_00000000000000000000000007","type":"job"},'
    b'"tenant":"ten_7zzzzzzzzzzzzzzzzzzzzzzzzz","trace_id":"0123456789abcdef0123456789abcdef",'
    b'"workspace":"ws_00000000000000000000000000"}'
)
FULL_LEAF = "ccc41b715d14a10524e2d264a1216e2e0d0fd3f0abf98c6340802d5f9951a9d8"
LEAST = (
    b'{"action":"a.b","actor":{"chain":[],"id":"tenantry","type":"system"},"details":{},"form":1,'
    b'"id":"evt_00000000000000000000000002","ip":null,"occurred_at":"2026-01-01T00:00:00.000000+00:00",'
    b'"outcome":"success","reason":null,"resource":{"id":"x","type":"a"},"tenant":"ten_00000000000000000000000001",'
    b'"trace_id":"","workspace":null}'
)
LEAST_LEAF = "682bf90778cff3e8d1fbb0a89045c9a00882252512f1ae12c8517d8e425bb74f"


def least(**fields: Any) -> AuditEvent:
    values: dict[str, Any] = {
        "tenant_id": UUID(int=1),
        "event_id": UUID(int=2),
        "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
        "actor": Actor(ActorType.SYSTEM, "tenantry"),
        "action": "a.b",
        "resource_type": "a",
        "resource_id": "x",
        "outcome": Outcome.SUCCESS,
    }
    return AuditEvent(**values | fields)


def details(value: Any) -> str:
    written = canonical_bytes(least(details={"v": value}))
    return written.partition(b'"details":{"v":')[2].partition(b'},"form"')[0].decode()


def test_a_full_event_is_written_as_ever() -> None:
    event = AuditEvent(
        tenant_id=UUID(int=2**128 - 1),
        event_id=UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
        occurred_at=datetime(2026, 3, 1, 12, 0, 0, 600, tzinfo=UTC),
        actor=Actor(
            ActorType.API_KEY,
            "key_01h455vb4pex5vsknk084sn02q",
            ("svc_00000000000000000000000000", "usr_00000000000000000000000001"),
        ),
        action="job.created",
        resource_type="job",
        resource_id="job_00000000000000000000000007",
        outcome=Outcome.DENIED,
        workspace_id=UUID(int=0),
        reason="permission_missing",
        ip="2001:db8::1",
        trace_id="0123456789abcdef0123456789abcdef",
        details={
            "e": {"inner": "😀"},
            "b": [1, -1, -0.0, 1e2, 1.5, 1e21, 2**53 - 1, None, True],
            "a": 'é\0\x1b\n"\\',
        },
        sequence=7,
    )
    assert canonical_bytes(event) == FULL
    assert leaf_hash(FULL).hex() == FULL_LEAF


def test_the_least_event_is_written_as_ever() -> None:
    assert canonical_bytes(least()) == LEAST
    assert leaf_hash(LEAST).hex() == LEAST_LEAF
    assert FORM_VERSION == 1


def test_a_leaf_is_that_of_certificate_transparency() -> None:
    """RFC 9162 §2.1.1: SHA-256 of a zero byte and the entry; the second is the empty entry's, known from RFC 6962."""
    assert leaf_hash(LEAST) == hashlib.sha256(b"\0" + LEAST).digest()
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_the_place_is_not_in_it() -> None:
    assert canonical_bytes(least(sequence=5)) == canonical_bytes(least())


def test_a_moment_is_written_with_its_microseconds_always() -> None:
    assert b'"2026-01-01T00:00:00.000000+00:00"' in canonical_bytes(least())
    east = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert b'"2026-01-01T02:00:00.000000+02:00"' in canonical_bytes(least(occurred_at=east))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (-0.0, "0"),
        (0.0, "0"),
        (1e2, "100"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (0.1 + 0.2, "0.30000000000000004"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (333333333.33333329, "333333333.3333333"),
        (9007199254740991, "9007199254740991"),
        (-9007199254740991, "-9007199254740991"),
        (True, "true"),
        (None, "null"),
        ("é", '"é"'),
        ("e\u0301", '"e\u0301"'),
        ("\u2028\u2029", '"\u2028\u2029"'),
        ("\x7f\x80", '"\x7f\x80"'),
        ("\b\t\n\f\r\x0b\x1f", '"\\b\\t\\n\\f\\r\\u000b\\u001f"'),
        ("</script>", '"</script>"'),
        ("😀", '"😀"'),
        ({"\u20ac": 1, "\r": 2, "1": 3, "\U0001f600": 4, "\ufb33": 5}, '{"\\r":2,"1":3,"€":1,"😀":4,"\ufb33":5}'),
    ],
)
def test_values_have_one_form(value: Any, written: str) -> None:
    """Numbers as ECMAScript writes them, texts as they are, never normalised; names by UTF-16 units (RFC 8785 §3.2)."""
    assert details(value) == written


@pytest.mark.parametrize("value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800", b"x", object(), {1: "x"}])
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        canonical_bytes(least(details={"v": value}))


def test_two_forms_of_one_letter_are_two_events() -> None:
    """Normalising would let one be passed off as the other."""
    assert leaf_hash(canonical_bytes(least(reason="é"))) != leaf_hash(canonical_bytes(least(reason="e\u0301")))


def test_nothing_in_a_text_becomes_a_member() -> None:
    """Line breaks, quotes, escape sequences and formulas stay inside of their text."""
    for hostile in ('","outcome":"success', "\r\n{}", "\x1b[2K", '=HYPERLINK("http://x")', "\\u0022", "\0"):
        written = canonical_bytes(least(reason=hostile, outcome=Outcome.DENIED))
        assert json.loads(written)["reason"] == hostile
        assert json.loads(written)["outcome"] == "denied"
        assert not any(byte < 0x20 for byte in written)
