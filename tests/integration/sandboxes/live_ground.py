"""Short words for what tests do with sandboxes that live."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
from tests.integration.sandboxes.ground import Ground, until

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service import LiveClient, LiveExecution
from tenantry.capabilities.sandboxes.types.living import ExecWanted, LivePlace
from tenantry.engines.jail.exec_types import ExecOutcome
from tenantry.engines.jail.types import Stream
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

Json = dict[str, Any]


@dataclass(frozen=True)
class LiveGround:
    """Sandboxes of one workspace."""

    ground: Ground

    @property
    def client(self) -> httpx.Client:
        return self.ground.client

    @property
    def path(self) -> str:
        return f"/workspaces/{self.ground.workspace}/sandboxes"

    def post(self, name: str, *, wait: float = 30, **body: Any) -> httpx.Response:
        return self.client.post(self.path, params={"wait": wait}, json={"name": name, **body}, timeout=60)

    def make(self, name: str, **body: Any) -> Json:
        answer = self.post(name, **body)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def run(self, name: str, **body: Any) -> Json:
        """Make one, and see it run."""
        made = self.make(name, **body)
        assert made["status"] == "running", made
        return made

    def get(self, sandbox: Json) -> Json:
        answer = self.client.get(f"{self.path}/{sandbox['id']}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def do(self, sandbox: Json, verb: str, *, wait: float | None = None, **body: Any) -> httpx.Response:
        return self.client.post(
            f"{self.path}/{sandbox['id']}/{verb}",
            params=None if wait is None else {"wait": wait},
            json=body if verb in ("extend", "snapshot", "fork") else None,
            timeout=60,
        )

    def done(self, sandbox: Json, verb: str, *, wait: float | None = None, **body: Any) -> Json:
        answer = self.do(sandbox, verb, wait=wait, **body)
        assert answer.status_code in (200, 201), answer.text
        found: Json = answer.json()
        return found

    def stopped(self, sandbox: Json) -> Json:
        return self.done(sandbox, "stop", wait=30)

    def until_status(self, sandbox: Json, status: str, *, seconds: float = 20.0) -> Json:
        def look() -> Json | None:
            found = self.get(sandbox)
            return found if found["status"] == status else None

        found = until(look, seconds=seconds)
        assert found is not None
        return found


async def place_of(parts: Parts, ground: Ground, sandbox: Json) -> LivePlace:
    """Where a running sandbox answers, as its rows say."""
    scope = TenantScope(tenant_id=ground.tenant_id, region=ground.tenant.region, actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        found = await repository.find_sandbox(session, parse_id(Prefix.SANDBOX, sandbox["id"]), workspace_id=None)
    assert found is not None
    assert found.job is not None
    assert found.job_id is not None
    assert found.job.link is not None
    return LivePlace(found.sandbox_id, found.job_id, found.job.link)


@contextlib.asynccontextmanager
async def executing(place: LivePlace, *command: str, **wanted: Any) -> AsyncIterator[LiveExecution]:
    execution = await LiveClient().exec(place, ExecWanted(command=command, **wanted))
    try:
        yield execution
    finally:
        await execution.close()


async def run_in(place: LivePlace, *command: str, **wanted: Any) -> tuple[ExecOutcome, dict[Stream, bytes]]:
    """Run a program to its end."""
    said = dict.fromkeys(Stream, b"")
    async with executing(place, *command, **wanted) as execution:
        execution.close_stdin()
        while (piece := await execution.read()) is not None:
            said[piece[0]] += piece[1]
        return await execution.wait(), said
