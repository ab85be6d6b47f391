"""Jobs over a limit wait their turn, say why, and begin when there is room again."""

from typing import Any

import pytest
from tests.conftest import MakeTenant, Tenant
from tests.integration.limits.test_quotas import change, submit, until

pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture
def tenant(make_tenant: MakeTenant) -> Tenant:
    return make_tenant()


@pytest.fixture
def ws(tenant: Tenant) -> str:
    return tenant.workspace("dev")


def job(tenant: Tenant, ws: str, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = tenant.owner.get(f"/workspaces/{ws}/jobs/{job_id}").json()
    return found


def explained(tenant: Tenant, ws: str, job_id: str) -> dict[str, Any]:
    answer = tenant.owner.get(f"/workspaces/{ws}/jobs/{job_id}/explain")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def running(tenant: Tenant, ws: str) -> str:
    """Start one that runs until it is cancelled."""
    started = str(submit(tenant, ws, "sleep", "60").json()["id"])
    until(lambda: job(tenant, ws, started)["started_at"])
    return started


@pytest.mark.parametrize("holder", ["workspace", "tenant"])
def test_a_job_that_is_one_too_many_waits_says_why_and_begins_when_another_ends(
    tenant: Tenant, ws: str, holder: str
) -> None:
    place = f"/workspaces/{ws}" if holder == "workspace" else f"/tenants/{tenant.id}"
    change(tenant, place, max_concurrent_jobs=1)
    first = running(tenant, ws)
    second = submit(tenant, ws, "true").json()["id"]
    until(lambda: explained(tenant, ws, second)["held_back"])
    told = explained(tenant, ws, second)
    assert told["held_back"] == {"holder": holder, "limit": 1, "running": 1}
    assert (told["status"], told["explanation"]) == (
        "queued",
        f"the {holder} runs 1 jobs, and its max_concurrent_jobs is 1",
    )
    assert told["allow_with"][1] == f"a higher max_concurrent_jobs of the {holder}"
    assert told["starts_in_seconds"] > 0
    assert told["estimated_start_at"]
    assert job(tenant, ws, second)["status"] == "queued"
    assert tenant.owner.post(f"/workspaces/{ws}/jobs/{first}/cancel").status_code == 200
    until(lambda: job(tenant, ws, second)["status"] == "succeeded")
    assert explained(tenant, ws, second)["explanation"] == "it has ended: succeeded, exited"


def test_what_waits_begins_as_soon_as_the_limit_is_raised(tenant: Tenant, ws: str) -> None:
    change(tenant, f"/workspaces/{ws}", max_concurrent_jobs=1)
    first = running(tenant, ws)
    second = submit(tenant, ws, "true").json()["id"]
    until(lambda: explained(tenant, ws, second)["held_back"])
    change(tenant, f"/workspaces/{ws}", max_concurrent_jobs=2)
    until(lambda: job(tenant, ws, second)["status"] == "succeeded")
    assert job(tenant, ws, first)["status"] == "running"
    tenant.owner.post(f"/workspaces/{ws}/jobs/{first}/cancel")


def test_one_workspace_at_its_limit_does_not_hold_another(tenant: Tenant, ws: str) -> None:
    other = tenant.workspace("other")
    change(tenant, f"/workspaces/{ws}", max_concurrent_jobs=1)
    first = running(tenant, ws)
    submit(tenant, ws, "true")
    assert submit(tenant, other, "true", wait=20).json()["status"] == "succeeded"
    tenant.owner.post(f"/workspaces/{ws}/jobs/{first}/cancel")


def test_another_tenants_job_is_explained_to_nobody(tenant: Tenant, ws: str, make_tenant: MakeTenant) -> None:
    stranger = make_tenant()
    own = stranger.workspace("own")
    known = submit(tenant, ws, "true").json()["id"]
    assert stranger.owner.get(f"/workspaces/{own}/jobs/{known}/explain").status_code == 404
    assert stranger.owner.get(f"/workspaces/{ws}/jobs/{known}/explain").status_code == 404
