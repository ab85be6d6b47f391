"""The canonical form of audit events: what C writes fast is what RFC 8785 says."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tenantry.capabilities.audit.types import AuditEvent, Outcome, canonical_bytes
from tenantry.foundation.scope import Actor, ActorType

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = TEXT | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15) | st.none()


def event(reason: str | None, details: dict[str, Any]) -> AuditEvent:
    return AuditEvent(
        tenant_id=UUID(int=1),
        event_id=UUID(int=2),
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC),
        actor=Actor(ActorType.API_KEY, "key_1", ("svc_1",)),
        action="job.created",
        resource_type="job",
        resource_id="job_1",
        outcome=Outcome.SUCCESS,
        reason=reason,
        details=details,
    )


@given(reason=TEXT | st.none(), details=st.dictionaries(TEXT, TEXT) | st.dictionaries(TEXT, VALUES | st.lists(VALUES)))
def test_every_event_is_written_as_rfc_8785_says(reason: str | None, details: dict[str, Any]) -> None:
    import json

    written = canonical_bytes(event(reason, details))
    assert written == rfc8785.dumps(json.loads(written))
    assert json.loads(written)["reason"] == reason
    assert json.loads(written)["details"] == details


def test_what_has_no_form_is_refused_on_both_paths() -> None:
    for broken in (event("\ud800", {}), event(None, {"a": "\ud800"}), event(None, {"a": float("nan")})):
        with pytest.raises(ValueError, match=r".+"):
            canonical_bytes(broken)
