"""What stands around the resources: who am I, why not, the operator's catalogue, probes, metrics, the document."""

from typing import Any

import httpx
import pytest
from tests.conftest import UNHURRIED, Installation, Tenant
from tests.integration.api.conftest import Beside, problem

from tenantry.capabilities.access.types import BUILT_IN_ROLES, Permission

pytestmark = pytest.mark.xdist_group("api")


def test_me_tells_principal_tenant_and_rights_by_place(acme: Tenant, dev: str) -> None:
    me = acme.as_role("viewer", dev).get("/me").json()
    assert me["tenant"] == {"id": acme.id, "slug": acme.slug, "region": "us"}
    assert me["permissions"] == []
    assert me["principal"]["type"] == "api_key"
    assert me["principal"]["acts_for"].startswith("usr_")
    held = sorted(permission.value for permission in BUILT_IN_ROLES["viewer"])
    assert me["workspaces"] == [{"id": dev, "roles": ["viewer"], "permissions": held}]
    owner = acme.owner.get("/me").json()
    assert set(owner["permissions"]) == {permission.value for permission in BUILT_IN_ROLES["tenant-admin"]}


def test_explain_says_what_the_guard_does_for_every_role_and_permission(acme: Tenant, dev: str) -> None:
    for role in ("viewer", "operator", "auditor", "workspace-admin"):
        client = acme.as_role(role, dev)
        for permission in Permission:
            found = client.post("/explain", json={"permission": permission}).json()
            allowed = permission in BUILT_IN_ROLES[role]
            assert found["decision"] == ("allow" if allowed else "deny"), (role, permission)
            assert role in found["reason"] if allowed else found["allow_with"]
            for sufficient in found["allow_with"]:
                assert permission in BUILT_IN_ROLES[sufficient]


def test_explain_knows_no_workspace_that_the_caller_does_not(acme: Tenant, globex: Tenant, dev: str) -> None:
    foreign, never = globex.workspace("foreign"), "ws_" + "0" * 26
    other = acme.workspace("other")
    for client, hidden in ((acme.owner, (foreign, never)), (acme.as_role("viewer", dev), (foreign, never, other))):
        for workspace in hidden:
            answer = client.post("/explain", json={"permission": "job:read", "workspace": workspace})
            problem(answer, 404, "not_found")
    assert (
        acme.owner.post("/explain", json={"permission": "job:read", "workspace": other}).json()["decision"] == "allow"
    )


@pytest.mark.parametrize("permission", ["", "job:*", "job:READ", "root", "job:read "])
def test_explain_knows_the_catalogue_only(permission: str, acme: Tenant) -> None:
    problem(acme.owner.post("/explain", json={"permission": permission}), 422, "permission_unknown")


def test_the_catalogue_of_plans_and_regions_is_the_operators(installation: Installation, acme: Tenant) -> None:
    plans = {plan["slug"]: plan for plan in installation.platform.get("/platform/plans").json()["items"]}
    assert list(plans) == ["free", "starter", "professional", "enterprise", UNHURRIED]
    assert plans["free"]["rate_limits"]["api_requests"] == {"maxRequests": 100, "windowMs": 60_000}
    assert plans["enterprise"]["price"] == "custom"
    assert plans["starter"]["features"] == ["basic_orchestration", "custom_skills", "priority_support"]
    regions = installation.platform.get("/platform/regions").json()["items"]
    assert regions == [{"slug": name, "served_here": True} for name in ("us", "eu")]
    for path in ("/platform/plans", "/platform/regions", "/tenants"):
        problem(acme.owner.get(path), 403, "permission_missing")


def test_probes_answer_everybody_without_telling_about_tenants(installation: Installation, acme: Tenant) -> None:
    with httpx.Client(base_url=installation.url) as nobody:
        assert nobody.get("/health").json() == {"status": "ok"}
        for path in ("/readiness", "/readyz"):
            answer = nobody.get(path)
            checks = answer.json()["checks"]
            assert (answer.status_code, answer.json()["status"]) == (200, "ready")
            assert checks == {"directory": "ok", "database.us": "ok", "database.eu": "ok"}
            assert acme.slug not in answer.text


def test_metrics_tell_of_requests_and_of_no_tenant(installation: Installation, acme: Tenant) -> None:
    with httpx.Client(base_url=installation.url) as nobody:
        answer = nobody.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        assert "tenantry_requests_total" in answer.text
        for told in (acme.slug, acme.id, acme.bootstrap_key):
            assert told not in answer.text
        for header in ({"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-For": "10.0.0.1"}):
            problem(nobody.get("/metrics", headers=header), 403, "metrics_local_only")


async def test_metrics_are_for_this_machine_only(beside: Beside) -> None:
    for ip, status in (("127.0.0.1", 200), ("::1", 200), ("10.0.0.1", 403), ("192.168.0.1", 403)):
        async with beside.client("", ip=ip) as client:
            assert (await client.get("http://localhost/metrics")).status_code == status, ip


def test_answers_are_not_cached_and_not_sniffed(acme: Tenant, dev: str, installation: Installation) -> None:
    for answer in (acme.owner.get("/me"), acme.owner.get(f"/workspaces/{dev}"), acme.owner.get("/nowhere")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
    with httpx.Client(base_url=installation.api) as nobody:
        assert nobody.get("/me").headers["cache-control"] == "no-store"


def test_a_trace_id_is_the_callers_when_it_is_well_formed_and_found_in_the_trail(acme: Tenant) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    answer = acme.owner.get("/workspaces/ws_00000000000000000000000000", headers=sent)
    assert problem(answer, 404, "not_found")["trace_id"] == trace
    assert acme.owner.get("/me", headers=sent).headers["x-trace-id"] == trace
    for bad in ("x", f"00-{trace}", f"00-{trace}\tx-00f067aa0ba902b7-01", f"00-{trace.upper()}-00f067aa0ba902b7-01"):
        assert acme.owner.get("/me", headers={"traceparent": bad}).headers["x-trace-id"] != trace


# --- the document ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document(installation: Installation) -> dict[str, Any]:
    with httpx.Client(base_url=installation.api) as nobody:
        answer = nobody.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def _operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def test_the_document_is_openapi_3_1_and_each_operation_is_named_once(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "Tenantry"
    names = [operation["operationId"] for _, _, operation in _operations(document)]
    assert len(names) == len(set(names)) > 40


def test_every_operation_names_its_permission_and_its_credential(document: dict[str, Any]) -> None:
    known = {permission.value for permission in Permission} | {"public", "authenticated"}
    for method, path, operation in _operations(document):
        assert operation["x-permission"] in known, path
        assert operation["security"] == ([] if operation["x-permission"] == "public" else [{"apiKey": []}]), path
        problem_type = operation["responses"]["default"]["content"]
        assert list(problem_type) == ["application/problem+json"], f"{method} {path}"
    assert document["components"]["securitySchemes"]["apiKey"]["type"] == "http"


def test_every_path_parameter_and_reference_of_the_document_is_there(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        declared = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
        assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}, f"{method} {path}"
        assert operation["responses"].keys() - {"default"}, path
    for reference in _references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
        assert place, reference


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    return []


def test_every_body_of_the_document_is_closed(document: dict[str, Any]) -> None:
    """Unknown fields are refused, and the document says so."""
    for _, path, operation in _operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        for media in content.values():
            name = _references(media)[0].rpartition("/")[2]
            assert document["components"]["schemas"][name]["additionalProperties"] is False, path
