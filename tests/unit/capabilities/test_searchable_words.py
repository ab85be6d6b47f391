"""Which words of an event can be searched for, and how they are compared."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tenantry.capabilities.audit.types import AuditEvent, Outcome
from tenantry.capabilities.audit.types.privacy import committed, opened
from tenantry.capabilities.audit.types.words import SEARCHED_DETAILS, entries_of, searchable, words_of
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import Actor, ActorType


def event_of(**fields: Any) -> AuditEvent:
    values: dict[str, Any] = {
        "tenant_id": new_id(),
        "event_id": new_id(),
        "occurred_at": datetime.now(UTC),
        "actor": Actor(ActorType.API_KEY, "key_abc", ()),
        "action": "job.created",
        "resource_type": "job",
        "resource_id": "job_xyz",
        "outcome": Outcome.SUCCESS,
    }
    return AuditEvent(**{**values, **fields})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Quarterly REPORT", ["quarterly", "report"]),
        ("job_01h455", ["job", "01h455"]),
        ("a.b-c/d", ["a", "b", "c", "d"]),
        ("Stra\u00dfe \uff21\uff22", ["strasse", "ab"]),
        ("twice twice", ["twice"]),
        ("%_*'\u0000", []),
        ("x" * 100, ["x" * 64]),
    ],
)
def test_words_are_letters_and_digits_alone_in_one_case(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_text_of_many_words_has_forty() -> None:
    assert len(words_of(" ".join(f"w{number}" for number in range(100)))) == 40


def test_only_listed_members_of_details_are_searched() -> None:
    details = {name: f"public{number}" for number, name in enumerate(SEARCHED_DETAILS)}
    found = searchable(
        event_of(details={**details, "value": "hidden", "nested": {"name": "hidden"}, "name2": "hidden"})
    )
    assert {f"public{number}" for number in range(len(SEARCHED_DETAILS))} <= found
    assert "hidden" not in found


def test_what_is_no_text_is_not_searched() -> None:
    assert "7" not in searchable(event_of(details={"name": 7, "role": ["seven"]}))


def test_an_event_is_indexed_by_its_words_and_by_whole_fields() -> None:
    entries = set(entries_of(event_of(outcome=Outcome.DENIED, trace_id="t1", reason="permission_missing")))
    assert entries >= {"w:created", "w:missing", "a:job", "r:job", "y:api_key", "o:denied", "t:t1"}
    assert not any(entry.startswith("o:") for entry in entries_of(event_of()))


def test_what_was_committed_to_is_not_searched_however_much_of_it_was_opened() -> None:
    whole = event_of(reason="Ada is ill", details={"name": "notebook", "email": "grace"})
    bare, openings = committed(whole)
    read = opened(bare, openings.whole)
    assert (read.reason, read.details["email"]) == ("Ada is ill", "grace")
    assert searchable(read) == searchable(bare) == searchable(opened(bare, b""))
    assert "notebook" in searchable(read)
    assert not {"ada", "ill", "grace"} & searchable(read)
