"""Roles and groups of a tenant's own: what they give, who may make them, and that they go as fast as they come."""

import secrets
import time
from collections.abc import Callable

import httpx
import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import Beside, own_details, problem

pytestmark = pytest.mark.xdist_group("api")


def _name(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(5)}"


def _account(tenant: Tenant, workspace: str) -> str:
    answer = tenant.owner.post(f"/workspaces/{workspace}/service-accounts", json={"name": _name("robot")})
    return str(answer.json()["id"])


def _role(tenant: Tenant, path: str, *permissions: str) -> str:
    slug = _name("role")
    answer = tenant.owner.post(f"{path}/roles", json={"slug": slug, "permissions": list(permissions)})
    assert answer.status_code == 201, answer.text
    return slug


def _made(tenant: Tenant, path: str, body: dict[str, object]) -> str:
    answer = tenant.owner.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json().get("id"))


def within_a_second(ask: Callable[[], httpx.Response], status: int) -> None:
    at = time.monotonic()
    while (answer := ask()).status_code != status:
        assert time.monotonic() - at < 1, answer.text


def test_a_role_of_ones_own_gives_what_it_holds_and_nothing_else(acme: Tenant, dev: str) -> None:
    path, account = f"/workspaces/{dev}", _account(acme, dev)
    slug = _role(acme, f"/tenants/{acme.id}", "job:read", "sandbox:read")
    _made(acme, f"{path}/bindings", {"principal": account, "role": slug})
    client = acme.as_key(acme.key(dev, service_account=account))
    assert client.get(f"{path}/jobs").status_code == 200
    problem(client.post(f"{path}/jobs", json={"command": ["true"]}), 403, "permission_missing")
    problem(client.get(f"{path}/images"), 403, "permission_missing")
    changed = acme.owner.patch(f"/tenants/{acme.id}/roles/{slug}", json={"permissions": ["sandbox:read", "image:read"]})
    assert changed.json()["version"] == 2
    within_a_second(lambda: client.get(f"{path}/images"), 200)
    within_a_second(lambda: client.get(f"{path}/jobs"), 403)


async def test_a_change_of_a_role_reaches_another_process_within_a_second(
    acme: Tenant, dev: str, beside: Beside
) -> None:
    path, account = f"/workspaces/{dev}", _account(acme, dev)
    slug = _role(acme, path, "job:read")
    _made(acme, f"{path}/bindings", {"principal": account, "role": slug})
    async with beside.client(acme.key(dev, service_account=account)) as there:
        assert (await there.get(f"{path}/jobs")).status_code == 200
        assert acme.owner.patch(f"{path}/roles/{slug}", json={"permissions": ["image:read"]}).status_code == 200
        at = time.monotonic()
        while (answer := await there.get(f"{path}/jobs")).status_code != 403:
            assert time.monotonic() - at < 1, answer.text


@pytest.mark.parametrize(
    ("slug", "permissions", "code"),
    [
        ("Viewer2", ["job:read"], "role_slug_invalid"),
        ("-x", ["job:read"], "role_slug_invalid"),
        ("x" * 41, ["job:read"], "role_slug_invalid"),
        ("fine", ["job:*"], "permission_unknown"),
        ("fine", ["job:create"], "role_incomplete"),
        ("fine", ["job:create", "sandbox:read", "workflow:create", "deployment:apply"], "role_incomplete"),
        ("fine", [], "invalid_request"),
    ],
)
def test_a_role_that_makes_no_sense_is_refused_where_it_is_defined(
    slug: str, permissions: list[str], code: str, acme: Tenant
) -> None:
    body = {"slug": slug, "permissions": permissions}
    problem(acme.owner.post(f"/tenants/{acme.id}/roles", json=body), 422, code)


def test_what_is_built_in_is_neither_defined_again_nor_changed_nor_deleted(acme: Tenant, dev: str) -> None:
    for path in (f"/tenants/{acme.id}", f"/workspaces/{dev}"):
        body = {"slug": "viewer", "permissions": ["job:read"]}
        problem(acme.owner.post(f"{path}/roles", json=body), 409, "role_exists")
        problem(acme.owner.patch(f"{path}/roles/viewer", json={"permissions": ["job:read"]}), 404, "not_found")
        problem(acme.owner.delete(f"{path}/roles/viewer"), 404, "not_found")
        assert acme.owner.get(f"{path}/roles/viewer").json()["built_in"] is True


def test_nobody_defines_more_than_they_hold(acme: Tenant, dev: str) -> None:
    maker = acme.as_key(acme.key(dev, permissions=["role:admin", "role:read", "job:read"]))
    body = {"slug": _name("role"), "permissions": ["job:read", "image:read"]}
    problem(maker.post(f"/workspaces/{dev}/roles", json=body), 403, "grant_exceeds_own")
    own = {"slug": _name("role"), "permissions": ["job:read"]}
    assert maker.post(f"/workspaces/{dev}/roles", json=own).status_code == 201
    slug = _role(acme, f"/workspaces/{dev}", "image:read")
    change = maker.patch(f"/workspaces/{dev}/roles/{slug}", json={"permissions": ["job:read"]})
    problem(change, 403, "grant_exceeds_own")


def test_nothing_of_the_installation_or_the_whole_tenant_gets_into_a_workspaces_role(acme: Tenant, dev: str) -> None:
    body = {"slug": _name("role"), "permissions": ["tenant:admin"]}
    answer = acme.owner.post(f"/workspaces/{dev}/roles", json=body)
    problem(answer, 422, "permission_not_for_role")
    body = {"slug": _name("role"), "permissions": ["platform:admin"]}
    problem(acme.owner.post(f"/tenants/{acme.id}/roles", json=body), 403, "grant_exceeds_own")


def test_a_workspaces_role_is_bound_there_alone(acme: Tenant, dev: str) -> None:
    other = acme.workspace(_name("other"))
    slug = _role(acme, f"/workspaces/{dev}", "job:read")
    account = _account(acme, other)
    body = {"principal": account, "role": slug}
    problem(acme.owner.post(f"/workspaces/{other}/bindings", json=body), 422, "role_unknown")
    problem(acme.owner.post(f"/tenants/{acme.id}/bindings", json=body), 422, "role_unknown")
    problem(acme.owner.get(f"/workspaces/{other}/roles/{slug}"), 404, "not_found")
    listed = {role["slug"] for role in acme.owner.get(f"/workspaces/{other}/roles").json()["items"]}
    assert slug not in listed


def test_a_role_that_somebody_has_is_not_deleted(acme: Tenant, dev: str) -> None:
    path = f"/workspaces/{dev}"
    bound, held, free = (_role(acme, path, "job:read") for _ in range(3))
    binding = _made(acme, f"{path}/bindings", {"principal": _account(acme, dev), "role": bound})
    acme.key(dev, held)
    problem(acme.owner.delete(f"{path}/roles/{bound}"), 409, "role_in_use")
    problem(acme.owner.delete(f"{path}/roles/{held}"), 409, "role_in_use")
    assert acme.owner.delete(f"{path}/roles/{free}").status_code == 204
    assert acme.owner.delete(f"{path}/bindings/{binding}").status_code == 204
    assert acme.owner.delete(f"{path}/roles/{bound}").status_code == 204


def test_a_role_is_changed_from_the_version_that_was_read(acme: Tenant, dev: str) -> None:
    slug, path = _role(acme, f"/workspaces/{dev}", "job:read"), f"/workspaces/{dev}/roles"
    etag = acme.owner.get(f"{path}/{slug}").headers["etag"]
    body = {"description": "reads"}
    assert acme.owner.patch(f"{path}/{slug}", json=body, headers={"If-Match": etag}).status_code == 200
    problem(acme.owner.patch(f"{path}/{slug}", json=body, headers={"If-Match": etag}), 412, "version_mismatch")


def test_a_group_gives_its_members_what_it_is_bound_to(acme: Tenant, dev: str) -> None:
    account = _account(acme, dev)
    group = _made(acme, f"/tenants/{acme.id}/groups", {"name": _name("group")})
    _made(acme, f"/workspaces/{dev}/bindings", {"principal": group, "role": "viewer"})
    client = acme.as_key(acme.key(dev, service_account=account))
    problem(client.get(f"/workspaces/{dev}/jobs"), 404, "not_found")
    members = f"/tenants/{acme.id}/groups/{group}/members"
    assert acme.owner.post(members, json={"principal": account}).status_code == 201
    within_a_second(lambda: client.get(f"/workspaces/{dev}/jobs"), 200)
    problem(acme.owner.post(members, json={"principal": account}), 409, "member_exists")
    told = acme.owner.post("/explain", json={"permission": "job:read", "workspace": dev, "principal": account}).json()
    assert told["decision"] == "allow"
    assert "of a group" in told["reason"]
    assert [member["principal"]["id"] for member in acme.owner.get(members).json()["items"]] == [account]
    assert acme.owner.delete(f"{members}/{account}").status_code == 204
    within_a_second(lambda: client.get(f"/workspaces/{dev}/jobs"), 404)
    problem(acme.owner.delete(f"{members}/{account}"), 404, "not_found")


def test_nobody_lets_in_who_would_get_more_than_they_hold(acme: Tenant, dev: str) -> None:
    account = _account(acme, dev)
    group = _made(acme, f"/workspaces/{dev}/groups", {"name": _name("group")})
    _made(acme, f"/workspaces/{dev}/bindings", {"principal": group, "role": "workspace-admin"})
    maker = acme.as_key(acme.key(dev, permissions=["member:admin", "member:read"]))
    answer = maker.post(f"/workspaces/{dev}/groups/{group}/members", json={"principal": account})
    problem(answer, 403, "grant_exceeds_own")


def test_a_deleted_group_takes_its_bindings_along(acme: Tenant, dev: str) -> None:
    account, place = _account(acme, dev), f"/workspaces/{dev}"
    group = _made(acme, f"{place}/groups", {"name": _name("group")})
    acme.owner.post(f"{place}/groups/{group}/members", json={"principal": account})
    _made(acme, f"{place}/bindings", {"principal": group, "role": "viewer"})
    client = acme.as_key(acme.key(dev, service_account=account))
    assert client.get(f"{place}/jobs").status_code == 200
    assert acme.owner.delete(f"{place}/groups/{group}").status_code == 204
    within_a_second(lambda: client.get(f"{place}/jobs"), 404)


def test_what_a_group_is_bound_to_in_one_workspace_counts_nowhere_else(acme: Tenant, dev: str) -> None:
    other = acme.workspace(_name("other"))
    group = _made(acme, f"/workspaces/{dev}/groups", {"name": _name("group")})
    body = {"principal": group, "role": "viewer"}
    problem(acme.owner.post(f"/workspaces/{other}/bindings", json=body), 404, "not_found")
    problem(acme.owner.post(f"/tenants/{acme.id}/bindings", json=body), 404, "not_found")


def test_effective_permissions_name_what_they_rest_on(acme: Tenant, dev: str) -> None:
    account = _account(acme, dev)
    binding = _made(acme, f"/workspaces/{dev}/bindings", {"principal": account, "role": "viewer"})
    found = acme.owner.get(f"/workspaces/{dev}/permissions", params={"principal": account}).json()
    assert {item["permission"]: item["by"] for item in found["permissions"]}["job:read"] == binding
    viewer = acme.owner.get("/workspaces/" + dev + "/roles/viewer").json()["permissions"]
    assert [item["permission"] for item in found["permissions"]] == sorted(viewer, key=_order(found))
    assert acme.owner.get(f"/tenants/{acme.id}/permissions", params={"principal": account}).status_code == 200
    narrow = acme.as_key(acme.key(dev, "operator"))
    problem(narrow.get(f"/workspaces/{dev}/permissions", params={"principal": account}), 403, "permission_missing")


def test_a_workspace_lists_who_is_bound_there(acme: Tenant) -> None:
    workspace = acme.workspace(_name("listed"))
    first, second = sorted(_account(acme, workspace) for _ in range(2))
    path = f"/workspaces/{workspace}"
    for principal, role, effect in ((first, "viewer", "allow"), (first, "ci", "allow"), (second, "ci", "deny")):
        _made(acme, f"{path}/bindings", {"principal": principal, "role": role, "effect": effect})
    answer = acme.owner.get(f"{path}/members", params={"limit": 1}).json()
    assert answer["items"] == [
        {"principal": {"type": "service_account", "id": first}, "roles": ["ci", "viewer"], "denied": []}
    ]
    rest = acme.owner.get(f"{path}/members", params={"limit": 1, "cursor": answer["next_cursor"]}).json()
    assert [(item["principal"]["id"], item["denied"]) for item in rest["items"]] == [(second, ["ci"])]
    assert rest["next_cursor"] is None


def _order(found: dict[str, list[dict[str, str]]]) -> Callable[[str], int]:
    names = [item["permission"] for item in found["permissions"]]
    return lambda name: names.index(name) if name in names else -1


def test_the_last_admin_stays(make_tenant: Callable[..., Tenant]) -> None:
    lone = make_tenant()
    (binding,) = lone.owner.get(f"/tenants/{lone.id}/bindings").json()["items"]
    problem(lone.owner.delete(f"/tenants/{lone.id}/bindings/{binding['id']}"), 409, "last_admin")
    member = binding["principal"]["id"]
    answer = lone.owner.patch(f"/tenants/{lone.id}/members/{member}", json={"status": "disabled"})
    problem(answer, 409, "last_admin")
    assert lone.owner.get("/me").status_code == 200


def test_a_disabled_service_account_is_refused_with_whatever_it_has(acme: Tenant, dev: str) -> None:
    account, path = _account(acme, dev), f"/workspaces/{dev}/service-accounts"
    client = acme.as_key(acme.key(dev, "viewer", service_account=account))
    assert client.get(f"/workspaces/{dev}/jobs").status_code == 200
    changed = acme.owner.patch(f"{path}/{account}", json={"status": "disabled"})
    assert (changed.json()["status"], changed.json()["version"]) == ("disabled", 2)
    within_a_second(lambda: client.get(f"/workspaces/{dev}/jobs"), 401)
    assert acme.owner.patch(f"{path}/{account}", json={"status": "active"}).status_code == 200
    within_a_second(lambda: client.get(f"/workspaces/{dev}/jobs"), 200)


def test_nobody_disables_who_holds_more(acme: Tenant, dev: str) -> None:
    account = _account(acme, dev)
    _made(acme, f"/workspaces/{dev}/bindings", {"principal": account, "role": "workspace-admin"})
    maker = acme.as_key(acme.key(dev, permissions=["member:admin", "member:read"]))
    answer = maker.patch(f"/workspaces/{dev}/service-accounts/{account}", json={"status": "disabled"})
    problem(answer, 403, "denies_the_mightier")


def test_changes_of_roles_and_groups_stand_in_the_trail(acme: Tenant, dev: str) -> None:
    slug = _role(acme, f"/workspaces/{dev}", "job:read")
    acme.owner.patch(f"/workspaces/{dev}/roles/{slug}", json={"permissions": ["image:read"]})
    events = acme.owner.get("/audit", params={"resource": slug, "action": "role."}).json()["items"]
    told = {event["action"]: own_details(event) for event in events}
    assert told["role.created"] == {"permissions": "job:read"}
    assert told["role.updated"] == {"gained": "image:read", "lost": "job:read"}
