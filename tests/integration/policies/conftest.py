"""Policies as callers meet them."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.conftest import MakeTenant, Tenant

YAML = {"Content-Type": "application/yaml"}


@dataclass
class Ground:
    """A tenant of a test's own, and one workspace of it."""

    tenant: Tenant
    ws: str

    @property
    def owner(self) -> httpx.Client:
        return self.tenant.owner

    @property
    def of_workspace(self) -> str:
        return f"/workspaces/{self.ws}"

    @property
    def of_tenant(self) -> str:
        return f"/tenants/{self.tenant.id}"

    def put(self, place: str, kind: str, document: object, state: str = "enforced", **headers: str) -> httpx.Response:
        """Put a text as YAML, anything else as JSON."""
        text = document if isinstance(document, str | bytes) else json.dumps(document)
        sent = {**YAML, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.owner.put(f"{place}/policies/{kind}", params={"state": state}, content=text, headers=sent)

    def enforce(self, place: str, kind: str, document: object, state: str = "enforced") -> dict[str, Any]:
        answer = self.put(place, kind, document, state)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def submit(self, *command: str, wait: int = 0, key: str = "", **fields: object) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        body = {"command": list(command) or ["true"], **fields}
        return self.owner.post(f"{self.of_workspace}/jobs", params={"wait": wait}, json=body, headers=headers)

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.owner.get(f"{self.of_workspace}/jobs/{job_id}").json()
        return found

    def test(self, **spec: object) -> dict[str, Any]:
        answer = self.owner.post(f"{self.of_workspace}/policies/test", json=spec)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def judged(self, **job: object) -> tuple[str, str | None, str | None]:
        """Decision, layer and rule of a job."""
        found = self.test(job={"command": ["true"], **job})
        return found["decision"], found["layer"], found["rule"]

    def exempt(self, place: str, **fields: object) -> httpx.Response:
        body = {"kind": "image", "owner": "ops", "reason": "migration", "expires_at": "2027-06-01T00:00:00Z", **fields}
        return self.owner.post(f"{place}/exemptions", json=body)


@pytest.fixture
def ground(make_tenant: MakeTenant) -> Ground:
    tenant = make_tenant()
    return Ground(tenant, tenant.workspace("dev"))
