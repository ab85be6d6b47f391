"""Denials and conditions: what is denied, or allowed for some things only, holds on every route that it concerns."""

import secrets
from typing import Any

import httpx
import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import problem
from tests.integration.api.test_roles import within_a_second

pytestmark = pytest.mark.xdist_group("api")


class Robot:
    """A service account of a workspace, with a key that holds nothing itself."""

    def __init__(self, tenant: Tenant, workspace: str) -> None:
        self.tenant, self.workspace, self.path = tenant, workspace, f"/workspaces/{workspace}"
        answer = tenant.owner.post(f"{self.path}/service-accounts", json={"name": secrets.token_hex(5)})
        self.id = str(answer.json()["id"])
        self.client = tenant.as_key(tenant.key(workspace, service_account=self.id))

    def bound(self, role: str, **fields: object) -> str:
        answer = self.tenant.owner.post(f"{self.path}/bindings", json={"principal": self.id, "role": role, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, **fields: object) -> httpx.Response:
        return self.client.post(f"{self.path}/jobs", json={"command": ["true"], **fields})


@pytest.fixture(scope="module")
def tiers(acme: Tenant) -> str:
    """A workspace with two environments."""
    workspace = acme.workspace(secrets.token_hex(4))
    for slug in ("dev", "prod"):
        acme.owner.post(f"/workspaces/{workspace}/environments", json={"slug": slug})
    return workspace


@pytest.fixture
def robot(acme: Tenant, tiers: str) -> Robot:
    return Robot(acme, tiers)


def test_a_denial_weighs_more_than_whatever_allows(robot: Robot, acme: Tenant) -> None:
    robot.bound("operator")
    robot.bound("viewer")
    assert robot.job().status_code == 202
    denial = robot.bound("ci", effect="deny")
    within_a_second(robot.job, 403)
    refused = problem(robot.job(), 403, "permission_missing")
    assert refused["denied_by"] == denial
    assert denial in refused["detail"]
    # What the denied role holds is gone, what only the other holds is not.
    assert robot.client.get(f"{robot.path}/jobs").status_code == 403
    assert robot.client.get(f"{robot.path}/images").status_code == 403
    assert robot.client.get(robot.path).status_code == 403
    assert acme.owner.delete(f"{robot.path}/bindings/{denial}").status_code == 204
    within_a_second(robot.job, 202)


def test_a_denial_in_a_workspace_takes_what_holds_in_the_whole_tenant(acme: Tenant, tiers: str) -> None:
    robot, other = Robot(acme, tiers), acme.workspace(secrets.token_hex(4))
    acme.owner.post(f"/tenants/{acme.id}/bindings", json={"principal": robot.id, "role": "viewer"})
    wide = acme.as_key(acme.key(None, service_account=robot.id))
    robot.bound("viewer", effect="deny")
    within_a_second(lambda: wide.get(f"/workspaces/{tiers}"), 403)
    assert wide.get(f"/workspaces/{other}").status_code == 200
    shown = {item["id"] for item in wide.get("/workspaces", params={"limit": 200}).json()["items"]}
    assert other in shown
    assert tiers not in shown


def test_nobody_lifts_their_own_denial(acme: Tenant, tiers: str) -> None:
    robot = Robot(acme, tiers)
    robot.bound("workspace-admin")
    denial = robot.bound("ci", effect="deny")
    answer = robot.client.delete(f"{robot.path}/bindings/{denial}")
    problem(answer, 403, "grant_exceeds_own")
    group = acme.owner.post(f"{robot.path}/groups", json={"name": secrets.token_hex(4)}).json()["id"]
    acme.owner.post(f"{robot.path}/groups/{group}/members", json={"principal": robot.id})
    acme.owner.post(f"{robot.path}/bindings", json={"principal": group, "role": "viewer", "effect": "deny"})
    for path in (f"groups/{group}/members/{robot.id}", f"groups/{group}"):
        problem(robot.client.delete(f"{robot.path}/{path}"), 403, "grant_exceeds_own")


def test_nobody_denies_anything_to_who_holds_more(acme: Tenant, tiers: str) -> None:
    admin = Robot(acme, tiers)
    admin.bound("workspace-admin")
    (owner,) = acme.owner.get(f"/tenants/{acme.id}/members").json()["items"]
    body = {"principal": owner["id"], "role": "viewer", "effect": "deny"}
    problem(admin.client.post(f"{admin.path}/bindings", json=body), 403, "denies_the_mightier")
    assert acme.owner.get(f"/workspaces/{tiers}").status_code == 200


def test_a_binding_under_a_condition_counts_for_that_environment_alone(robot: Robot) -> None:
    robot.bound("viewer")
    robot.bound("ci", condition={"environments": ["dev"]})
    problem(robot.job(), 403, "permission_missing")
    problem(robot.job(environment="prod"), 403, "permission_missing")
    made = robot.job(environment="dev")
    assert made.status_code == 202
    job = made.json()["id"]
    assert made.json()["environment"] == "dev"
    assert robot.client.post(f"{robot.path}/jobs/{job}/cancel").status_code == 200
    owner = robot.tenant.owner.post(f"{robot.path}/jobs", json={"command": ["true"], "environment": "prod"}).json()
    problem(robot.client.post(f"{robot.path}/jobs/{owner['id']}/cancel"), 403, "permission_missing")
    assert robot.client.get(f"{robot.path}/jobs/{owner['id']}").status_code == 200


def test_a_denial_under_a_condition_holds_on_every_route_to_the_thing(robot: Robot) -> None:
    robot.bound("operator")
    robot.bound("operator", effect="deny", condition={"labels": {"tier": ["gold"]}})
    job = robot.tenant.owner.post(f"{robot.path}/jobs", json={"command": ["true"], "labels": {"tier": "gold"}}).json()
    plain = robot.job(labels={"tier": "tin"})
    assert plain.status_code == 202
    problem(robot.job(labels={"tier": "gold"}), 403, "permission_missing")
    for rest in ("", "/receipt", "/logs?follow=false", "/logs", "/artifacts"):
        answer = robot.client.get(f"{robot.path}/jobs/{job['id']}{rest}")
        problem(answer, 403, "permission_missing")
        shown = robot.client.get(f"{robot.path}/jobs/{plain.json()['id']}{rest}")
        assert shown.status_code in (200, 404), rest
    problem(robot.client.post(f"{robot.path}/jobs/{job['id']}/cancel"), 403, "permission_missing")


def test_a_list_that_might_show_what_is_denied_is_refused_and_says_why(robot: Robot) -> None:
    robot.bound("operator")
    denial = robot.bound("operator", effect="deny", condition={"environments": ["prod"]})
    refused = problem(robot.client.get(f"{robot.path}/jobs"), 403, "permission_missing")
    assert "depends here on environment or labels" in refused["detail"]
    assert denial in refused["detail"]


def test_nothing_is_kept_of_what_was_allowed_under_a_condition_that_nobody_looked_at(robot: Robot) -> None:
    """A key is of no environment: the route cannot tell, so it is refused, and no key is there afterwards."""
    robot.bound("viewer")
    robot.bound("workspace-admin", condition={"environments": ["dev"]})
    before = len(robot.tenant.owner.get(f"{robot.path}/keys", params={"limit": 200}).json()["items"])
    answer = robot.client.post(f"{robot.path}/keys", json={"name": "sneaky", "roles": ["viewer"]})
    problem(answer, 403, "permission_missing")
    assert len(robot.tenant.owner.get(f"{robot.path}/keys", params={"limit": 200}).json()["items"]) == before
    problem(robot.client.post(f"{robot.path}/service-accounts", json={"name": "x"}), 403, "permission_missing")


def test_a_condition_on_the_path_narrows_a_binding_of_the_whole_tenant(acme: Tenant) -> None:
    team = secrets.token_hex(4)
    inside = acme.workspace("in", path=f"teams/{team}/prod", owner={"type": "team", "id": team})
    outside = acme.workspace("out", path=f"teams/{team}x/prod", owner={"type": "team", "id": f"{team}x"})
    robot = Robot(acme, inside)
    body = {"principal": robot.id, "role": "viewer", "condition": {"paths": [f"teams/{team}"]}}
    assert acme.owner.post(f"/tenants/{acme.id}/bindings", json=body).status_code == 201
    wide = acme.as_key(acme.key(None, service_account=robot.id))
    assert wide.get(f"/workspaces/{inside}/jobs").status_code == 200
    problem(wide.get(f"/workspaces/{outside}/jobs"), 403, "permission_missing")
    shown = [item["id"] for item in wide.get("/workspaces", params={"limit": 200}).json()["items"]]
    assert shown == [inside]


def test_explain_says_what_a_condition_depends_on(robot: Robot) -> None:
    binding = robot.bound("ci", condition={"environments": ["dev"], "labels": {"tier": ["tin"]}})

    def asked(**fields: Any) -> dict[str, Any]:
        body = {"permission": "job:create", "workspace": robot.workspace, **fields}
        told: dict[str, Any] = robot.client.post("/explain", json=body).json()
        return told

    open_question = asked()
    assert (open_question["decision"], open_question["depends_on"]) == ("deny", ["environment", "labels"])
    allowed = asked(environment="dev", labels={"tier": "tin"})
    assert (allowed["decision"], allowed["by"], allowed["depends_on"]) == ("allow", binding, [])
    assert "environment dev" in allowed["reason"]
    assert asked(environment="prod", labels={"tier": "tin"})["decision"] == "deny"


@pytest.mark.parametrize(
    "condition",
    [
        {"environments": ["../x"]},
        {"labels": {"tier": []}},
        {"labels": {"Tier!": ["a"]}},
        {"paths": ["/etc"]},
        {"paths": ["a//b"]},
        {"hours": "night"},
    ],
)
def test_a_condition_that_can_mean_nothing_is_refused(condition: dict[str, object], robot: Robot) -> None:
    body = {"principal": robot.id, "role": "viewer", "condition": condition}
    problem(robot.tenant.owner.post(f"{robot.path}/bindings", json=body), 422, "invalid_request")


def test_an_environment_that_is_not_there_is_refused(robot: Robot) -> None:
    robot.bound("operator")
    problem(robot.job(environment="nowhere"), 422, "environment_unknown")
