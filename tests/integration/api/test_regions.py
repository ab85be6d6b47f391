"""A region is said once, when a tenant is made; a process answers for its own regions and knows the names of others."""

import secrets
import time
from typing import Any

import pytest
from tests.conftest import Installation, Tenant
from tests.integration.api.conftest import OpenBeside, problem

pytestmark = pytest.mark.xdist_group("api")


def _body(region: str | None) -> dict[str, Any]:
    slug = f"t-{secrets.token_hex(5)}"
    body = {"name": slug, "slug": slug, "plan": "free", "owner": {"email": f"a@{slug}.example", "name": "A"}}
    return body | ({"region": region} if region is not None else {})


async def test_a_tenant_is_made_by_a_process_of_its_region_and_by_no_other(
    open_beside: OpenBeside, installation: Installation
) -> None:
    async with open_beside(regions=("us",)) as only_us, only_us.client(installation.platform_key) as client:
        for region, status, code in (("eu", 421, "wrong_region"), ("mars", 422, "region_unknown")):
            body = _body(region)
            problem(await client.post("/tenants", json=body), status, code)
            # Nothing was reserved either: the name is free in any region.
            assert installation.platform.post("/tenants", json=body | {"region": "us"}).status_code == 201
        assert (await client.post("/tenants", json=_body("us"))).status_code == 201


async def test_another_regions_tenant_is_421_to_the_platform_too_and_nothing_of_it_is_told(
    open_beside: OpenBeside, installation: Installation, globex: Tenant
) -> None:
    async with open_beside(regions=("us",)) as only_us, only_us.client(installation.platform_key) as client:
        for method, path, body in (
            ("GET", "", None),
            ("PATCH", "", {"name": "x"}),
            ("POST", "/suspend", {"reason": "x"}),
            ("DELETE", "", None),
        ):
            answer = await client.request(method, f"/tenants/{globex.slug}{path}", json=body)
            problem(answer, 421, "wrong_region")
            assert globex.id not in answer.text
    assert globex.owner.get(f"/tenants/{globex.id}").json()["status"] == "active"


def test_a_tenant_without_a_region_is_refused(installation: Installation) -> None:
    for region in (None, "", "US", "us ", "e" * 17):
        assert installation.platform.post("/tenants", json=_body(region)).status_code == 422


def test_a_region_once_said_stays(installation: Installation, acme: Tenant, dev: str) -> None:
    for client in (acme.owner, installation.platform):
        for region in ("eu", "us"):
            problem(client.patch(f"/tenants/{acme.id}", json={"region": region}), 422, "invalid_request")
    for region in ("eu", "us"):
        problem(acme.owner.patch(f"/workspaces/{dev}", json={"region": region}), 422, "invalid_request")
    assert acme.owner.get(f"/tenants/{acme.id}").json()["region"] == "us"
    assert acme.owner.get(f"/workspaces/{dev}").json()["region"] == "us"


def test_a_workspace_takes_the_region_of_its_tenant(globex: Tenant) -> None:
    def make(**fields: str) -> Any:
        return globex.owner.post("/workspaces", json={"name": secrets.token_hex(4), **fields})

    for region in ("us", "mars", "EU", ""):
        problem(make(region=region), 422, "region_fixed")
    assert make(region="eu").json()["region"] == make().json()["region"] == "eu"


@pytest.mark.parametrize("path", ["/me", "/explain"])
def test_a_workspace_of_another_is_absent_on_marked_routes_too(
    path: str, acme: Tenant, globex: Tenant, dev: str
) -> None:
    body = {"permission": "job:read"} if path == "/explain" else None
    method = "POST" if body else "GET"
    foreign = globex.workspace("abroad")

    def ask(workspace: str) -> Any:
        return acme.owner.request(method, path, json=body, headers={"X-Workspace-Id": workspace})

    answers = [ask(foreign), ask("ws_" + "0" * 26)]
    assert {problem(answer, 404, "not_found")["detail"] for answer in answers} == {"no such workspace"}
    assert ask(dev).status_code == 200
    deadline = time.monotonic() + 10
    query = {"action": "region.blocked", "resource": foreign}
    while not (events := acme.owner.get("/audit", params=query).json()["items"]):
        assert time.monotonic() < deadline
    assert events[0]["details"]["region"] == "eu"
