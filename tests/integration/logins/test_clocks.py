"""A real provider whose clock is wrong: as far as the tenant lets it be, and no further."""

from collections.abc import Callable, Iterator

import pytest
from tests.integration.api.conftest import problem
from tests.integration.logins.conftest import Ground, MakeGround
from tests.issuer import Issuer


@pytest.fixture(scope="module")
def patient(make_ground: MakeGround, make_issuer: Callable[..., Issuer]) -> Ground:
    """A tenant that lets clocks differ by a minute; id tokens of its provider hold for half of one."""
    return make_ground(at=make_issuer(options={"idTokenSeconds": 30}), clock_skew_ms=60_000)


@pytest.fixture(autouse=True)
def right_again(patient: Ground) -> Iterator[None]:
    yield
    patient.issuer.turn_clock(0)


@pytest.mark.parametrize("seconds", [0, 50, -50])
def test_within_the_tenants_skew_people_come_in(patient: Ground, seconds: int) -> None:
    person = patient.person()
    patient.issuer.turn_clock(seconds)
    assert patient.log_in(person).status_code == 302


@pytest.mark.parametrize(("seconds", "reason"), [(75, "id_token_not_yet"), (-120, "id_token_expired")])
def test_beyond_it_they_do_not(patient: Ground, seconds: int, reason: str) -> None:
    person = patient.person()
    patient.issuer.turn_clock(seconds)
    problem(patient.log_in(person), 401, "login_refused")
    assert patient.events("login.refused")[0]["reason"] == reason
