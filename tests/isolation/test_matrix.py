"""Every route, every role, each with own, sibling's, archived, another tenant's, deleted and imaginary ids.

What must come of each case is derived from the route's permission and the built-in roles (`matrix`). Beyond the status:
what is another's reads exactly as what never was, every refusal stands in the trail, and no neighbour is touched.

What a role may is judged alike wherever its tenant's rows lie. So the whole product is asked in one region on one
strategy; elsewhere every route and every id is, by one role of each kind that the rule tells apart, another for each
route.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.isolation.grounds import Grounds, World, snapshot
from tests.isolation.matrix import Case, cases_of
from tests.isolation.wire import Answer, Wire
from tests.schedule import STRATEGIES

from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import Mark, RouteSpec

pytestmark = pytest.mark.xdist_group("isolation")

_BY_ROUTE = pytest.mark.parametrize("spec", ALL_ROUTES, ids=[f"{spec.method} {spec.path}" for spec in ALL_ROUTES])


@pytest.fixture(scope="module")
def before(world: World) -> str:
    return snapshot(world.neighbour)


@_BY_ROUTE
def test_each_role_reaches_exactly_its_own(
    spec: RouteSpec, world: World, wire: Wire, before: str, strategy: str
) -> None:
    faults: list[str] = []
    since = datetime.now(UTC).isoformat()
    for grounds, others in world.acting():
        of_all = grounds is world.us and strategy == STRATEGIES[0]
        cases = cases_of(spec, grounds, others, every_role=of_all)
        answers = [(case, _ask(case, grounds, wire)) for case in cases]
        assert answers
        faults += [f"{case}: {answer}, not {case.verdict}" for case, answer in answers if _differs(case, answer)]
        faults += _tellings(answers)
        refused = {answer.trace_id: str(case) for case, answer in answers if answer.status in (403, 404)}
        faults += [f"no event of the refusal of {name}" for name in _unrecorded(refused, grounds, since, "denied")]
        read = {answer.trace_id: str(case) for case, answer in answers if _has_read(case, answer)}
        faults += [
            f"no event of the reading of {name}" for name in _unrecorded(dict([*read.items()][-1:]), grounds, since)
        ]
    assert not faults, "\n".join(faults)


def test_nobody_has_touched_the_neighbour(world: World, before: str) -> None:
    """Runs after the matrix: all that its owner can list is what it was."""
    assert snapshot(world.neighbour) == before


def test_an_attempt_stands_in_the_trail_of_who_tried_only(world: World, before: str) -> None:
    owner, neighbour = world.neighbour.tenant.owner, world.neighbour
    paths = [f"/tenants/{neighbour.tenant.id}", *(f"/workspaces/{ws}" for ws in (neighbour.own, neighbour.sibling))]
    own = {key["id"] for path in paths for key in owner.get(f"{path}/keys", params={"limit": 200}).json()["items"]}
    own.add(world.installation.platform.get("/me").json()["principal"]["id"])
    actors = {event["actor"]["id"] for event in _events(neighbour, {}) if event["actor"]["type"] == "api_key"}
    assert actors <= own


def _ask(case: Case, grounds: Grounds, wire: Wire) -> Answer:
    headers, body = case.request(grounds)
    return wire.send(case.spec.method, case.target, key=case.actor.key, headers=headers, body=body)


def _differs(case: Case, answer: Answer) -> bool:
    return answer.status != case.verdict.status or bool(case.verdict.code and answer.code != case.verdict.code)


def _tellings(answers: Iterable[tuple[Case, Answer]]) -> list[str]:
    """Answers about another's things that differ from the answer about one that never was."""
    never = {(case.actor.name, case.varied): answer.essence for case, answer in answers if case.variant == "never"}
    return [
        f"{case}: {answer} tells it from one that never was"
        for case, answer in answers
        if case.verdict.absent and case.variant != "archived" and answer.essence != never[case.actor.name, case.varied]
    ]


def _has_read(case: Case, answer: Answer) -> bool:
    """Whether something of the tenant's was shown."""
    return case.spec.reads and answer.status == case.spec.status and case.spec.needs is not Mark.PUBLIC


def _unrecorded(asked: dict[str, str], grounds: Grounds, since: str, outcome: str = "") -> list[str]:
    """Requests whose event is not in the trail; the group commit takes a moment."""
    missing, query = dict(asked), {"since": since} | ({"outcome": outcome} if outcome else {})
    if len(asked) == 1:
        query["trace"] = next(iter(asked))
    deadline = time.monotonic() + 30
    while missing and time.monotonic() < deadline:
        for event in _events(grounds, query):
            missing.pop(event["trace_id"], None)
    return list(missing.values())


def _events(grounds: Grounds, query: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        parameters = query | {"limit": "200"} | ({"cursor": cursor} if cursor else {})
        page = grounds.tenant.owner.get("/audit", params=parameters).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
