"""Sandboxes that live: made, started, stopped, kept, forked. What speaks with a running one has routes of its own."""

import asyncio
import contextlib
import hashlib
from typing import Annotated, Final

from fastapi import Query, Request
from starlette.responses import Response

from tenantry.capabilities.access.errors import permission_missing
from tenantry.capabilities.access.service import joined
from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types import Action
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.sandboxes.types.living import (
    LiveSandbox,
    LiveState,
    SandboxChanges,
    Starter,
)
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.sandbox_forms import (
    ExtensionBody,
    ForkBody,
    SandboxAnswer,
    SandboxBody,
    SandboxChangesBody,
    SnapshotAnswer,
    SnapshotBody,
    render,
    render_snapshot,
)
from tenantry.interfaces.api.schema import CursorText, Limit, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_SETTLED: Final = frozenset({LiveState.RUNNING, LiveState.STOPPED, LiveState.FAILED})
Wait = Annotated[float, Query(ge=0, le=300, description="seconds to hold the answer until it runs, or has stopped")]


async def read_sandbox(unit: Unit, resource_id: str) -> LiveSandbox:
    """Find a sandbox that the caller may have to do with; raises NotFound, Denied."""
    found = await unit.sandboxes.get(parse_id(Prefix.SANDBOX, resource_id), workspace_id=unit.workspace_id)
    unit.judge(environment=found.environment, labels=found.labels)
    return found


async def _again(unit: Unit, resource_id: str) -> SandboxAnswer:
    if resource_id.startswith(f"{Prefix.JOB}_"):
        await _raise_again(unit, resource_id)
    return _shown(unit, await read_sandbox(unit, resource_id))


async def _raise_again(unit: Unit, resource_id: str) -> None:
    """Refuse as the first time, when no sandbox was made and the refusal was recorded as a job."""
    job = await unit.jobs.get(parse_id(Prefix.JOB, resource_id), workspace_id=unit.workspace_id)
    unit.judge(environment=job.environment, labels=job.labels)
    if (refusal := await unit.jobs.find_refusal(job)) is not None:
        raise refusal


@routes.post(
    "/workspaces/{ws}/sandboxes",
    needs=Permission.SANDBOX_CREATE,
    replay=_again,
    status=201,
    action=Action.JOB_SUBMISSIONS,
    feature=Feature.ORCHESTRATION,
)
async def create_sandbox(request: Request, ws: str, body: SandboxBody, wait: Wait = 0) -> SandboxAnswer:
    """Make a sandbox that lives until it is stopped, and start it."""
    unit = unit_of(request)
    unit.judge(environment=body.environment, labels=body.labels)
    if body.environment is not None:
        await unit.environments.require(body.environment)
    starter = _starter(unit, *_beside(secrets=bool(body.secrets), start=body.start))
    made, refusal = await unit.sandboxes.create(
        body.wanted, workspace_id=unit.workspace_id, starter=starter, start=body.start
    )
    return await _made(unit, made, refusal, wait=wait)


@routes.get("/workspaces/{ws}/sandboxes", needs=Permission.SANDBOX_READ)
async def list_sandboxes(
    request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[SandboxAnswer]:
    """Sandboxes of the workspace, newest first."""
    unit = unit_of(request)
    found = await unit.sandboxes.list_sandboxes(
        workspace_id=unit.workspace_id, before=after(unit, cursor), limit=limit + 1
    )
    items = [render(each) for each in found]
    return Page[SandboxAnswer](**page(unit, items, ids=[each.sandbox_id for each in found], limit=limit))


@routes.get("/workspaces/{ws}/sandboxes/{sandbox}", needs=Permission.SANDBOX_READ)
async def get_sandbox(request: Request, ws: str, sandbox: str) -> SandboxAnswer:
    """One sandbox."""
    unit = unit_of(request)
    return _shown(unit, await read_sandbox(unit, sandbox))


@routes.patch("/workspaces/{ws}/sandboxes/{sandbox}", needs=Permission.SANDBOX_UPDATE)
async def change_sandbox(request: Request, ws: str, sandbox: str, body: SandboxChangesBody) -> SandboxAnswer:
    """Change labels, how long it lives from a start on, and how long it may be idle."""
    unit = unit_of(request)
    found = await read_sandbox(unit, sandbox)
    if body.labels is not None:
        unit.judge(environment=found.environment, labels=body.labels)
    changes = SandboxChanges(labels=body.labels, ttl_seconds=body.ttl_seconds, idle_seconds=body.idle_seconds)
    changed = await unit.sandboxes.change(
        found.sandbox_id, changes, workspace_id=unit.workspace_id, if_version=unit.if_version
    )
    return _shown(unit, changed)


@routes.delete(
    "/workspaces/{ws}/sandboxes/{sandbox}", needs=Permission.SANDBOX_DELETE, status=204, media_type="", closed_too=True
)
async def delete_sandbox(request: Request, ws: str, sandbox: str) -> Response:
    """End a sandbox, with its kept files and its snapshots."""
    unit = unit_of(request)
    found = await read_sandbox(unit, sandbox)
    await unit.sandboxes.delete(found.sandbox_id, workspace_id=unit.workspace_id, if_version=unit.if_version)
    return Response(status_code=204)


@routes.post(
    "/workspaces/{ws}/sandboxes/{sandbox}/start",
    needs=Permission.SANDBOX_START,
    replay=_again,
    action=Action.JOB_SUBMISSIONS,
    feature=Feature.ORCHESTRATION,
)
async def start_sandbox(request: Request, ws: str, sandbox: str, wait: Wait = 0) -> SandboxAnswer:
    """Start a stopped sandbox, with the files that its stop has kept; one that runs stays as it is."""
    unit = unit_of(request)
    found = await read_sandbox(unit, sandbox)
    starter = _starter(unit, *_beside(secrets=bool(found.secrets), start=False))
    started, refusal = await unit.sandboxes.start(
        found.sandbox_id, workspace_id=unit.workspace_id, starter=starter, if_version=unit.if_version
    )
    unit.resource_id = format_id(Prefix.SANDBOX, found.sandbox_id)
    if refusal is not None:
        await unit.settle()  # what was denied is recorded, whoever is refused
        raise refusal
    return _shown(unit, await _wait(unit, started, seconds=wait))


@routes.post("/workspaces/{ws}/sandboxes/{sandbox}/stop", needs=Permission.SANDBOX_STOP, replay=_again, closed_too=True)
async def stop_sandbox(request: Request, ws: str, sandbox: str, wait: Wait = 0) -> SandboxAnswer:
    """Kill what runs in it; its files are kept where its workspace keeps content (`files_kept`), else they go."""
    unit = unit_of(request)
    found = await read_sandbox(unit, sandbox)
    stopped = await unit.sandboxes.stop(found.sandbox_id, workspace_id=unit.workspace_id, if_version=unit.if_version)
    return _shown(unit, await _wait(unit, stopped, seconds=wait))


@routes.post("/workspaces/{ws}/sandboxes/{sandbox}/extend", needs=Permission.SANDBOX_UPDATE, replay=_again)
async def extend_sandbox(request: Request, ws: str, sandbox: str, body: ExtensionBody) -> SandboxAnswer:
    """Let a running sandbox live longer, as long as a job may run at most."""
    unit = unit_of(request)
    found = await read_sandbox(unit, sandbox)
    return _shown(
        unit,
        await unit.sandboxes.extend(found.sandbox_id, workspace_id=unit.workspace_id, seconds=body.seconds),
    )


async def _snapshot_again(unit: Unit, resource_id: str) -> SnapshotAnswer:
    sandbox_id, _, snapshot_id = resource_id.partition("/")
    found = await read_sandbox(unit, sandbox_id)
    return render_snapshot(
        await unit.snapshots.get(
            found.sandbox_id, parse_id(Prefix.SNAPSHOT, snapshot_id), workspace_id=unit.workspace_id
        )
    )


@routes.post(
    "/workspaces/{ws}/sandboxes/{sandbox}/snapshot", needs=Permission.SANDBOX_UPDATE, replay=_snapshot_again, status=201
)
async def take_snapshot(request: Request, ws: str, sandbox: str, body: SnapshotBody) -> SnapshotAnswer:
    """Keep its files as they are now under a name."""
    unit = unit_of(request)
    found = await read_sandbox(unit, sandbox)
    snapshot = await unit.snapshots.take(
        found.sandbox_id, workspace_id=unit.workspace_id, name=body.name, principal=unit.caller.principal
    )
    unit.resource_id = (
        f"{format_id(Prefix.SANDBOX, found.sandbox_id)}/{format_id(Prefix.SNAPSHOT, snapshot.snapshot_id)}"
    )
    return render_snapshot(snapshot)


@routes.get("/workspaces/{ws}/sandboxes/{sandbox}/snapshots", needs=Permission.SANDBOX_READ)
async def list_snapshots(
    request: Request, ws: str, sandbox: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[SnapshotAnswer]:
    """Snapshots of a sandbox, oldest first."""
    unit = unit_of(request)
    owner = await read_sandbox(unit, sandbox)
    found = await unit.snapshots.list_snapshots(
        owner.sandbox_id, workspace_id=unit.workspace_id, after=after(unit, cursor), limit=limit + 1
    )
    items = [render_snapshot(each) for each in found]
    return Page[SnapshotAnswer](**page(unit, items, ids=[each.snapshot_id for each in found], limit=limit))


@routes.delete(
    "/workspaces/{ws}/sandboxes/{sandbox}/snapshots/{snapshot}",
    needs=Permission.SANDBOX_DELETE,
    status=204,
    media_type="",
)
async def delete_snapshot(request: Request, ws: str, sandbox: str, snapshot: str) -> Response:
    """Delete a snapshot; what was forked from it stays."""
    unit = unit_of(request)
    owner = await read_sandbox(unit, sandbox)
    await unit.snapshots.delete(owner.sandbox_id, parse_id(Prefix.SNAPSHOT, snapshot), workspace_id=unit.workspace_id)
    return Response(status_code=204)


@routes.post(
    "/workspaces/{ws}/sandboxes/{sandbox}/fork",
    needs=Permission.SANDBOX_CREATE,
    replay=_again,
    status=201,
    action=Action.JOB_SUBMISSIONS,
    feature=Feature.ORCHESTRATION,
)
async def fork_sandbox(request: Request, ws: str, sandbox: str, body: ForkBody, wait: Wait = 0) -> SandboxAnswer:
    """Make another sandbox like this one, from a snapshot of it or from its files as they are."""
    unit = unit_of(request)
    found = await read_sandbox(unit, sandbox)
    starter = _starter(unit, *_beside(secrets=bool(found.secrets), start=body.start))
    made, refusal = await unit.snapshots.fork(
        found.sandbox_id,
        workspace_id=unit.workspace_id,
        name=body.name,
        starter=starter,
        snapshot_id=parse_id(Prefix.SNAPSHOT, body.snapshot) if body.snapshot else None,
        start=body.start,
    )
    return await _made(unit, made, refusal, wait=wait)


def _starter(unit: Unit, *needed: Permission) -> Starter:
    """Ask for what it takes beside what the route asks for; one grant at most may be what alone allows all of it."""
    decision = unit.judgement.decision
    for permission in needed:
        own = unit.require(permission)
        decision = own if decision is None else joined(decision, own)
        if not decision.allowed:
            raise permission_missing(permission, decision)
    return Starter(unit.caller.principal, decision.grant_id if decision else None)


def _beside(*, secrets: bool, start: bool) -> list[Permission]:
    return [Permission.SANDBOX_START] * start + [Permission.SECRET_USE] * secrets


async def _made(unit: Unit, made: LiveSandbox, refusal: Denied | None, *, wait: float) -> SandboxAnswer:
    if refusal is not None:
        unit.resource_id = format_id(Prefix.JOB, made.job_id) if made.job_id else None
        await unit.settle()  # what was denied is recorded, whoever is refused
        raise refusal
    unit.resource_id = format_id(Prefix.SANDBOX, made.sandbox_id)
    return _shown(unit, await _wait(unit, made, seconds=wait))


async def _wait(unit: Unit, sandbox: LiveSandbox, *, seconds: float) -> LiveSandbox:
    """Commit, then hold the answer until it runs or has stopped, or the time is over; no connection is held then."""
    if seconds <= 0 or sandbox.job_id is None or sandbox.state in _SETTLED:
        return sandbox
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    async with unit.runtime.news.following(sandbox.job_id) as news:
        await unit.settle()
        while sandbox.state not in _SETTLED and (left := deadline - loop.time()) > 0:
            # Sweeps of the queue mend lost news; so does a look each second.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 1.0)):
                    await news.wait()
            news.clear()
            sandbox = await unit.sandboxes.get(sandbox.sandbox_id, workspace_id=unit.workspace_id)
            await unit.session.commit()
    return sandbox


def _shown(unit: Unit, sandbox: LiveSandbox) -> SandboxAnswer:
    """Show it under its version, and a digest of what is shown: its state changes without a change of its row."""
    answer = render(sandbox)
    digest = hashlib.sha256(answer.model_dump_json().encode()).hexdigest()[:16]
    unit.show_tag(f"{sandbox.version}.{digest}")
    return answer
