"""`/explain` of a job: the answer of the real call, and nothing is done."""

from typing import Any

import pytest
from tests.conftest import MakeTenant, Tenant
from tests.integration.limits.test_quotas import change, counted, submit

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.one_strategy]


@pytest.fixture
def tenant(make_tenant: MakeTenant) -> Tenant:
    return make_tenant()


@pytest.fixture
def ws(tenant: Tenant) -> str:
    return tenant.workspace("dev")


def explained(tenant: Tenant, ws: str, **job: Any) -> dict[str, Any]:
    body = {"workspace": ws, "job": {"command": ["true"], **job}}
    answer = tenant.owner.post("/explain", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_job_that_would_be_accepted_is_not_made(tenant: Tenant, ws: str) -> None:
    told = explained(tenant, ws)
    assert (told["decision"], told["layer"], told["code"]) == ("allow", "access", None)
    assert tenant.owner.get(f"/workspaces/{ws}/jobs").json()["items"] == []
    assert counted(tenant, ws, "daily_job_limit") == (0, 0)


def test_a_limit_is_told_as_the_real_call_tells_it(tenant: Tenant, ws: str) -> None:
    change(tenant, f"/workspaces/{ws}", daily_job_limit=0)
    told, refused = explained(tenant, ws), submit(tenant, ws, "true").json()
    assert (told["decision"], told["code"], told["layer"]) == ("deny", "quota_exceeded", "limits")
    assert (told["limit"], told["current"]) == (refused["limit"], refused["current"])
    assert (told["allow_with"], told["reason"]) == (refused["allow_with"], refused["detail"])


def test_a_policy_is_told_and_records_no_job(tenant: Tenant, ws: str) -> None:
    settings = {"blocked_images": ["*:latest"]}
    assert tenant.owner.patch(f"/workspaces/{ws}", json={"settings": settings}).status_code == 200
    told = explained(tenant, ws, image="python")
    assert (told["decision"], told["code"], told["layer"]) == ("deny", "policy_denied", "policies")
    assert told["rule"].startswith("settings.blocked_images[0]")
    assert tenant.owner.get(f"/workspaces/{ws}/jobs").json()["items"] == []


def test_a_ceiling_is_told(tenant: Tenant, ws: str) -> None:
    told = explained(tenant, ws, limits={"memory_mib": 9000})
    assert (told["code"], told["limit"], told["current"]) == ("limit_exceeded", 8192, 9000)


def test_whoever_may_not_make_jobs_learns_nothing_of_limits(tenant: Tenant, ws: str) -> None:
    change(tenant, f"/workspaces/{ws}", daily_job_limit=0)
    body = {"workspace": ws, "job": {"command": ["true"]}}
    told = tenant.as_role("viewer", ws).post("/explain", json=body).json()
    assert (told["decision"], told["layer"], told["code"]) == ("deny", "access", None)
