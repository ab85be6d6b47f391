"""Events in OCSF: each class as the framework's own schema has it, and nothing of an event is lost."""

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from tenantry.capabilities.audit.service.documents import cloud_document, document_of, flat_line, written
from tenantry.capabilities.audit.service.ocsf import CLASSES, VERSION, ocsf_document
from tenantry.capabilities.audit.types import AuditEvent, Outcome
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import Actor, ActorType

_VERBS = (
    *("created", "read", "updated", "deleted", "revoked", "activated", "expired", "suspended", "resumed", "moved"),
    *("member_added", "member_removed", "refused", "refreshed", "exotic", ""),
)
_NOUNS = (*CLASSES, "job", "sandbox", "approval", "region")


@cache
def _validator(class_uid: int) -> Draft202012Validator:
    schemas = OcsfJsonSchemaEmbedded(_schema())
    return Draft202012Validator(schemas.get_class_schema(schemas.lookup_class_name_from_uid(class_uid)))


@cache
def _schema() -> Any:
    return get_ocsf_schema(version=VERSION)


def event_of(action: str, **fields: Any) -> AuditEvent:
    values: dict[str, Any] = {
        "tenant_id": new_id(),
        "event_id": new_id(),
        "occurred_at": datetime(2030, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
        "actor": Actor(ActorType.USER, "usr_1", ("key_1",)),
        "resource_type": "thing",
        "resource_id": "thing-1",
        "outcome": Outcome.SUCCESS,
        "sequence": 7,
    }
    return AuditEvent(**{**values, "action": action, **fields})


@pytest.mark.parametrize("noun", _NOUNS)
def test_every_class_is_what_the_frameworks_schema_says(noun: str) -> None:
    for verb in _VERBS:
        for outcome in Outcome:
            for more in (
                {},
                {"ip": "2001:db8::1", "reason": "permission_missing", "trace_id": "0" * 32, "workspace_id": new_id()},
                {"actor": Actor(ActorType.SYSTEM, "", ()), "resource_id": "", "details": {"principal": "usr_2"}},
                {"details": {"role": "viewer", "principal": "", "nested": {"a": [1, None]}}},
            ):
                told = ocsf_document(event_of(f"{noun}.{verb}" if verb else noun, outcome=outcome, **more))
                found = _validator(told["class_uid"]).iter_errors(told)
                assert [f"{error.json_path}: {error.message}" for error in found] == [], f"{noun}.{verb}"
                assert told["type_uid"] == told["class_uid"] * 100 + told["activity_id"]


def test_the_suite_itself_notices_what_is_missing_or_strange() -> None:
    told = ocsf_document(event_of("job.created"))
    validator = _validator(told["class_uid"])
    assert validator.is_valid(told)
    for member in ("actor", "api", "src_endpoint", "metadata", "time", "severity_id"):
        assert not validator.is_valid({name: value for name, value in told.items() if name != member}), member
    assert not validator.is_valid({**told, "activity_id": 4711})


def test_nothing_of_an_event_is_lost() -> None:
    event = event_of(
        "grant.activated",
        reason="because",
        ip="192.0.2.1",
        trace_id="f" * 32,
        workspace_id=new_id(),
        details={"role": "viewer", "minutes": 5},
    )
    text = written(ocsf_document(event)).decode()
    whole = document_of(event)
    for value in (whole["id"], whole["tenant"], whole["workspace"], "grant.activated", "because", "192.0.2.1", "key_1"):
        assert json.dumps(value) in text, value
    told = ocsf_document(event)
    assert told["unmapped"]["details"] == event.details
    assert told["metadata"]["sequence"] == 7
    assert told["time"] == int(event.occurred_at.timestamp() * 1000)


def test_a_cloudevent_sorts_by_its_sequence_as_text() -> None:
    numbers = (1, 9, 10, 2**63 - 1)
    told = [cloud_document(event_of("job.created", sequence=number))["sequence"] for number in numbers]
    assert told == sorted(told)
    assert [int(each) for each in told] == list(numbers)


@pytest.mark.parametrize("hostile", ["\r\n", "\u001b[2J", "\u0000", "\u2028", "\U0001f600", "=HYPERLINK()", "\u007f"])
def test_no_writer_lets_a_control_character_through(hostile: str) -> None:
    event = event_of("job.created", resource_id=f"a{hostile}b", reason=hostile, details={hostile: hostile})
    for raw in (flat_line(event).rstrip(b"\n"), written(cloud_document(event)), written(ocsf_document(event))):
        assert all(0x20 <= byte < 0x7F for byte in raw)
    assert json.loads(flat_line(event))["resource_id"] == f"a{hostile}b"
