"""Which event an event of use is, and what becomes of what was measured."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import combinations
from math import inf, nan
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.capabilities.limits.service.metering import hour_of
from tenantry.capabilities.limits.types.metering import MOST_QUANTITY, Meter, Used, amount_of, thousandths
from tenantry.capabilities.sandboxes.service.measuring import used_by
from tenantry.capabilities.sandboxes.types import JobEnd, JobStatus
from tenantry.foundation.ids import Prefix, format_id

PLACE, OTHER = UUID(int=1), UUID(int=2)
AT = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def used(**fields: Any) -> Used:
    told: dict[str, Any] = {"workspace_id": PLACE, "meter": Meter.TOKENS, "quantity": 1, "subject": "a"}
    return Used(**{**told, "occurred_at": AT, **fields})


def test_an_event_is_the_same_for_ever() -> None:
    """Ids that are stored must not move: another would count again what was counted."""
    assert used(window="w").event_id == UUID("b49bde98-ad4b-5cd5-8c5f-f1d883c429c2")


def test_what_else_an_event_says_does_not_make_it_another() -> None:
    later = used(quantity=9, occurred_at=AT + timedelta(hours=1), principal_id="usr_x", attributes={"a": "b"})
    assert later.event_id == used().event_id


def test_no_two_events_are_taken_for_one() -> None:
    """Nor does a separator in a name make one name of two."""
    different = [
        used(),
        used(workspace_id=OTHER),
        used(meter=Meter.EGRESS_BYTES),
        used(subject="b"),
        used(window="a"),
        used(subject='a","a'),
        used(subject="a/a"),
        used(subject="a", window="a/a"),
        used(subject="a/a", window="a"),
    ]
    for one, other in combinations(different, 2):
        assert one.event_id != other.event_id


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0.0, 0),
        (0.0004, 0),
        (0.0005, 0),
        (0.0015, 2),
        (0.0025, 2),
        (1.2345, 1234),
        (1.2355, 1236),
        (2.675, 2675),
        (604800.0, 604_800_000),
        (-0.001, None),
        (nan, None),
        (inf, None),
        (-inf, None),
        (1e300, None),
        (float(2**53), None),
    ],
)
def test_what_was_measured_becomes_whole_thousandths(value: float, stored: int | None) -> None:
    assert thousandths(value) == stored


@given(st.floats(min_value=0, max_value=1e9))
def test_rounding_moves_a_measure_by_half_a_thousandth_at_most(value: float) -> None:
    stored = thousandths(value)
    assert stored is not None
    assert abs(Decimal(stored) / 1000 - Decimal(str(value))) <= Decimal("0.0005")


@given(st.integers(min_value=0, max_value=MOST_QUANTITY * 10**6), st.sampled_from(Meter))
def test_a_quantity_is_shown_exactly(quantity: int, meter: Meter) -> None:
    text = f"{amount_of(meter, quantity):f}"
    assert Decimal(text) * 10**meter.places == quantity
    assert "e" not in text.lower()


def test_every_meter_has_a_unit() -> None:
    assert all(meter.unit for meter in Meter)


@pytest.mark.parametrize("offset", [timedelta(hours=5, minutes=45), timedelta(hours=-3, minutes=-30)])
def test_an_hour_is_one_of_utc_wherever_it_is_told(offset: timedelta) -> None:
    assert hour_of(AT.astimezone(timezone(offset))) == AT.replace(minute=0)


def job() -> Any:
    return SimpleNamespace(job_id=UUID(int=7), workspace_id=PLACE, principal_id="usr_x")


def test_a_job_is_metered_by_what_its_sandbox_told() -> None:
    end = JobEnd(JobStatus.TIMED_OUT, "x", usage={"cpu_seconds": 1.25, "peak_memory_mib": 10.5, "wall_seconds": 2.0})
    events = used_by(job(), end, at=AT)
    assert {each.meter: each.quantity for each in events} == {
        Meter.JOB_CPU_SECONDS: 1250,
        Meter.JOB_MEMORY_MIB_SECONDS: 21_000,
        Meter.JOB_WALL_SECONDS: 2000,
    }
    for each in events:
        told = (each.subject, each.principal_id, each.occurred_at, each.attributes)
        assert told == (format_id(Prefix.JOB, UUID(int=7)), "usr_x", AT, {"status": "timed_out"})


def test_nothing_is_metered_of_a_job_that_did_not_start_or_of_which_nothing_is_known() -> None:
    assert used_by(job(), JobEnd(JobStatus.CANCELLED, "x"), at=AT) == []
    sandbox = {"cpu_seconds": 0.01, "peak_memory_mib": 1.0, "wall_seconds": 0.02}
    assert used_by(job(), JobEnd(JobStatus.FAILED, "not_started", usage=sandbox), at=AT) == []


def test_a_measure_that_cannot_be_is_left_out_and_the_others_count() -> None:
    end = JobEnd(JobStatus.FAILED, "x", usage={"cpu_seconds": nan, "peak_memory_mib": inf, "wall_seconds": 2.0})
    assert [each.meter for each in used_by(job(), end, at=AT)] == [Meter.JOB_WALL_SECONDS]
