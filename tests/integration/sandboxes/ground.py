"""A workspace to run jobs in, and short words for what tests do there."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import httpx
from tests.conftest import Installation, Tenant

from tenantry.entrypoints.addresses import cell_database
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.places import database_of
from tenantry.foundation.ids import Prefix, parse_id

Json = dict[str, Any]
_Found = TypeVar("_Found")


def until(look: Callable[[], _Found], *, seconds: float = 20.0) -> _Found:
    """Look until there is something; what is not there in time is an error."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return found


async def until_async(look: Callable[[], _Found], *, seconds: float = 20.0) -> _Found:
    return await asyncio.to_thread(until, look, seconds=seconds)


@contextlib.asynccontextmanager
async def away(tenant: Tenant) -> AsyncIterator[None]:
    """Let a tenant's own database answer nobody meanwhile."""
    name = database_of(tenant.region, parse_id(Prefix.TENANT, tenant.id))
    server = EmbeddedPostgres(tenant.installation.home).superuser
    connection = await asyncpg.connect(**asdict(server) | {"database": cell_database(tenant.region)})
    try:
        await connection.execute(f"alter database {name} allow_connections false")
        await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
        yield
    finally:
        await connection.execute(f"alter database {name} allow_connections true")
        await connection.close()


@dataclass(frozen=True)
class Ground:
    """One workspace with its owner's client."""

    tenant: Tenant
    workspace: str
    client: httpx.Client

    @property
    def installation(self) -> Installation:
        return self.tenant.installation

    @property
    def jobs(self) -> str:
        return f"/workspaces/{self.workspace}/jobs"

    @property
    def tenant_id(self) -> UUID:
        return parse_id(Prefix.TENANT, self.tenant.id)

    def post(self, *command: str, wait: float = 0, **body: object) -> httpx.Response:
        return self.client.post(self.jobs, params={"wait": wait}, json={"command": list(command), **body})

    def start(self, *command: str, **body: Any) -> str:
        answer = self.post(*command, **body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def run(self, *command: str, **body: object) -> Json:
        answer = self.post(*command, wait=60, **body)
        assert answer.status_code == 202, answer.text
        job: Json = answer.json()
        assert job["finished_at"], job
        return job

    def sh(self, script: str, **body: object) -> Json:
        return self.run("sh", "-c", script, **body)

    def job(self, job_id: str) -> Json:
        answer = self.client.get(f"{self.jobs}/{job_id}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def until_status(self, job_id: str, *statuses: str, seconds: float = 20.0) -> Json:
        def look() -> Json | None:
            job = self.job(job_id)
            return job if job["status"] in statuses else None

        found = until(look, seconds=seconds)
        assert found is not None
        return found

    def ended(self, job_id: str, *, seconds: float = 30.0) -> Json:
        return self.until_status(job_id, "succeeded", "failed", "cancelled", "timed_out", "denied", seconds=seconds)

    def cancel(self, job_id: str) -> httpx.Response:
        return self.client.post(f"{self.jobs}/{job_id}/cancel")

    def log(self, job_id: str, **params: Any) -> Json:
        answer = self.client.get(f"{self.jobs}/{job_id}/logs", params={"follow": "false", **params})
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def lines(self, job_id: str, *streams: str) -> str:
        items = self.log(job_id)["items"]
        return "".join(item["text"] for item in items if not streams or item["stream"] in streams)

    @contextlib.contextmanager
    def follow(self, job_id: str, *, after: int | None = None) -> Iterator[Iterator[Json]]:
        """Follow a log; each event is {event, id?, data}."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        with self.client.stream("GET", f"{self.jobs}/{job_id}/logs", headers=headers, timeout=30) as answer:
            assert answer.status_code == 200
            yield _events(answer.iter_lines())

    def followed(self, job_id: str, *, after: int | None = None) -> list[Json]:
        with self.follow(job_id, after=after) as events:
            return list(events)

    def artifacts(self, job_id: str) -> dict[str, Json]:
        items = self.client.get(f"{self.jobs}/{job_id}/artifacts").json()["items"]
        return {item["path"]: item for item in items}

    def content(self, job_id: str, artifact_id: str) -> httpx.Response:
        return self.client.get(f"{self.jobs}/{job_id}/artifacts/{artifact_id}/content")

    def audit(self, **filters: Any) -> list[Json]:
        answer = self.tenant.owner.get("/audit", params={"limit": 200, **filters})
        assert answer.status_code == 200, answer.text
        items: list[Json] = answer.json()["items"]
        return items

    def audited(self, job_id: str) -> dict[str, Json]:
        """Its events by action; no action of a job comes twice, but for reads."""
        events = [event for event in self.audit(resource=job_id, action="job.") if event["action"] != "job.read"]
        found = {event["action"]: event for event in events}
        assert len(found) == len(events), [event["action"] for event in events]
        return found


def given(path: str, content: bytes) -> Json:
    return {"path": path, "content_base64": base64.b64encode(content).decode()}


def _events(lines: Iterator[str]) -> Iterator[Json]:
    event: Json = {}
    for line in lines:
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = json.loads(value) if name in ("data", "id") else value


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def workers_of(installation: Installation) -> dict[str, int]:
    """The worker processes of an installation, by region."""
    found = {}
    for pid in children(installation.process.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"tenantry.entrypoints.worker" in words:
            found[words[-2].decode()] = pid
    return found
