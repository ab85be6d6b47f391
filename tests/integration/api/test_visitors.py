"""An administrator of the installation gets into a tenant by that tenant's grants alone, which it sees and can end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from tests.conftest import Installation, Tenant
from tests.ending import joined
from tests.integration.api.conftest import Beside, problem
from tests.integration.api.test_roles import within_a_second

pytestmark = pytest.mark.xdist_group("api")

NOT_LET_IN = "platform_no_content"


class Visitor:
    """The platform's first key, naming one tenant."""

    def __init__(self, installation: Installation, tenant: Tenant, workspace: str) -> None:
        self.tenant, self.path = tenant, f"/workspaces/{workspace}"
        self.key = installation.platform_key
        self.client = installation.platform
        self.id = str(installation.platform.get("/me").json()["principal"]["id"])
        self.headers = {"X-Tenant-Id": tenant.slug}

    def get(self, rest: str = "") -> httpx.Response:
        return self.client.get(f"{self.path}{rest}", headers=self.headers)

    def post(self, rest: str, **body: object) -> httpx.Response:
        return self.client.post(f"{self.path}{rest}", headers=self.headers, json=body)

    def asks(self, role: str = "viewer", minutes: int = 10) -> dict[str, Any]:
        answer = self.post("/grants", role=role, minutes=minutes, reason="a job hangs")
        assert answer.status_code == 201, answer.text
        asked: dict[str, Any] = answer.json()
        return asked

    @contextmanager
    def let_in(self, role: str = "viewer") -> Iterator[dict[str, Any]]:
        grant = self.asks(role)
        answer = self.tenant.owner.post(f"{self.path}/approvals/{grant['approval']}/approve", json={})
        assert answer.status_code == 200, answer.text
        try:
            yield grant
        finally:
            self.tenant.owner.post(f"{self.path}/grants/{grant['id']}/revoke", json={})
            within_a_second(lambda: self.get("/jobs"), 403)


@pytest.fixture
def visitor(installation: Installation, acme: Tenant, dev: str) -> Visitor:
    return Visitor(installation, acme, dev)


def test_without_a_grant_nothing_is_shown_and_the_way_is_told(visitor: Visitor) -> None:
    refused = problem(visitor.get("/jobs"), 403, NOT_LET_IN)
    assert refused["allow_with"] == ["a grant of that tenant"]
    problem(visitor.get(), 403, NOT_LET_IN)
    problem(visitor.post("/jobs", command=["true"]), 403, NOT_LET_IN)


def test_what_is_asked_for_opens_nothing_until_the_tenant_agrees(visitor: Visitor, acme: Tenant) -> None:
    grant = visitor.asks()
    assert grant["status"] == "requested"
    assert grant["principal"] == {"type": "platform", "id": visitor.id}
    problem(visitor.get("/jobs"), 403, NOT_LET_IN)
    seen = acme.owner.get(f"{visitor.path}/grants", params={"principal": visitor.id}).json()["items"]
    assert grant["id"] in {item["id"] for item in seen}
    rejected = acme.owner.post(f"{visitor.path}/approvals/{grant['approval']}/reject", json={})
    assert rejected.status_code == 200
    problem(visitor.get("/jobs"), 403, NOT_LET_IN)


def test_nobody_of_the_installation_agrees_for_the_tenant(visitor: Visitor) -> None:
    grant = visitor.asks("workspace-admin")
    problem(visitor.post(f"/approvals/{grant['approval']}/approve"), 403, NOT_LET_IN)
    with visitor.let_in("approver"):
        answer = visitor.post(f"/approvals/{grant['approval']}/approve")
        assert answer.status_code in (403, 409), answer.text
        problem(visitor.post("/jobs", command=["true"]), 403, "permission_missing")


def test_a_grant_opens_that_workspace_with_that_role_and_its_trail_says_who(
    visitor: Visitor, installation: Installation, acme: Tenant, globex: Tenant
) -> None:
    other = acme.workspace(f"other {time.monotonic_ns()}")
    with visitor.let_in() as grant:
        within_a_second(lambda: visitor.get("/jobs"), 200)
        problem(visitor.post("/jobs", command=["true"]), 403, "permission_missing")
        foreign = installation.platform.get(f"/workspaces/{other}/jobs", headers=visitor.headers)
        problem(foreign, 403, "permission_missing")
        elsewhere = installation.platform.get(f"{visitor.path}/jobs", headers={"X-Tenant-Id": globex.slug})
        problem(elsewhere, 403, NOT_LET_IN)
        problem(installation.platform.get(f"/tenants/{acme.id}/members"), 403, "permission_missing")
    deadline = time.monotonic() + 10
    while not (events := _events(acme, actor=visitor.id, action="job.read", outcome="success")):
        assert time.monotonic() < deadline
    assert events[0]["actor"]["chain"] == ["platform"]
    assert events[0]["details"]["allowed_by"] == grant["id"]


def test_the_tenant_ends_it_within_a_second_in_every_process_and_an_open_stream_too(
    visitor: Visitor, acme: Tenant
) -> None:
    job = acme.owner.post(f"{visitor.path}/jobs", json={"command": ["sleep", "60"]}).json()["id"]
    try:
        with visitor.let_in() as grant:
            within_a_second(lambda: visitor.get("/jobs"), 200)
            with visitor.client.stream("GET", f"{visitor.path}/jobs/{job}/logs", headers=visitor.headers) as stream:
                ended = threading.Timer(
                    0.3, lambda: acme.owner.post(f"{visitor.path}/grants/{grant['id']}/revoke", json={})
                )
                ended.start()
                begun = time.monotonic()
                said = "".join(stream.iter_text())
                assert "event: refused" in said
                assert time.monotonic() - begun < 0.3 + 1.5
                joined(ended)
    finally:
        acme.owner.post(f"{visitor.path}/jobs/{job}/cancel")


async def test_another_process_lets_in_and_out_as_fast(visitor: Visitor, beside: Beside) -> None:
    async with beside.client(visitor.key) as there:
        with visitor.let_in():
            at = time.monotonic()
            while (answer := await there.get(f"{visitor.path}/jobs", headers=visitor.headers)).status_code != 200:
                assert time.monotonic() - at < 1, answer.text
        at = time.monotonic()
        while (answer := await there.get(f"{visitor.path}/jobs", headers=visitor.headers)).status_code != 403:
            assert time.monotonic() - at < 1, answer.text


def _events(tenant: Tenant, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = tenant.owner.get("/audit", params=query).json()["items"]
    return items
