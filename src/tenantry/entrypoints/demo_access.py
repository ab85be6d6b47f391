"""Scenes of the demo about who may do what: denials, agents, grants for a bounded time, and the installation's own."""

import time
from collections.abc import Callable
from typing import Final

import httpx

from tenantry.client.access_types import Grant
from tenantry.client.credentials import load
from tenantry.client.errors import ApiError
from tenantry.client.surface import Client
from tenantry.entrypoints.demo_cast import Cast, Party, Work, refusal_of
from tenantry.entrypoints.demo_stage import Stage

_SLEEP: Final = Work(command=("sleep", "60"))
_SHORT: Final = Work(command=("true",))
_SECOND: Final = 1.0
_LOOK_SECONDS: Final = 0.05


def rights(stage: Stage, cast: Cast) -> None:
    """Give an agent a part of what somebody may do, then deny that somebody something."""
    acme = cast.acme
    stage.scene("An agent never exceeds its human: a delegated key, and a denial")
    account = acme.owner.service_accounts.create(name=f"human {time.time_ns()}", workspace=acme.workspace)["id"]
    acme.owner.bindings.create(principal=account, role="workspace-admin", workspace=acme.workspace)
    with _acting(cast, acme, account) as human:
        key = human.keys.create(
            name="planner", roles=["viewer"], permissions=["job:create"], workspace=acme.workspace, delegated=True
        )
        with Client(url=cast.server.url, key=key["secret"]) as agent:
            stage.expect("the agent runs a job", held=_status_of(agent, acme) == "allowed")
            more = refusal_of(
                lambda: agent.keys.create(name="more", roles=["operator"], workspace=acme.workspace, delegated=True)
            )
            stage.expect_refusal("it makes itself a better key", more, status=403, code="permission_missing")
            denial = acme.owner.bindings.create(principal=account, role="ci", workspace=acme.workspace, effect="deny")[
                "id"
            ]
            stage.expect(
                "its human is denied jobs, and within a second so is the agent",
                held=_until(lambda: _status_of(agent, acme) == "permission_missing"),
            )
            told = human.explain(permission="job:create", workspace=acme.workspace)
            stage.expect("explain names the denial", held=told["by"] == denial, seen=told["reason"])
            lifted = refusal_of(lambda: human.bindings.delete(denial, workspace=acme.workspace))
            stage.expect_refusal("the human lifts it", lifted, status=403, code="grant_exceeds_own")


def grants(stage: Stage, cast: Cast) -> None:
    """Ask for a role, have it approved for less time, and end it while a job runs that nothing else allowed."""
    acme = cast.acme
    stage.scene("A role for a few minutes: asked for, approved for fewer, ended")
    account = acme.owner.service_accounts.create(name=f"on call {time.time_ns()}", workspace=acme.workspace)["id"]
    acme.owner.bindings.create(principal=account, role="viewer", workspace=acme.workspace)
    with _acting(cast, acme, account) as asking:
        stage.expect_refusal(
            "a viewer starts a job", refusal_of(lambda: _start(asking, acme)), status=403, code="permission_missing"
        )
        grant = asking.grants.request(acme.workspace, role="operator", minutes=30, reason="the nightly run hangs")
        own = refusal_of(lambda: asking.approvals.approve(acme.workspace, str(grant["approval"])))
        stage.expect_refusal("who asks approves", own, status=403, code="permission_missing")
        acme.owner.approvals.approve(acme.workspace, str(grant["approval"]), minutes=10)
        active = asking.grants.get(acme.workspace, grant["id"])
        stage.expect(
            "the owner approves 10 minutes of the 30, and the clock starts then",
            held=(active["status"], active["granted_minutes"]) == ("active", 10),
            seen=f"until {active['expires_at']}",
        )
        job = asking.jobs.create(acme.workspace, command=["sleep", "60"], limits=_SLEEP.limits)
        _until(lambda: acme.seen(job)["status"] == "running")
        acme.owner.grants.revoke(acme.workspace, grant["id"], reason="found it")
        ended = acme.ended(job, seconds=5)
        stage.expect(
            "ended, it takes the job along that nothing else allowed",
            held=(ended["status"], ended["reason"]) == ("cancelled", "grant_revoked"),
            seen=f"{ended['status']}: {ended['reason']}",
        )
        stage.expect("and the next one is refused", held=_until(lambda: _status_of(asking, acme) != "allowed"))
        history = acme.owner.grants.get(acme.workspace, grant["id"])
        stage.expect("its history stays", held=history["end_reason"] == "found it", seen=history["end_reason"])


def visit(stage: Stage, cast: Cast) -> None:
    """Let the installation's operator into globex for a moment, which globex grants, sees and ends."""
    globex = cast.globex
    stage.scene("The operator of the installation visits globex, by a grant of globex alone")
    with _visiting(cast, globex) as visitor:
        path = f"/workspaces/{globex.workspace}"
        before = visitor.get(f"{path}/jobs")
        stage.expect(
            "without one, nothing is shown", held=before.status_code == httpx.codes.FORBIDDEN, seen=_code(before)
        )
        asked: Grant = visitor.post(
            f"{path}/grants", json={"role": "viewer", "minutes": 10, "reason": "support case 4711"}
        ).json()
        globex.owner.approvals.approve(globex.workspace, str(asked["approval"]))
        stage.expect(
            "globex agrees, and its jobs are shown",
            held=_until(lambda: visitor.get(f"{path}/jobs").status_code == httpx.codes.OK),
        )
        refused = visitor.post(f"{path}/jobs", json={"command": ["true"]})
        stage.expect("but a viewer starts none", held=refused.status_code == httpx.codes.FORBIDDEN, seen=_code(refused))
        globex.owner.grants.revoke(globex.workspace, asked["id"])
        stage.expect(
            "globex ends it, and the door is shut within a second",
            held=_until(lambda: visitor.get(f"{path}/jobs").status_code == httpx.codes.FORBIDDEN),
        )
    events = list(globex.owner.audit.query(actor=str(asked["principal"]["id"]), limit=50))
    stage.expect("all of it stands in globex's own trail", held=bool(events), seen=f"{len(events)} events")


def _acting(cast: Cast, party: Party, account: str) -> Client:
    key = party.owner.keys.create(name="bound", roles=[], workspace=party.workspace, service_account=account)
    return Client(url=cast.server.url, key=key["secret"])


def _visiting(cast: Cast, party: Party) -> httpx.Client:
    """Open a client of the platform's key that names a tenant in each request."""
    headers = {"Authorization": f"Bearer {load(home=cast.home, environment={}).key}", "X-Tenant-Id": party.slug}
    return httpx.Client(base_url=f"{cast.server.url}/api/v1", headers=headers, timeout=30, trust_env=False)


def _start(client: Client, party: Party) -> None:
    client.jobs.create(party.workspace, command=list(_SHORT.command), limits=_SHORT.limits)


def _status_of(client: Client, party: Party) -> str:
    """Tell whether a job may be started, or why not."""
    try:
        _start(client, party)
    except ApiError as error:
        return error.code
    return "allowed"


def _code(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['code']}"


def _until(holds: Callable[[], bool]) -> bool:
    """Say whether it comes to hold within a second."""
    deadline = time.monotonic() + _SECOND
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return held
