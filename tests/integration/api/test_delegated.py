"""A key made for an agent is a part of what made it, at any moment, and passes on no more than that."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import problem
from tests.integration.api.test_denials import Robot
from tests.integration.api.test_roles import within_a_second

pytestmark = pytest.mark.xdist_group("api")


def _delegated(maker: httpx.Client, workspace: str, **fields: object) -> dict[str, Any]:
    body = {"name": f"agent {secrets.token_hex(3)}", "delegated": True, **fields}
    answer = maker.post(f"/workspaces/{workspace}/keys", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture
def human(acme: Tenant, dev: str) -> Robot:
    """Who makes keys for agents: an operator who may make keys."""
    robot = Robot(acme, dev)
    robot.bound("operator")
    slug = f"keys-{secrets.token_hex(4)}"
    acme.owner.post(f"/workspaces/{dev}/roles", json={"slug": slug, "permissions": ["key:admin", "key:read"]})
    robot.bound(slug)
    return robot


def test_an_agents_key_loses_what_its_human_loses(human: Robot, acme: Tenant, dev: str) -> None:
    key = _delegated(human.client, dev, roles=["viewer"], permissions=["job:create"])
    agent = acme.as_key(key["secret"])
    assert agent.post(f"{human.path}/jobs", json={"command": ["true"]}).status_code == 202
    denial = human.bound("ci", effect="deny")
    within_a_second(lambda: agent.post(f"{human.path}/jobs", json={"command": ["true"]}), 403)
    acme.owner.delete(f"{human.path}/bindings/{denial}")
    within_a_second(lambda: agent.post(f"{human.path}/jobs", json={"command": ["true"]}), 202)


def test_an_agents_key_gains_nothing_that_its_own_does_not_name(human: Robot, acme: Tenant, dev: str) -> None:
    agent = acme.as_key(_delegated(human.client, dev, roles=["viewer"])["secret"])
    refused = problem(agent.post(f"{human.path}/jobs", json={"command": ["true"]}), 403, "permission_missing")
    assert "not held here" in refused["detail"]
    human.bound("workspace-admin")
    problem(agent.post(f"{human.path}/jobs", json={"command": ["true"]}), 403, "permission_missing")


def test_what_an_agents_key_makes_is_narrower_still(human: Robot, acme: Tenant, dev: str) -> None:
    first = _delegated(human.client, dev, permissions=["key:admin", "key:read", "job:read", "workspace:read"])
    agent = acme.as_key(first["secret"])
    answer = agent.post(f"{human.path}/keys", json={"name": "more", "permissions": ["job:create"]})
    problem(answer, 403, "grant_exceeds_own")
    # Delegated without being asked for: an agent makes nothing else.
    made = agent.post(f"{human.path}/keys", json={"name": "less", "permissions": ["job:read"]}).json()
    assert (made["delegated"], made["parent"]) == (True, first["id"])
    child = acme.as_key(made["secret"])
    assert child.get(f"{human.path}/jobs").status_code == 200
    acme.owner.delete(f"{human.path}/keys/{first['id']}")
    within_a_second(lambda: child.get(f"{human.path}/jobs"), 401)


def test_an_agent_names_nobody_else_as_whom_it_acts(human: Robot, acme: Tenant, dev: str) -> None:
    first = _delegated(human.client, dev, permissions=["key:admin", "job:read"])
    body = {"name": "disguised", "permissions": ["job:read"], "service_account": human.id}
    problem(acme.as_key(first["secret"]).post(f"{human.path}/keys", json=body), 422, "delegated_for_another")


def test_an_agents_key_outlives_neither_its_parent_nor_leaves_its_networks(
    human: Robot, acme: Tenant, dev: str
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    parent = acme.key(
        dev,
        permissions=["key:admin", "job:read"],
        service_account=human.id,
        expires_at=soon.isoformat(),
        allowed_networks=["127.0.0.0/8"],
    )
    maker = acme.as_key(parent)
    later = (soon + timedelta(days=1)).isoformat()
    key = _delegated(maker, dev, permissions=["job:read"], expires_at=later)
    assert datetime.fromisoformat(key["expires_at"]) == soon
    assert key["allowed_networks"] == ["127.0.0.0/8"]
    body = {"name": "wide", "delegated": True, "permissions": ["job:read"], "allowed_networks": ["0.0.0.0/0"]}
    problem(maker.post(f"{human.path}/keys", json=body), 422, "network_too_wide")


def test_the_trail_names_the_whole_chain(human: Robot, acme: Tenant, dev: str) -> None:
    key = _delegated(human.client, dev, roles=["ci"])
    job = acme.as_key(key["secret"]).post(f"{human.path}/jobs", json={"command": ["true"]}).json()["id"]
    (event,) = acme.owner.get("/audit", params={"resource": job, "action": "job.created"}).json()["items"]
    assert event["actor"]["id"] == key["id"]
    assert event["actor"]["chain"] == [key["parent"], human.id]


def test_a_users_key_is_a_part_of_what_the_user_may_do(acme: Tenant, dev: str) -> None:
    """The owner's keys with roles end with the owner's own: here by a denial that another administrator makes."""
    admin = Robot(acme, dev)
    acme.owner.post(f"/tenants/{acme.id}/bindings", json={"principal": admin.id, "role": "tenant-admin"})
    key = acme.as_key(acme.key(dev, "operator"))
    workspace = acme.workspace(secrets.token_hex(4))
    assert key.get(f"/workspaces/{dev}/jobs").status_code == 200
    (owner,) = acme.owner.get(f"/tenants/{acme.id}/members").json()["items"]
    maker = acme.as_key(acme.key(None, service_account=admin.id))
    body = {"principal": owner["id"], "role": "viewer", "effect": "deny"}
    denial = maker.post(f"/workspaces/{dev}/bindings", json=body)
    assert denial.status_code == 201, denial.text
    within_a_second(lambda: key.get(f"/workspaces/{dev}/jobs"), 403)
    assert acme.owner.get(f"/workspaces/{workspace}/jobs").status_code == 200
    assert maker.delete(f"/workspaces/{dev}/bindings/{denial.json()['id']}").status_code == 204
    within_a_second(lambda: key.get(f"/workspaces/{dev}/jobs"), 200)
