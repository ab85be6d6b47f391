"""What a grant alone allowed ends with it, within a second: running and waiting jobs, open streams."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from tests.integration.api.conftest import ShiftedClock
from tests.integration.api.deciding import Principal, principal
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, Json

from tenantry.capabilities.access.service import hold_grant
from tenantry.entrypoints.due import DueRound, make_due_round
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

pytestmark = pytest.mark.xdist_group("sandboxes")


@pytest.fixture
def granted(make_ground: MakeGround) -> Ground:
    return make_ground()


def given(ground: Ground, who: Principal, role: str = "operator", **fields: object) -> Json:
    body = {"role": role, "reason": "on call", "principal": who.id, **fields}
    answer = ground.tenant.owner.post(f"/workspaces/{ground.workspace}/grants", json=body)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


def end(ground: Ground, grant: Json) -> float:
    """Revoke it; tell when that was done."""
    path = f"/workspaces/{ground.workspace}/grants/{grant['id']}/revoke"
    assert ground.tenant.owner.post(path, json={"reason": "over"}).status_code == 200
    return time.monotonic()


def running(ground: Ground, who: Principal) -> str:
    """Start a job that stays, and wait until it runs."""
    job_id = Ground(ground.tenant, ground.workspace, who.client).start("sh", "-c", "echo begun; sleep 60")
    ground.until_status(job_id, "running")
    return job_id


def test_a_running_job_that_the_grant_alone_allowed_ends_within_a_second(granted: Ground) -> None:
    who = principal(granted.tenant, granted.workspace, "viewer")
    grant = given(granted, who)
    job_id = running(granted, who)
    ended_at = end(granted, grant)
    job = granted.until_status(job_id, "cancelled", seconds=1)
    assert time.monotonic() - ended_at < 1
    assert job["reason"] == "grant_revoked"


def test_a_waiting_job_never_begins(granted: Ground) -> None:
    who = principal(granted.tenant, granted.workspace, "viewer")
    grant = given(granted, who)
    theirs = Ground(granted.tenant, granted.workspace, who.client)
    jobs = [theirs.start("sleep", "60") for _ in range(20)]
    end(granted, grant)
    for job_id in jobs:
        job = granted.until_status(job_id, "cancelled", seconds=2)
        assert job["reason"] == "grant_revoked"


def test_what_something_else_allows_goes_on(granted: Ground) -> None:
    who = principal(granted.tenant, granted.workspace, "viewer")
    first, second = given(granted, who), given(granted, who, "workspace-admin")
    bound = principal(granted.tenant, granted.workspace)
    path = f"/workspaces/{granted.workspace}/bindings"
    assert granted.tenant.owner.post(path, json={"principal": bound.id, "role": "ci"}).status_code == 201
    lasting = given(granted, bound)
    jobs = [running(granted, who), running(granted, bound)]
    for grant in (first, lasting):
        end(granted, grant)
    other = principal(granted.tenant, granted.workspace, "viewer")
    control = given(granted, other)
    stopped = running(granted, other)
    end(granted, control)
    granted.until_status(stopped, "cancelled", seconds=2)
    assert [granted.job(job_id)["status"] for job_id in jobs] == ["running", "running"]
    end(granted, second)
    assert granted.until_status(jobs[0], "cancelled", seconds=2)["reason"] == "grant_revoked"
    assert granted.job(jobs[1])["status"] == "running", "a binding allows it as well"
    granted.cancel(jobs[1])


def test_a_job_ends_with_the_grant_that_alone_allowed_its_secrets(granted: Ground) -> None:
    """Also where something lasting allows jobs; one without secrets goes on."""
    body = {"name": "TOKEN", "value": "of no interest"}
    assert granted.client.post(f"/workspaces/{granted.workspace}/secrets", json=body).status_code == 201
    who = principal(granted.tenant, granted.workspace)
    bound = {"principal": who.id, "role": "ci"}
    assert granted.tenant.owner.post(f"/workspaces/{granted.workspace}/bindings", json=bound).status_code == 201
    theirs, used = Ground(granted.tenant, granted.workspace, who.client), [{"name": "TOKEN"}]
    assert theirs.post("true", secrets=used).status_code == 403, "the control: ci does not use secrets"
    grant = given(granted, who)
    job_id = theirs.start("sh", "-c", "echo begun; sleep 60", secrets=used)
    granted.until_status(job_id, "running")
    other = running(granted, who)
    end(granted, grant)
    assert granted.until_status(job_id, "cancelled", seconds=2)["reason"] == "grant_revoked"
    assert granted.job(other)["status"] == "running"
    granted.cancel(other)


def test_what_a_denial_forbids_by_then_does_not_go_on(granted: Ground) -> None:
    who = principal(granted.tenant, granted.workspace)
    path = f"/workspaces/{granted.workspace}/bindings"
    assert granted.tenant.owner.post(path, json={"principal": who.id, "role": "viewer"}).status_code == 201
    grant = given(granted, who)
    job_id = running(granted, who)
    assert granted.tenant.owner.post(path, json={"principal": who.id, "role": "ci"}).status_code == 201
    denial = {"principal": who.id, "role": "ci", "effect": "deny"}
    assert granted.tenant.owner.post(path, json=denial).status_code == 201
    end(granted, grant)
    granted.until_status(job_id, "cancelled", seconds=2)


def test_an_open_stream_ends_within_a_second(granted: Ground) -> None:
    owner = Ground(granted.tenant, granted.workspace, granted.tenant.owner)
    job_id = owner.start("sh", "-c", "echo begun; sleep 60")
    who = principal(granted.tenant, granted.workspace)
    grant = given(granted, who, "viewer")
    with who.client.stream("GET", f"{granted.jobs}/{job_id}/logs", timeout=10) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if "begun" in line)
        ended_at = end(granted, grant)
        assert any(line == "event: refused" for line in lines)
    assert time.monotonic() - ended_at < 1
    granted.cancel(job_id)


async def test_no_job_slips_through_between_its_permission_and_its_commit(granted: Ground) -> None:
    """However a revocation falls into the creation of jobs: afterwards none of them runs or waits."""
    who = principal(granted.tenant, granted.workspace, "viewer")
    grant = given(granted, who)

    def create() -> httpx.Response:
        return who.client.post(granted.jobs, json={"command": ["sleep", "60"]})

    creating = [asyncio.create_task(asyncio.to_thread(create)) for _ in range(24)]
    await asyncio.sleep(0)
    await asyncio.to_thread(end, granted, grant)
    answers = await asyncio.gather(*creating)
    assert {answer.status_code for answer in answers} <= {202, 403}
    made = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    for job_id in made:
        await asyncio.to_thread(granted.until_status, job_id, "cancelled", seconds=3)


async def test_whoever_ends_a_grant_waits_for_what_is_being_begun_by_it(granted: Ground) -> None:
    who = principal(granted.tenant, granted.workspace, "viewer")
    grant_id = parse_id(Prefix.GRANT, (grant := given(granted, who))["id"])
    scope = TenantScope(tenant_id=granted.tenant_id, region="us", actor=SYSTEM)
    async with open_parts(granted.installation.settings, regions=("us",)) as parts:
        async with parts.cells.session(scope) as session:
            await hold_grant(session, grant_id, now=parts.clock.now())
            ending = asyncio.create_task(asyncio.to_thread(end, granted, grant))
            done, _ = await asyncio.wait({ending}, timeout=0.5)
            assert not done
        await ending
        async with parts.cells.session(scope) as session:
            with pytest.raises(Denied, match="has just ended"):
                await hold_grant(session, grant_id, now=parts.clock.now())


@pytest.fixture
async def due(granted: Ground) -> AsyncIterator[tuple[DueRound, ShiftedClock]]:
    """A round beside those of the server, with a clock to turn."""
    clock = ShiftedClock()
    async with open_parts(granted.installation.settings, regions=("us",)) as opened:
        parts = replace(opened, clock=clock)
        cell = parts.cells.get("us")
        await cell.link.start()
        due_round = make_due_round(parts, cell)
        yield due_round, clock
        await due_round.rounds.close()


def told(ground: Ground, action: str) -> int:
    """How often the trail tells of it."""
    return len(ground.audit(action=action))


async def test_a_server_that_was_down_finds_what_became_due(
    granted: Ground, due: tuple[DueRound, ShiftedClock]
) -> None:
    """Told before its end, ended after it, each once, by a round that has seen nothing of it before."""
    due_round, clock = due
    who = principal(granted.tenant, granted.workspace, "viewer")
    grant = given(granted, who, minutes=60)
    asked = who.client.post(f"/workspaces/{granted.workspace}/grants", json={"role": "operator", "reason": "r"}).json()
    job_id = await asyncio.to_thread(running, granted, who)
    for ahead in (timedelta(minutes=56), timedelta(minutes=61), timedelta(hours=25)):
        clock.ahead = ahead
        for _ in range(2):
            await due_round.go_round()
    shown = granted.tenant.owner.get(f"/workspaces/{granted.workspace}/grants/{grant['id']}").json()
    assert (shown["status"], shown["end_reason"], shown["ended_at"]) == ("expired", "time_over", shown["expires_at"])
    waited = granted.tenant.owner.get(f"/workspaces/{granted.workspace}/grants/{asked['id']}").json()
    assert (waited["status"], waited["end_reason"], waited["active_at"]) == ("expired", "nobody_approved", None)
    approval = granted.tenant.owner.get(f"/workspaces/{granted.workspace}/approvals/{asked['approval']}").json()
    assert (approval["status"], approval["escalated_at"] is not None) == ("expired", False)
    job = await asyncio.to_thread(granted.until_status, job_id, "cancelled", seconds=2)
    assert job["reason"] == "grant_expired"
    assert shown["version"] == 4, "made, activated, told of its end, ended: each once"
    assert (told(granted, "grant.activated"), told(granted, "grant.expired")) == (1, 2)


async def test_many_rounds_at_once_share_the_work(granted: Ground, due: tuple[DueRound, ShiftedClock]) -> None:
    due_round, clock = due
    who = principal(granted.tenant, granted.workspace, "viewer")
    for _ in range(8):
        given(granted, who, minutes=1)
    clock.ahead = timedelta(minutes=2)
    await asyncio.gather(*(due_round.go_round() for _ in range(4)), return_exceptions=True)
    await due_round.go_round()
    assert (told(granted, "grant.activated"), told(granted, "grant.expired")) == (8, 8)


async def test_the_round_says_when_to_look_again(granted: Ground, due: tuple[DueRound, ShiftedClock]) -> None:
    due_round, clock = due
    clock.ahead = timedelta(days=400)
    await due_round.go_round()  # others' grants of this installation are over by then
    clock.ahead = timedelta()
    assert await due_round.go_round() == 60
    given(granted, principal(granted.tenant, granted.workspace, "viewer"), minutes=6)
    clock.ahead = timedelta(seconds=40)
    assert 10 < await due_round.go_round() < 21, "the notice is five minutes before the end"
