"""SLOs and labels through the layers: shown with their layer, replaced whole, versioned, audited, and nobody else's."""

import secrets
from typing import Any

import httpx
import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.api.conftest import own_details, problem

pytestmark = pytest.mark.xdist_group("api")

SHIPPED = {
    "latency_p95_ms": 500.0,
    "latency_p99_ms": 1000.0,
    "error_rate_max": 0.05,
    "saturation": {"max_cpu_percent": 90.0, "max_mem_percent": 85.0, "max_qps": None},
}
PRIORITY = {"type": "categorical", "values": ["critical", "high", "medium", "low"]}


def _put(client: httpx.Client, path: str, overlay: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = client.put(path, json={"overlay": overlay}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(params=["us", "eu"])
def tenant(request: pytest.FixtureRequest, make_tenant: MakeTenant) -> Tenant:
    return make_tenant(region=request.param)


def test_a_new_tenant_has_what_the_platform_says(tenant: Tenant) -> None:
    found = tenant.owner.get(f"/tenants/{tenant.id}/slos", params={"explain": "true"}).json()
    assert (found["slos"], found["overlay"], found["ignored"]) == (SHIPPED, {}, {})
    assert set(found["layers"].values()) == {"platform"}
    labels = tenant.owner.get(f"/tenants/{tenant.slug}/labels").json()
    assert set(labels["labels"]) == {"env", "region", "version", "experiment_id", "confidence"}
    assert labels["layers"] is None


def test_tenant_and_workspace_lie_over_each_other_and_explain_says_which(tenant: Tenant) -> None:
    workspace, sibling = tenant.workspace("own"), tenant.workspace("sibling")
    of_tenant, of_workspace = f"/tenants/{tenant.id}/slos", f"/workspaces/{workspace}/slos"
    _put(tenant.owner, of_tenant, {"latency_p95_ms": 100.0, "saturation": {"max_qps": 50}})
    _put(tenant.owner, of_workspace, {"saturation": {"max_qps": None}, "error_rate_max": 0})
    found = tenant.owner.get(of_workspace, params={"explain": True}).json()
    assert found["slos"] == SHIPPED | {"latency_p95_ms": 100.0, "error_rate_max": 0}
    assert found["layers"] == {
        "latency_p95_ms": "tenant",
        "latency_p99_ms": "platform",
        "error_rate_max": "workspace",
        "saturation.max_cpu_percent": "platform",
        "saturation.max_mem_percent": "platform",
        "saturation.max_qps": "workspace",
    }
    assert found["overlay"] == {"saturation": {"max_qps": None}, "error_rate_max": 0}
    beside = tenant.owner.get(f"/workspaces/{sibling}/slos").json()
    assert (beside["slos"]["saturation"]["max_qps"], beside["slos"]["error_rate_max"]) == (50, 0.05)
    assert tenant.owner.get(of_tenant).json()["slos"]["saturation"]["max_qps"] == 50
    assert tenant.owner.get(f"/tenants/{tenant.id}").json()["slo_overlay"] == {
        "latency_p95_ms": 100.0,
        "saturation": {"max_qps": 50},
    }


def test_a_replacement_is_whole(tenant: Tenant) -> None:
    path = f"/tenants/{tenant.id}/slos"
    _put(tenant.owner, path, {"latency_p95_ms": 1, "latency_p99_ms": 2})
    assert _put(tenant.owner, path, {"latency_p99_ms": 3})["slos"] == SHIPPED | {"latency_p99_ms": 3}
    assert _put(tenant.owner, path, {})["slos"] == SHIPPED


def test_what_one_tenant_says_is_in_no_others_answer(
    make_tenant: MakeTenant, acme: Tenant, installation: Installation
) -> None:
    """In the same cell, in the same process, one after the other and in its workspaces."""
    loud = make_tenant(region="us")
    word = f"w{secrets.token_hex(6)}"
    workspace = loud.workspace("own")
    before = [acme.owner.get(f"/tenants/{acme.id}/{kind}").json() for kind in ("slos", "labels")]
    label = {"type": "categorical", "values": [word]}
    for place in (f"/tenants/{loud.id}", f"/workspaces/{workspace}"):
        _put(loud.owner, f"{place}/labels", {word: label, "env": label})
        _put(loud.owner, f"{place}/slos", {"saturation": {"max_qps": 12345}})
    after = [acme.owner.get(f"/tenants/{acme.id}/{kind}").json() for kind in ("slos", "labels")]
    assert after == before
    assert word not in str(after)
    checked = acme.owner.post(f"/workspaces/{acme.workspace('x')}/labels/check", json={"labels": {"env": word}}).json()
    assert checked["valid"] is False
    assert word in str(installation.platform.get(f"/tenants/{loud.id}/labels").json())


@pytest.mark.parametrize("kind", ["slos", "labels"])
def test_anothers_overlay_is_neither_read_nor_written(kind: str, acme: Tenant, globex: Tenant, dev: str) -> None:
    for client in (globex.owner, globex.as_role("tenant-admin", None)):
        for answer in (
            client.get(f"/tenants/{acme.id}/{kind}"),
            client.put(f"/tenants/{acme.id}/{kind}", json={"overlay": {}}),
        ):
            problem(answer, 403, "tenant_mismatch")
        for answer in (
            client.get(f"/workspaces/{dev}/{kind}"),
            client.put(f"/workspaces/{dev}/{kind}", json={"overlay": {}}),
        ):
            problem(answer, 404, "not_found")
    problem(globex.owner.post(f"/workspaces/{dev}/labels/check", json={"labels": {}}), 404, "not_found")


def test_who_may_read_may_not_write(acme: Tenant, dev: str) -> None:
    viewer = acme.as_role("viewer", dev)
    assert viewer.get(f"/workspaces/{dev}/slos").status_code == 200
    problem(viewer.put(f"/workspaces/{dev}/slos", json={"overlay": {}}), 403, "permission_missing")
    problem(viewer.get(f"/tenants/{acme.id}/slos"), 403, "permission_missing")
    problem(
        acme.as_role("workspace-admin", dev).put(f"/tenants/{acme.id}/slos", json={"overlay": {}}),
        403,
        "permission_missing",
    )


def test_the_platform_sets_a_tenants_overlay_and_no_workspaces(
    make_tenant: MakeTenant, installation: Installation
) -> None:
    tenant = make_tenant(region="eu")
    found = _put(installation.platform, f"/tenants/{tenant.slug}/slos", {"latency_p95_ms": 9})
    assert found["layers"]["latency_p95_ms"] == "tenant"
    assert tenant.owner.get(f"/tenants/{tenant.id}/slos").json()["slos"]["latency_p95_ms"] == 9
    workspace = tenant.workspace()
    answer = installation.platform.get(f"/workspaces/{workspace}/slos", headers={"X-Tenant-Id": tenant.id})
    problem(answer, 403, "platform_no_content")


@pytest.mark.parametrize(
    ("kind", "overlay", "field", "rule"),
    [
        ("slos", {"latency": 1}, "overlay.latency", "unknown"),
        ("slos", {"saturation": {"max_cpu_percent": 101}}, "overlay.saturation.max_cpu_percent", "maximum"),
        ("slos", {"latency_p95_ms": -1}, "overlay.latency_p95_ms", "minimum"),
        ("slos", {"latency_p95_ms": "1"}, "overlay.latency_p95_ms", "type"),
        ("slos", {"saturation": [1]}, "overlay.saturation", "type"),
        ("labels", {"priority": {"type": "ordinal"}}, "overlay.priority.type", "literal_error"),
        ("labels", {"env": {"type": "continuous"}}, "overlay.env.type", "type_fixed"),
        ("labels", {"Not a name": {"type": "continuous"}}, "overlay.Not a name", "name"),
    ],
    ids=str,
)
def test_an_overlay_that_breaks_a_rule_is_422_and_changes_nothing(
    kind: str, overlay: dict[str, Any], field: str, rule: str, acme: Tenant, dev: str
) -> None:
    for path in (f"/tenants/{acme.id}/{kind}", f"/workspaces/{dev}/{kind}"):
        before = acme.owner.get(path).json()
        found = problem(acme.owner.put(path, json={"overlay": overlay}), 422, "overlay_invalid")
        assert (found["field"], found["rule"]) == (field, rule)
        assert found["errors"][0]["field"] == field
        assert acme.owner.get(path).json() == before


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_what_is_no_number_is_unreadable(text: str, acme: Tenant) -> None:
    body = f'{{"overlay": {{"latency_p95_ms": {text}}}}}'
    answer = acme.owner.put(f"/tenants/{acme.id}/slos", content=body, headers={"Content-Type": "application/json"})
    problem(answer, 400, "body_unreadable")


@pytest.mark.parametrize("body", [{}, {"overlay": None}, {"overlay": []}, {"overlay": {}, "version": 1}])
def test_a_body_that_is_none_is_422(body: dict[str, Any], acme: Tenant) -> None:
    problem(acme.owner.put(f"/tenants/{acme.id}/slos", json=body), 422, "invalid_request")


def test_a_workspace_may_not_change_its_tenants_label(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    workspace = tenant.workspace()
    _put(tenant.owner, f"/tenants/{tenant.id}/labels", {"priority": PRIORITY})
    path = f"/workspaces/{workspace}/labels"
    refused = tenant.owner.put(path, json={"overlay": {"priority": {"type": "continuous"}}})
    assert problem(refused, 422, "overlay_invalid")["rule"] == "type_fixed"
    found = _put(tenant.owner, path, {"priority": {"type": "categorical", "values": ["urgent"]}})
    assert found["labels"]["priority"]["values"] == [*PRIORITY["values"], "urgent"]
    assert (found["layers"]["priority.type"], found["layers"]["priority.values"]) == ("tenant", "workspace")


def test_a_tenants_later_label_wins_over_its_workspaces_and_is_explained(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    workspace = tenant.workspace()
    path = f"/workspaces/{workspace}/labels"
    _put(tenant.owner, path, {"priority": {"type": "continuous"}, "mine": {"type": "continuous"}})
    _put(tenant.owner, f"/tenants/{tenant.id}/labels", {"priority": PRIORITY})
    found = tenant.owner.get(path, params={"explain": True}).json()
    assert found["labels"]["priority"] == PRIORITY
    assert found["labels"]["mine"] == {"type": "continuous"}
    assert found["ignored"] == {"workspace": ["priority.type"]}


def test_labels_are_checked_against_the_workspaces_catalogue(tenant: Tenant) -> None:
    workspace, sibling = tenant.workspace("own"), tenant.workspace("sibling")
    _put(tenant.owner, f"/workspaces/{workspace}/labels", {"priority": PRIORITY})
    labels = {"priority": "critical", "env": "prod", "confidence": 0.5, "version": "any text"}
    path = f"/workspaces/{workspace}/labels/check"
    assert tenant.owner.post(path, json={"labels": labels}).json() == {"valid": True, "faults": []}
    wrong = {"priority": "invalid", "confidence": "high", "colour": "red"}
    found = tenant.owner.post(path, json={"labels": wrong}).json()
    assert found["valid"] is False
    assert {(each["label"], each["rule"]) for each in found["faults"]} == {
        ("priority", "value"),
        ("confidence", "type"),
        ("colour", "unknown"),
    }
    there = tenant.owner.post(f"/workspaces/{sibling}/labels/check", json={"labels": labels}).json()
    assert [each["label"] for each in there["faults"]] == ["priority"]


# --- versions --------------------------------------------------------------------------------------------------------


def test_a_stale_version_is_412_and_the_shown_tag_is_a_version(tenant: Tenant) -> None:
    workspace = tenant.workspace()
    for path in (f"/tenants/{tenant.id}", f"/workspaces/{workspace}"):
        record = tenant.owner.get(path).headers["etag"]
        shown = tenant.owner.get(f"{path}/slos").headers["etag"]
        first = tenant.owner.put(f"{path}/slos", json={"overlay": {"latency_p95_ms": 1}}, headers={"If-Match": shown})
        assert first.status_code == 200
        for stale in (record, shown):
            answer = tenant.owner.put(f"{path}/slos", json={"overlay": {}}, headers={"If-Match": stale})
            problem(answer, 412, "version_mismatch")
        _put(tenant.owner, f"{path}/labels", {}, **{"If-Match": first.headers["etag"]})
        assert tenant.owner.get(f"{path}/slos").json()["overlay"] == {"latency_p95_ms": 1}


def test_an_unchanged_overlay_is_304_until_a_lower_layer_changes(tenant: Tenant) -> None:
    """The workspace's version stays, its effective values do not."""
    workspace = tenant.workspace()
    path = f"/workspaces/{workspace}/slos"
    seen = tenant.owner.get(path)
    tag = {"If-None-Match": seen.headers["etag"]}
    assert tenant.owner.get(path, headers=tag).status_code == 304
    _put(tenant.owner, f"/tenants/{tenant.id}/slos", {"latency_p95_ms": 42})
    again = tenant.owner.get(path, headers=tag)
    assert (again.status_code, again.json()["slos"]["latency_p95_ms"]) == (200, 42)
    assert again.json()["version"] == seen.json()["version"]


def test_closed_workspaces_are_read_and_not_written(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    workspace = tenant.workspace()
    tenant.owner.post(f"/workspaces/{workspace}/suspend", json={"reason": "x"})
    assert tenant.owner.get(f"/workspaces/{workspace}/slos").status_code == 200
    assert tenant.owner.post(f"/workspaces/{workspace}/labels/check", json={"labels": {}}).json()["valid"]
    answer = tenant.owner.put(f"/workspaces/{workspace}/slos", json={"overlay": {}})
    problem(answer, 403, "workspace_suspended")


def test_a_change_is_recorded_by_the_names_of_what_changed(tenant: Tenant) -> None:
    workspace = tenant.workspace()
    _put(tenant.owner, f"/tenants/{tenant.id}/slos", {"latency_p95_ms": 77.25, "saturation": {"max_qps": 1}})
    _put(tenant.owner, f"/tenants/{tenant.id}/slos", {"latency_p95_ms": 77.25, "saturation": {"max_qps": None}})
    _put(tenant.owner, f"/workspaces/{workspace}/labels", {"priority": PRIORITY})
    events = tenant.owner.get("/audit", params={"action": "tenant.overlay_changed"}).json()["items"]
    assert [own_details(event) for event in events] == [
        {"kind": "slos", "fields": ["saturation.max_qps"], "changed": 1},
        {"kind": "slos", "fields": ["latency_p95_ms", "saturation.max_qps"], "changed": 2},
    ]
    assert "77.25" not in str(events)
    [event] = tenant.owner.get("/audit", params={"action": "workspace.overlay_changed"}).json()["items"]
    assert event["details"]["fields"] == ["priority.type", "priority.values"]
    assert event["resource"] == {"type": "workspace", "id": workspace}


# --- with the tenant's record ----------------------------------------------------------------------------------------


def test_a_tenant_is_made_with_its_overlays_and_compliance(make_tenant: MakeTenant) -> None:
    fields = {
        "slo_overlay": {"latency_p95_ms": 100.0},
        "label_overlay": {"priority": PRIORITY},
        "compliance": {"frameworks": ["SOC2", "HIPAA"], "gdpr": True, "retention_years": 7},
    }
    tenant = make_tenant(region="eu", **fields)
    record = tenant.owner.get(f"/tenants/{tenant.id}").json()
    assert {name: record[name] for name in fields} == fields
    assert tenant.owner.get(f"/tenants/{tenant.id}/labels").json()["labels"]["priority"] == PRIORITY
    changed = tenant.owner.patch(f"/tenants/{tenant.id}", json={"slo_overlay": {"latency_p99_ms": 5}, "compliance": {}})
    assert changed.json()["slo_overlay"] == {"latency_p99_ms": 5}
    assert (changed.json()["compliance"], changed.json()["label_overlay"]) == ({}, fields["label_overlay"])


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"slo_overlay": {"x": 1}}, "overlay_invalid", "slo_overlay.x"),
        ({"slo_overlay": {"latency_p95_ms": -1}}, "overlay_invalid", "slo_overlay.latency_p95_ms"),
        ({"label_overlay": {"env": {"type": "continuous"}}}, "overlay_invalid", "label_overlay.env.type"),
        ({"compliance": {"a": {"b": 1}}}, "invalid_request", None),
        ({"compliance": {"a": "x" * 501}}, "invalid_request", None),
        ({"slo_overlay": []}, "invalid_request", None),
    ],
    ids=str,
)
def test_a_record_with_a_faulty_overlay_is_refused(
    fields: dict[str, Any], code: str, field: str | None, installation: Installation, acme: Tenant
) -> None:
    slug = f"t-{secrets.token_hex(5)}"
    owner = {"email": "owner@x.example", "name": "Owner"}
    body = {"name": slug, "slug": slug, "plan": "free", "region": "us", "owner": owner, **fields}
    before = acme.owner.get(f"/tenants/{acme.id}").json()
    for answer in (
        installation.platform.post("/tenants", json=body),
        acme.owner.patch(f"/tenants/{acme.id}", json=fields),
    ):
        assert problem(answer, 422, code).get("field") == field
    problem(installation.platform.get(f"/tenants/{slug}"), 404, "tenant_not_found")
    assert acme.owner.get(f"/tenants/{acme.id}").json() == before
