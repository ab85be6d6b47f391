"""Jobs of a workspace."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Query, Request
from pydantic import Field, model_validator
from starlette.responses import Response, StreamingResponse

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types import Action
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.sandboxes.types import HOST_IMAGE, Job, JobStatus, NewJob
from tenantry.engines.rules.types import Connection, Phase
from tenantry.foundation.errors import Denied, Exhausted, Invalid, NotFound, TenantryError
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.guard import readmit
from tenantry.interfaces.api.job_answers import JobAnswer, render, render_line
from tenantry.interfaces.api.job_forms import (
    ConnectionBody,
    InputBody,
    Number,
    PhaseBody,
    PhasesBody,
    SecretUseBody,
    Slug,
    Text,
    VariableName,
)
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Body, CursorText, Limit, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_PAGE_OF_LOG = 500
_KEEPALIVE_SECONDS = 15.0
_ADMISSION_SECONDS = 0.5


class LimitsBody(Body):
    cpus: Annotated[Number, Field(gt=0, le=1024, allow_inf_nan=False)] | None = None
    memory_mib: int | None = Field(default=None, ge=16, le=1 << 24)
    pids: int | None = Field(default=None, ge=1, le=1 << 20)
    timeout_seconds: Annotated[Number, Field(gt=0, le=30 * 86400, allow_inf_nan=False)] | None = None
    output_bytes: int | None = Field(default=None, ge=0, le=1 << 30)
    artifacts_mib: int | None = Field(default=None, ge=0, le=1 << 20)


class JobBody(Body):
    """One program by `command`, or several by `phases`."""

    command: list[Text] | None = Field(default=None, min_length=1, max_length=1000)
    phases: PhasesBody | None = None
    image: str = Field(default=HOST_IMAGE, min_length=1, max_length=300)
    env: dict[VariableName, Text] = Field(default={}, max_length=200)
    inputs: list[InputBody] = Field(default=[], max_length=200)
    artifacts: list[Annotated[str, Field(min_length=1, max_length=500)]] = Field(default=[], max_length=50)
    limits: LimitsBody = LimitsBody()
    labels: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")], Annotated[str, Field(max_length=200)]] = (
        Field(default={}, max_length=50)
    )
    environment: Slug | None = Field(default=None, description="one of the workspace's environments")
    secrets: list[SecretUseBody] = Field(default=[], max_length=32, description="asks for `secret:use`")
    network: list[ConnectionBody] = Field(
        default=[], max_length=64, description="what it may connect to, where a network policy allows it; else nothing"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.command is None) == (self.phases is None):
            raise ValueError("exactly one of command and phases")
        if self.phases is not None and (self.env or self.secrets):
            raise ValueError("with phases, env and secrets belong in one of them")
        return self

    @property
    def programs(self) -> dict[Phase, PhaseBody]:
        """What runs, by phase."""
        if self.phases is not None:
            return self.phases.given
        return {Phase.RUN: PhaseBody(command=self.command or [], env=self.env, secrets=self.secrets)}

    @property
    def uses_secrets(self) -> bool:
        return any(program.secrets for program in self.programs.values())


async def _again(unit: Unit, resource_id: str) -> JobAnswer:
    return render(await read_job(unit, resource_id))


async def _created(unit: Unit, resource_id: str) -> JobAnswer:
    """Answer as the first time, also where that was a refusal."""
    job = await read_job(unit, resource_id)
    if (refusal := await unit.jobs.find_refusal(job)) is not None:
        raise refusal
    return render(job)


async def read_job(unit: Unit, resource_id: str) -> Job:
    """Find a job that the caller may have to do with; raises NotFound, Denied."""
    job = await unit.jobs.get(parse_id(Prefix.JOB, resource_id), workspace_id=unit.workspace_id)
    unit.judge(environment=job.environment, labels=job.labels)
    return job


@routes.post(
    "/workspaces/{ws}/jobs",
    needs=Permission.JOB_CREATE,
    replay=_created,
    status=202,
    action=Action.JOB_SUBMISSIONS,
    feature=Feature.ORCHESTRATION,
)
async def create_job(
    request: Request,
    ws: str,
    body: JobBody,
    wait: Annotated[float, Query(ge=0, le=300, description="seconds to hold the answer until the job ends")] = 0,
) -> JobAnswer:
    """Run one command in a fresh sandbox, or several one after the other, each in its own."""
    unit = unit_of(request)
    unit.judge(environment=body.environment, labels=body.labels)
    if body.environment is not None:
        await unit.environments.require(body.environment)
    grant_id = unit.require_beside(Permission.SECRET_USE) if body.uses_secrets else unit.judgement.grant_id
    new = _new_job(body, grant_id=grant_id)
    job, refusal = await unit.jobs.create(new, workspace_id=unit.workspace_id, principal=unit.caller.principal)
    unit.resource_id = format_id(Prefix.JOB, job.job_id)
    if refusal is not None:
        await unit.settle()  # what was denied is recorded, whoever is refused
        raise refusal
    if wait > 0:
        job = await _wait(unit, job, seconds=wait)
    return render(job)


def _new_job(body: JobBody, *, grant_id: UUID | None) -> NewJob:
    programs = body.programs
    run = programs[Phase.RUN]
    return NewJob(
        command=tuple(run.command),
        image=body.image,
        env=run.env,
        inputs=tuple(each.given for each in body.inputs),
        artifacts=tuple(body.artifacts),
        limits=body.limits.model_dump(exclude_none=True),
        labels=body.labels,
        environment=body.environment,
        grant_id=grant_id,
        secrets=tuple(each.wanted(phase) for phase, program in programs.items() for each in program.secrets),
        network=(
            *(each.connection for each in body.network),
            *(Connection(phase, one.host, one.port) for phase, program in programs.items() for one in program.network),
        ),
        phases=tuple(program.phase(phase) for phase, program in programs.items()) if body.phases is not None else (),
    )


async def rehearse_job(unit: Unit, body: JobBody, *, workspace_id: UUID) -> TenantryError | None:
    """Create a job as its route would, and take it back: what refuses it, None when nothing does.

    The answer is the real one, because it is asked of what really decides; only the metrics count it.
    """
    runtime, scope = unit.runtime, replace(unit.scope, workspace_id=workspace_id)
    about = replace(unit.judgement.about, told=True, environment=body.environment, labels=body.labels)
    inner = Unit(
        runtime=runtime,
        request=unit.request,
        caller=unit.caller,
        scope=scope,
        judgement=replace(unit.judgement, about=about),
        lifecycle=False,
    )
    try:
        if body.uses_secrets:
            inner.require(Permission.SECRET_USE)
        await runtime.features.require(Feature.ORCHESTRATION, scope.tenant_id, region=scope.region)
        if body.environment is not None:
            await inner.environments.require(body.environment)
        new = _new_job(body, grant_id=None)
        _, refusal = await inner.jobs.create(new, workspace_id=workspace_id, principal=unit.caller.principal)
    except (Denied, Exhausted, Invalid) as error:
        return error
    finally:
        await inner.session.rollback()
    return refusal


@routes.get("/workspaces/{ws}/jobs", needs=Permission.JOB_READ)
async def list_jobs(
    request: Request,
    ws: str,
    status: JobStatus | None = None,
    limit: Limit = 50,
    cursor: CursorText = None,
    sandbox: Annotated[str | None, Query(max_length=64, description="those that this sandbox lived by")] = None,
) -> Page[JobAnswer]:
    """Jobs of the workspace, newest first; those that sandboxes live by only where one is named."""
    unit = unit_of(request)
    filters = f"{status}/{sandbox}"
    found = await unit.jobs.list_jobs(
        workspace_id=unit.workspace_id,
        before=after(unit, cursor, filters=filters),
        limit=limit + 1,
        status=status,
        sandbox_id=parse_id(Prefix.SANDBOX, sandbox) if sandbox else None,
    )
    items = [render(job) for job in found]
    return Page[JobAnswer](**page(unit, items, ids=[j.job_id for j in found], limit=limit, filters=filters))


@routes.get("/workspaces/{ws}/jobs/{job}", needs=Permission.JOB_READ)
async def get_job(request: Request, ws: str, job: str) -> JobAnswer:
    """One job."""
    return await _again(unit_of(request), job)


@routes.post("/workspaces/{ws}/jobs/{job}/cancel", needs=Permission.JOB_CANCEL, replay=_again, closed_too=True)
async def cancel_job(request: Request, ws: str, job: str) -> JobAnswer:
    """End a waiting job at once, kill a running one. Cancelling an ended one changes nothing."""
    unit = unit_of(request)
    found = await read_job(unit, job)
    return render(await unit.jobs.cancel(found.job_id, workspace_id=unit.workspace_id))


@routes.get("/workspaces/{ws}/jobs/{job}/receipt", needs=Permission.JOB_READ)
async def get_receipt(request: Request, ws: str, job: str) -> dict[str, Any]:
    """The isolation that the sandbox really had, read back from the kernel."""
    unit = unit_of(request)
    found = await read_job(unit, job)
    if found.receipt is None:
        raise NotFound("receipt_absent", "this job has no receipt (yet): nothing of it has run", layer="sandboxes")
    return {"job": format_id(Prefix.JOB, found.job_id), **found.receipt}


@routes.get("/workspaces/{ws}/jobs/{job}/logs", needs=Permission.JOB_READ, media_type="text/event-stream")
async def get_logs(
    request: Request,
    ws: str,
    job: str,
    follow: bool = True,
    cursor: Annotated[str | None, Query(max_length=20, description="`next_cursor` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = _PAGE_OF_LOG,
) -> Response:
    """Output as server-sent events, resumed after `Last-Event-ID`; with `follow=false` a page of it as JSON."""
    unit = unit_of(request)
    job_id = parse_id(Prefix.JOB, job)
    start = _sequence(request.headers.get("last-event-id") if follow else cursor)
    found, lines = await unit.jobs.read_log(
        job_id, workspace_id=unit.workspace_id, after=start, limit=1 if follow else limit
    )
    unit.judge(environment=found.environment, labels=found.labels)
    if follow:
        return StreamingResponse(_events(unit, found, start), media_type="text/event-stream")
    more = len(lines) == limit
    content = {"items": [render_line(line) for line in lines], "next_cursor": str(lines[-1].seq) if more else None}
    return Response(json.dumps(content), media_type="application/json")


async def _events(unit: Unit, job: Job, last: int) -> AsyncIterator[str]:
    """Stream until the job ends. Each batch is admitted, decided and bound anew; in between no connection is held.

    What is read comes after the subscription, so nothing falls between the two. While nothing is new the credential is
    looked at again, in memory: a revoked one ends the stream within a second.
    """
    quiet = 0.0
    try:
        async with unit.runtime.news.following(job.job_id) as news:
            while True:
                news.clear()
                batch = await readmit(unit, Permission.JOB_READ)
                async with batch.session:
                    job, lines = await batch.jobs.read_log(
                        job.job_id, workspace_id=batch.workspace_id, after=last, limit=_PAGE_OF_LOG
                    )
                for line in lines:
                    last = line.seq
                    yield f"event: log\nid: {line.seq}\ndata: {json.dumps(render_line(line))}\n\n"
                if lines:
                    quiet = 0.0
                    continue
                if job.status.ended:
                    end = {"status": job.status, "exit_code": job.exit_code, "reason": job.reason}
                    yield f"event: end\ndata: {json.dumps(end)}\n\n"
                    return
                while not await _heard(news):
                    await readmit(unit, Permission.JOB_READ)
                    quiet += _ADMISSION_SECONDS
                    if quiet >= _KEEPALIVE_SECONDS:
                        quiet = 0.0
                        yield ": still here\n\n"
                        break
    except TenantryError as error:
        yield f"event: refused\ndata: {json.dumps({'code': error.code, 'detail': error.message})}\n\n"


async def _heard(news: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(_ADMISSION_SECONDS):
            await news.wait()
    except TimeoutError:
        return False
    return True


async def _wait(unit: Unit, job: Job, *, seconds: float) -> Job:
    """Commit, then hold the answer until the job ends or the time is over; no connection is held meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    async with unit.runtime.news.following(job.job_id) as news:
        await unit.settle()
        while not job.status.ended and (left := deadline - loop.time()) > 0:
            # Sweeps of the queue mend lost news; so does a look each second.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 1.0)):
                    await news.wait()
            news.clear()
            job = await unit.jobs.get(job.job_id, workspace_id=unit.workspace_id)
            await unit.session.commit()
    return job


def _sequence(text: str | None) -> int:
    if text is None:
        return 0
    if not text.isdecimal() or len(text) > 18:  # noqa: PLR2004 - bigint
        raise Invalid("cursor_invalid", "cursor: not one of this log", layer="api", field="cursor")
    return int(text)
