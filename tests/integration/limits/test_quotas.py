"""Quotas at the edge: work beyond one is refused with what would help, and what ends gives back what it held."""

import io
import tarfile
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.conftest import UNHURRIED, Installation, MakeTenant, Tenant
from tests.integration.api.conftest import problem

pytestmark = pytest.mark.xdist_group("api")

TAR = {"Content-Type": "application/x-tar"}


def change(tenant: Tenant, place: str, **numbers: object) -> dict[str, Any]:
    answer = tenant.owner.patch(f"{place}/limits", json=numbers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def submit(tenant: Tenant, workspace: str, *command: str, wait: int = 0, **fields: object) -> Any:
    body = {"command": list(command), **fields}
    return tenant.owner.post(f"/workspaces/{workspace}/jobs", params={"wait": wait}, json=body)


def usage(tenant: Tenant, workspace: str) -> dict[str, Any]:
    answer = tenant.owner.get(f"/workspaces/{workspace}/usage")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def told(tenant: Tenant, **filters: str) -> list[dict[str, Any]]:
    """What the trail has of it, once it is sealed."""
    found: list[dict[str, Any]] = until(lambda: tenant.owner.get("/audit", params=filters).json()["items"])
    return found


def counted(tenant: Tenant, workspace: str, name: str, holder: str = "workspace") -> tuple[int, int]:
    [found] = [q for q in usage(tenant, workspace)["quotas"] if (q["name"], q["holder"]) == (name, holder)]
    return found["held"], found["used"]


@pytest.fixture
def tenant(make_tenant: MakeTenant) -> Tenant:
    return make_tenant()


@pytest.fixture
def ws(tenant: Tenant) -> str:
    return tenant.workspace("dev")


def test_defaults_are_those_of_the_installation_and_each_number_names_its_layer(tenant: Tenant, ws: str) -> None:
    found = tenant.owner.get(f"/workspaces/{ws}/limits").json()
    defaults = {
        "max_concurrent_jobs": 10,
        "max_concurrent_sandboxes": 5,
        "max_job_duration_seconds": 3600,
        "max_cpus_per_job": 4.0,
        "max_memory_mib_per_job": 8192,
        "max_artifacts_mib": 1024,
        "max_storage_gb": 50,
        "daily_job_limit": None,
    }
    assert {name: found[name] for name in defaults} == defaults
    assert found["sources"]["max_concurrent_jobs"] == {"layer": "platform", "layers": {"platform": 10.0}}
    assert found["sources"]["daily_job_limit"] == {"layer": None, "layers": {}}
    assert (found["max_concurrent_agents"], found["sources"]["max_concurrent_agents"]["layer"]) == (50, "plan")
    assert found["on_limit"] == "queue"


def test_the_lowest_of_all_layers_holds_and_a_change_names_only_what_it_changes(tenant: Tenant, ws: str) -> None:
    place = f"/workspaces/{ws}"
    change(tenant, f"/tenants/{tenant.id}", max_concurrent_jobs=8)
    assert change(tenant, place, max_concurrent_jobs=9)["max_concurrent_jobs"] == 8
    found = change(tenant, place, daily_job_limit=5)
    assert (found["own"], found["daily_job_limit"]) == ({"max_concurrent_jobs": 9, "daily_job_limit": 5}, 5)
    assert found["sources"]["max_concurrent_jobs"]["layers"] == {"platform": 10, "tenant": 8, "workspace": 9}
    assert found["sources"]["max_concurrent_jobs"]["layer"] == "tenant"
    found = change(tenant, place, max_concurrent_jobs=None, on_limit="reject")
    assert (found["own"], found["on_limit"]) == ({"daily_job_limit": 5}, "reject")
    assert tenant.owner.get(place).json()["settings"]["on_limit"] == "reject"


@pytest.mark.parametrize(
    "body",
    [
        {"max_concurrent_jobs": -1},
        {"max_concurrent_jobs": 1.5},
        {"max_concurrent_jobs": True},
        {"max_concurrent_jobs": "5"},
        {"max_storage_gb": 10**12},
        {"max_cpus_per_job": 0},
        {"max_tokens_per_month": 2**53},
        {"max_anything": 1},
        {"on_limit": "wait"},
        {"max_users": 3},
    ],
)
def test_numbers_that_are_none_are_refused_and_the_old_ones_stay(tenant: Tenant, ws: str, body: dict[str, Any]) -> None:
    change(tenant, f"/workspaces/{ws}", max_concurrent_jobs=4)
    answer = tenant.owner.patch(f"/workspaces/{ws}/limits", json=body)
    assert answer.status_code == 422, answer.text
    assert tenant.owner.get(f"/workspaces/{ws}/limits").json()["own"] == {"max_concurrent_jobs": 4}


@pytest.mark.parametrize("number", ["NaN", "1e400", "-Infinity"])
def test_numbers_that_json_has_not_are_refused(tenant: Tenant, ws: str, number: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = tenant.owner.patch(
        f"/workspaces/{ws}/limits", content=f'{{"max_cpus_per_job": {number}}}', headers=headers
    )
    assert answer.status_code in (400, 422)


def test_one_job_too_many_is_refused_where_the_workspace_says_so_and_gives_way_when_one_ends(
    tenant: Tenant, ws: str
) -> None:
    change(tenant, f"/workspaces/{ws}", max_concurrent_jobs=1, on_limit="reject")
    running = submit(tenant, ws, "sleep", "30").json()["id"]
    refused = problem(submit(tenant, ws, "true"), 429, "quota_exceeded")
    assert refused["limit"] == {"name": "max_concurrent_jobs", "holder": "workspace", "most": 1}
    assert refused["current"] == {"used": 0, "held": 1, "wanted": 1}
    assert (refused["layer"], refused["limited_by"]) == ("limits", "workspace")
    assert tenant.owner.post(f"/workspaces/{ws}/jobs/{running}/cancel").status_code == 200
    until(lambda: counted(tenant, ws, "max_concurrent_jobs") == (0, 0))
    assert submit(tenant, ws, "true", wait=20).json()["status"] == "succeeded"
    [event] = told(tenant, action="job.create", outcome="denied")
    assert event["reason"] == "quota_exceeded"


def test_a_job_counts_on_its_day_once_it_has_begun_and_not_if_it_never_did(tenant: Tenant, ws: str) -> None:
    place = f"/workspaces/{ws}"
    change(tenant, place, daily_job_limit=2, max_concurrent_jobs=0, on_limit="queue")
    never = submit(tenant, ws, "true").json()["id"]
    assert counted(tenant, ws, "daily_job_limit") == (1, 0)
    assert tenant.owner.post(f"{place}/jobs/{never}/cancel").status_code == 200
    assert counted(tenant, ws, "daily_job_limit") == (0, 0)
    change(tenant, place, max_concurrent_jobs=None)
    for begun in (1, 2):
        assert submit(tenant, ws, "true", wait=20).json()["status"] == "succeeded"
        assert counted(tenant, ws, "daily_job_limit") == (0, begun)
    refused = problem(submit(tenant, ws, "true"), 429, "quota_exceeded")
    assert refused["allow_with"][0] == "the next day"
    assert usage(tenant, ws)["jobs_today"] == 2


def test_storage_is_held_at_its_most_and_settled_by_what_was_left(tenant: Tenant, ws: str) -> None:
    script = "head -c 5000 /dev/zero > a; echo 12345; sleep 1"
    change(tenant, f"/workspaces/{ws}", max_storage_gb=1)
    tenant.owner.patch(f"/workspaces/{ws}", json={"settings": {"persistence_mode": "full"}})
    job = submit(tenant, ws, "sh", "-c", script, artifacts=["a"], limits={"artifacts_mib": 100}).json()
    held, used = counted(tenant, ws, "max_storage_gb")
    assert (held >= 100 << 20, used) == (True, 0) or until(lambda: counted(tenant, ws, "max_storage_gb")[1])
    until(lambda: tenant.owner.get(f"/workspaces/{ws}/jobs/{job['id']}").json()["finished_at"])
    assert counted(tenant, ws, "max_storage_gb") == (0, 5006)
    assert tenant.owner.get(f"/tenants/{tenant.id}/usage").json()["storage_used_bytes"] == 5006
    refused = problem(
        submit(tenant, ws, "true", artifacts=["a"], limits={"artifacts_mib": 1000}), 429, "quota_exceeded"
    )
    assert refused["limit"] == {"name": "max_storage_gb", "holder": "workspace", "most": 10**9}


def test_an_image_takes_room_until_it_is_removed(tenant: Tenant, ws: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("etc/motd")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"hi\n"))
    path = f"/workspaces/{ws}/images"
    query = {"name": "small", "format": "directory"}
    answer = tenant.owner.post(path, params=query, content=archive.getvalue(), headers=TAR)
    assert answer.status_code == 201, answer.text
    assert counted(tenant, ws, "max_storage_gb") == (0, answer.json()["size_bytes"])
    assert tenant.owner.delete(f"{path}/{answer.json()['id']}").status_code in (200, 204)
    assert counted(tenant, ws, "max_storage_gb") == (0, 0)
    change(tenant, f"/workspaces/{ws}", max_storage_gb=0)
    again = tenant.owner.post(path, params=query, content=archive.getvalue(), headers=TAR)
    problem(again, 429, "quota_exceeded")
    assert tenant.owner.get(path).json()["items"] == []


@pytest.mark.parametrize(
    ("number", "name"),
    [
        ({"max_memory_mib_per_job": 64}, "memory_mib"),
        ({"max_cpus_per_job": 0.5}, "cpus"),
        ({"max_job_duration_seconds": 30}, "timeout_seconds"),
        ({"max_artifacts_mib": 1}, "artifacts_mib"),
    ],
)
def test_a_default_gives_way_to_a_ceiling_and_more_is_refused(
    tenant: Tenant, ws: str, number: dict[str, float], name: str
) -> None:
    change(tenant, f"/workspaces/{ws}", **number)
    [most] = number.values()
    assert submit(tenant, ws, "true").json()["limits"][name] == most
    refused = problem(submit(tenant, ws, "true", limits={name: most * 2}), 422, "limit_exceeded")
    assert (refused["limit"], refused["current"], refused["limited_by"]) == (most, most * 2, "workspace")


def test_a_plan_lets_no_more_workspaces_be_than_it_says_however_many_ask_at_once(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(plan="free")
    codes: list[int] = []

    def ask() -> None:
        body = {"name": "w", "owner": {"type": "team", "id": "core"}}
        headers = {"Authorization": f"Bearer {tenant.bootstrap_key}"}
        with httpx.Client(base_url=tenant.installation.api, headers=headers, timeout=60) as client:
            codes.append(client.post("/workspaces", json=body).status_code)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(timeout=60)
    assert sorted(codes) == [201] * 3 + [429] * 5
    [first, *_] = tenant.owner.get("/workspaces").json()["items"]
    assert tenant.owner.delete(f"/workspaces/{first['id']}").status_code == 200
    assert tenant.workspace("again")
    refused = problem(tenant.owner.post(f"/workspaces/{first['id']}/resume"), 429, "quota_exceeded")
    assert refused["limit"] == {"name": "max_workspaces", "holder": "tenant", "most": 3}
    assert refused["limited_by"] == "plan"


def test_a_feature_that_the_plan_has_not_is_refused_and_names_the_plans_that_have_it(
    make_tenant: MakeTenant, installation: Installation
) -> None:
    tenant = make_tenant(plan="free")
    ws = tenant.workspace("dev")
    path, query = f"/workspaces/{ws}/images", {"name": "small", "format": "directory"}
    refused = problem(tenant.owner.post(path, params=query, content=b"x"), 403, "feature_missing")
    assert (refused["layer"], refused["feature"], refused["plan"]) == ("limits", "custom_skills", "free")
    assert refused["allow_with"] == [
        "the plan starter",
        "the plan professional",
        "the plan enterprise",
        f"the plan {UNHURRIED}",
    ]
    provider = {"name": "x", "slug": "x", "issuer": "https://x.example", "client_id": "x"}
    refused = problem(
        tenant.owner.post(f"/tenants/{tenant.id}/identity-providers", json=provider), 403, "feature_missing"
    )
    assert refused["allow_with"] == ["the plan enterprise", f"the plan {UNHURRIED}"]
    assert installation.platform.patch(f"/tenants/{tenant.id}", json={"plan": "starter"}).status_code == 200
    answer = tenant.owner.post(path, params=query, content=b"x")
    assert answer.json()["code"] != "feature_missing"


def test_a_change_of_plan_is_in_the_trail_from_what_to_what(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(plan="free")
    platform = tenant.installation.platform
    assert platform.patch(f"/tenants/{tenant.id}", json={"plan": "professional"}).status_code == 200
    [event] = told(tenant, action="tenant.plan_changed")
    assert (event["details"]["from"], event["details"]["to"]) == ("free", "professional")
    assert event["outcome"] == "success"


def test_usage_is_that_of_the_workspace_alone(tenant: Tenant, ws: str) -> None:
    other = tenant.workspace("other")
    assert submit(tenant, ws, "true", wait=20).json()["status"] == "succeeded"
    assert (usage(tenant, ws)["jobs_today"], usage(tenant, other)["jobs_today"]) == (1, 0)
    assert counted(tenant, other, "daily_job_limit", "tenant") == (0, 1)
