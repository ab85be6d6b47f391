"""Bindings change what a key without roles may do, everywhere within a second."""

import time

import httpx
import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import Beside, problem

pytestmark = pytest.mark.xdist_group("api")


def _bound_key(tenant: Tenant, workspace: str | None, home: str) -> tuple[str, str]:
    """A service account of `home`, and a key of it that holds nothing itself, in one workspace or the whole tenant."""
    body = {"name": f"robot {time.monotonic_ns()}"}
    account = tenant.owner.post(f"/workspaces/{home}/service-accounts", json=body).json()["id"]
    return account, tenant.key(workspace, service_account=account)


def _bind(tenant: Tenant, path: str, account: str, role: str) -> str:
    answer = tenant.owner.post(f"{path}/bindings", json={"principal": account, "role": role})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_a_key_without_roles_does_what_its_principal_is_bound_to_within_a_second(
    acme: Tenant, dev: str, beside: Beside
) -> None:
    account, key = _bound_key(acme, dev, dev)
    here, path = acme.as_key(key), f"/workspaces/{dev}"
    async with beside.client(key) as there:

        async def both(status: int, method: str = "GET", rest: str = "/jobs") -> None:
            at = time.monotonic()
            body = {"command": ["true"]} if method == "POST" else None
            while True:
                found = {
                    here.request(method, path + rest, json=body).status_code,
                    (await there.request(method, path + rest, json=body)).status_code,
                }
                if found == {status}:
                    return
                assert time.monotonic() - at < 1, found

        await both(404)
        viewer = _bind(acme, path, account, "viewer")
        await both(200)
        await both(403, "POST")
        ci = _bind(acme, path, account, "ci")
        await both(202, "POST")
        assert acme.owner.delete(f"{path}/bindings/{ci}").status_code == 204
        await both(403, "POST")
        assert acme.owner.delete(f"{path}/bindings/{viewer}").status_code == 204
        await both(404)


def test_a_tenants_key_sees_the_workspaces_of_its_principal_and_no_others(acme: Tenant, dev: str) -> None:
    other = acme.workspace(f"other {time.monotonic_ns()}")
    account, key = _bound_key(acme, None, dev)
    client = acme.as_key(key)
    assert client.get("/me").json()["workspaces"] == []
    _bind(acme, f"/workspaces/{dev}", account, "viewer")
    assert [workspace["id"] for workspace in client.get("/workspaces").json()["items"]] == [dev]
    problem(client.get(f"/workspaces/{other}"), 404, "not_found")
    _bind(acme, f"/tenants/{acme.id}", account, "auditor")
    assert client.get(f"/workspaces/{other}").status_code == 200
    problem(client.delete(f"/workspaces/{other}"), 403, "permission_missing")


def test_a_role_is_bound_once_and_listed_where_it_holds(acme: Tenant, dev: str) -> None:
    account, _ = _bound_key(acme, dev, dev)
    path = f"/workspaces/{dev}"
    binding = _bind(acme, path, account, "viewer")
    body = {"principal": account, "role": "viewer"}
    problem(acme.owner.post(f"{path}/bindings", json=body), 409, "binding_exists")
    in_workspace = {item["id"] for item in acme.owner.get(f"{path}/bindings", params={"limit": 200}).json()["items"]}
    in_tenant = {item["id"] for item in acme.owner.get(f"/tenants/{acme.id}/bindings").json()["items"]}
    assert binding in in_workspace
    assert binding not in in_tenant
    problem(acme.owner.delete(f"/tenants/{acme.id}/bindings/{binding}"), 404, "not_found")
    assert acme.owner.delete(f"{path}/bindings/{binding}").status_code == 204
    problem(acme.owner.delete(f"{path}/bindings/{binding}"), 404, "not_found")


def test_nobody_binds_more_than_they_hold(acme: Tenant, dev: str) -> None:
    account, _ = _bound_key(acme, dev, dev)
    maker = acme.as_key(acme.key(dev, permissions=["role:admin"]))
    for role in ("viewer", "operator", "workspace-admin"):
        answer = maker.post(f"/workspaces/{dev}/bindings", json={"principal": account, "role": role})
        problem(answer, 403, "grant_exceeds_own")
    admin = acme.as_role("workspace-admin", dev)
    answer = admin.post(f"/workspaces/{dev}/bindings", json={"principal": account, "role": "workspace-admin"})
    assert answer.status_code == 201
    for client, role, status, code in (
        (admin, "tenant-admin", 422, "role_not_for_workspace"),
        (acme.owner, "tenant-admin", 422, "role_not_for_workspace"),
        (acme.owner, "root", 422, "role_unknown"),
    ):
        answer = client.post(f"/workspaces/{dev}/bindings", json={"principal": account, "role": role})
        problem(answer, status, code)
    answer = acme.owner.post(f"/tenants/{acme.id}/bindings", json={"principal": account, "role": "platform-admin"})
    problem(answer, 403, "grant_exceeds_own")


@pytest.mark.parametrize(
    "principal", ["", "nobody", "usr_", "svc_" + "0" * 26, "usr_" + "0" * 26, "key_" + "0" * 26, "tenantry"]
)
def test_who_is_no_principal_is_not_found(principal: str, acme: Tenant, dev: str) -> None:
    answer = acme.owner.post(f"/workspaces/{dev}/bindings", json={"principal": principal, "role": "viewer"})
    problem(answer, 404, "not_found")


def test_the_roles_of_a_place_are_those_that_can_be_bound_there(acme: Tenant, dev: str) -> None:
    def slugs(path: str) -> set[str]:
        # Other tests may have given the tenant roles of its own.
        return {str(role["slug"]) for role in _items(acme.owner, f"{path}/roles") if role["built_in"]}

    in_workspace, in_tenant = slugs(f"/workspaces/{dev}"), slugs(f"/tenants/{acme.id}")
    assert in_tenant - in_workspace == {"tenant-admin"}
    assert "platform-admin" not in in_tenant
    assert len(in_workspace) == 8


def _items(client: httpx.Client, path: str) -> list[dict[str, object]]:
    items: list[dict[str, object]] = client.get(path).json()["items"]
    return items
