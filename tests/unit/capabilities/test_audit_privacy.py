"""What is about persons is committed to and not said; once it is forgotten nothing tells it, and every hash stands."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.capabilities.bundles import Bundle, event, refusal

from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.types import AuditEvent, Outcome, canonical_bytes
from tenantry.capabilities.audit.types.privacy import NOTHING, Opening, commitment, committed, opened
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.scope import Actor, ActorType

SECRET = "198.51.100.7"


def an_event(**fields: Any) -> AuditEvent:
    values: dict[str, Any] = {
        "tenant_id": UUID(int=1),
        "event_id": UUID(int=2),
        "occurred_at": datetime(2030, 1, 2, tzinfo=UTC),
        "actor": Actor(ActorType.USER, "usr_1"),
        "action": "note.made",
        "resource_type": "note",
        "resource_id": "note_1",
        "outcome": Outcome.SUCCESS,
    }
    return AuditEvent(**values | fields)


def test_an_event_about_nobody_is_written_as_ever() -> None:
    whole = an_event(details={"name": "a note", "count": 2})
    assert committed(whole) == (whole, NOTHING)
    assert b'"form":1' in canonical_bytes(whole)


def test_a_commitment_has_one_form() -> None:
    opening = Opening(bytes(range(16)), SECRET)
    assert commitment("ip", opening) == "X7sY8mfymxgVNt87YCf3zaXV3mAwaYhhSIKzasAxYGk"
    assert commitment("details.ip", opening) != commitment("ip", opening)


def test_what_is_about_persons_is_not_in_the_canonical_bytes() -> None:
    whole = an_event(ip=SECRET, details={"email": "ada@example.com", "name": "a note", "nested": {"who": ["Ada"]}})
    bare, (payload, in_full) = committed(whole)
    assert payload == in_full, "there is no content in it"
    canonical = canonical_bytes(bare)
    for word in (SECRET, "ada@example.com", "Ada"):
        assert word.encode() not in canonical
        assert word.encode() in payload
    form = json.loads(canonical)
    assert (form["form"], form["ip"], form["details"]) == (2, None, {"name": "a note"})
    assert set(form["committed"]) == {"ip", "details.email", "details.nested"}


def test_what_was_taken_is_put_back_as_it_was_and_only_then() -> None:
    whole = an_event(ip=SECRET, details={"email": "ada@example.com", "name": "a note"})
    bare, (_, payload) = committed(whole)
    again = opened(bare, payload)
    assert replace(again, committed={}) == whole
    told = json.loads(payload)
    told["ip"][1] = "203.0.113.9"
    forged = opened(bare, json.dumps(told).encode())
    assert (forged.ip, forged.withheld) == (None, ("ip",)), "what was not committed to is not believed"
    assert forged.details == whole.details
    gone = opened(bare, b"")
    assert (gone.ip, dict(gone.details), gone.withheld) == (None, {"name": "a note"}, ("details.email", "ip"))


def test_without_content_the_openings_have_what_is_about_persons_and_name_the_rest_as_withheld() -> None:
    whole = an_event(ip=SECRET, reason="Ada asked for it", details={"program": "/opt/ada", "email": "ada@example.com"})
    bare, (personal, in_full) = committed(whole)
    assert (bare.reason, bare.ip, dict(bare.details)) == (None, None, {})
    for word in (b"Ada", b"/opt", b"program"):
        assert word not in canonical_bytes(bare).replace(b"details.program", b"")
        assert word not in personal
    kept = opened(bare, personal)
    assert (kept.ip, kept.reason, dict(kept.details)) == (SECRET, None, {"email": "ada@example.com"})
    assert kept.withheld == ("details.program", "reason")
    assert replace(opened(bare, in_full), committed={}) == whole
    only_content, (nothing, _) = committed(an_event(details={"program": "make"}))
    assert (nothing, set(only_content.committed)) == (b"", {"details.program"})


def test_a_commitment_opens_under_its_own_name_alone() -> None:
    bare, (_, payload) = committed(an_event(reason="a text", details={"program": "make", "path": "/a"}))
    told, known = json.loads(payload), dict(bare.committed)
    for each in (told, known):  # as if the commitments said nothing of names: both are moved together
        each["details.program"], each["details.path"] = each["details.path"], each["details.program"]
    swapped = opened(replace(bare, committed=known), json.dumps(told).encode())
    assert (dict(swapped.details), swapped.reason) == ({}, "a text")
    assert swapped.withheld == ("details.path", "details.program")


def test_equal_values_are_not_seen_to_be_equal() -> None:
    first, second = (committed(an_event(ip=SECRET))[0] for _ in range(2))
    assert first.committed["ip"] != second.committed["ip"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab€", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["email", "who", "name", "é"]), json_values), st.none() | st.just(SECRET))
def test_whatever_it_says_comes_back(details: dict[str, Any], ip: str | None) -> None:
    whole = an_event(ip=ip, details=details)
    bare, (_, payload) = committed(whole)
    again = opened(bare, payload) if bare.committed else bare
    assert replace(again, committed={}) == whole
    assert leaf_hash(canonical_bytes(bare)) == leaf_hash(canonical_bytes(replace(again, ip=None, details=bare.details)))


@pytest.mark.parametrize("size", [3, 300])
def test_a_bundle_of_committing_events_verifies_and_an_altered_commitment_is_named(size: int, tmp_path: Path) -> None:
    def line(number: int) -> bytes:
        plain = event(number)
        fields = json.loads(plain)
        whole = an_event(event_id=UUID(int=number), ip=SECRET, details=fields["details"])
        return canonical_bytes(committed(whole)[0])

    events = [line(number) if number % 3 else event(number) for number in range(1, size + 1)]
    content = b"".join(Bundle(events, (size,)).lines())
    (tmp_path / "b").write_bytes(content)
    assert verify_bundle(tmp_path / "b").size == size
    at = content.index(b'"ip":"') + 6
    flipped = content[:at] + (b"A" if content[at : at + 1] != b"A" else b"B") + content[at + 1 :]
    refused = refusal(tmp_path / "b", flipped)
    assert (refused.code, refused.fields["sequence"]) == ("event_altered", 1)
