"""The guard: one function before every route. authenticate → bind → decide → work → commit, in that order.

It is one function on purpose: a chain of dependencies with `yield` costs half of the throughput (ADR 0005).
"""

import hmac
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import Counter
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tenantry.capabilities.access.errors import permission_missing
from tenantry.capabilities.access.service import WorkspaceState, decide
from tenantry.capabilities.access.types import Caller, Circumstances, Decision, Permission
from tenantry.capabilities.audit.service import collecting
from tenantry.capabilities.audit.types import Outcome
from tenantry.capabilities.tenants.errors import workspace_closed
from tenantry.capabilities.tenants.types import PLATFORM_TENANT, WorkspaceStatus
from tenantry.foundation import idempotency
from tenantry.foundation.errors import ErrorKind, Invalid, TenantryError
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import TenantScope, scoped
from tenantry.foundation.telemetry import REQUEST_SECONDS, REQUESTS, trace_id_of
from tenantry.interfaces.api import problems, receipts
from tenantry.interfaces.api.bodies import StrictRequest, read_body
from tenantry.interfaces.api.context import Place, not_found, place_of, visitor_of
from tenantry.interfaces.api.credentials import admit, presented
from tenantry.interfaces.api.judgement import Judgement
from tenantry.interfaces.api.proxies import client_address
from tenantry.interfaces.api.rates import count, headers_of
from tenantry.interfaces.api.routing import Mark, Reach, RouteSpec
from tenantry.interfaces.api.runtime import Runtime
from tenantry.interfaces.api.unit import Unchanged, Unit

Handler = Callable[[Request], Awaitable[Response]]

_IDEMPOTENCY_KEY: Final = re.compile(r"^[\x21-\x7e]{1,200}$")
_PLAIN_ID: Final = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
_NO_THINGS: Final = frozenset({"tenant", "ws", "port", "path"})
"""Parameters of a path that name a place, or what is inside of a thing."""
_HEADERS: Final = tuple((name.lower().encode(), value.encode()) for name, value in problems.HEADERS.items())
_log = structlog.get_logger(__name__)


def guard(spec: RouteSpec, handler: Handler, runtime: Runtime) -> Handler:
    """Put the guard before a route's handler."""
    counts: dict[int, Counter] = {}
    observe = REQUEST_SECONDS.labels(spec.path).observe

    async def guarded(plain: Request) -> Response:
        started = time.perf_counter()
        request = StrictRequest(plain.scope, plain.receive)
        trace_id = trace_id_of(request.headers.get("traceparent"))
        request.state.trace_id = trace_id
        try:
            response = await _serve(request, spec=spec, handler=handler, runtime=runtime, trace_id=trace_id)
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - nothing of an error of ours may reach a caller
            ip = request.client.host if request.client else None
            response = problems.problem_of_any(error, route=spec.path, ip=ip, trace_id=trace_id)
        if (verdict := getattr(request.state, "rate", None)) is not None:
            response.raw_headers += headers_of(verdict)
        status = response.status_code
        if (counter := counts.get(status)) is None:
            counter = counts[status] = REQUESTS.labels(spec.path, spec.method, status)
        counter.inc()
        observe(time.perf_counter() - started)
        return response

    return guarded


async def _serve(
    request: StrictRequest, *, spec: RouteSpec, handler: Handler, runtime: Runtime, trace_id: str
) -> Response:
    _require_readable(request)
    if spec.needs is Mark.PUBLIC:
        return await _serve_anybody(request, spec=spec, handler=handler, runtime=runtime)
    ip = client_address(request, runtime.settings.server.trusted_proxies)
    caller = await admit(request, spec=spec, runtime=runtime, ip=ip)
    try:
        caller = await visitor_of(request, spec=spec, caller=caller, runtime=runtime)
        place = await place_of(request, spec=spec, caller=caller, runtime=runtime)
        await count(request, spec=spec, caller=caller, place=place, runtime=runtime)
        judgement = await _judge(request, spec=spec, caller=caller, place=place, runtime=runtime)
        await _require_feature(spec, place=place, runtime=runtime)
    except TenantryError as error:
        # Of many that are over a rate, the first.
        if error.kind is not ErrorKind.EXHAUSTED or getattr(request.state, "rate_news", True):
            own = Place(tenant_id=caller.tenant_id, region=caller.region, workspace_id=caller.workspace_id)
            scope = _scope(own, caller=caller, ip=ip, trace_id=trace_id)
            _note_refusal(scope, spec=spec, request=request, error=error, runtime=runtime)
        raise
    scope = _scope(place, caller=caller, ip=ip, trace_id=trace_id, decision=judgement.decision)
    body = await _body_of(request, spec=spec, runtime=runtime)
    unit = Unit(
        runtime=runtime,
        request=request,
        caller=caller,
        scope=scope,
        judgement=judgement,
        lifecycle=place.lifecycle,
        about=place.about,
    )
    request.state.unit = unit
    with collecting() as unit.recorded:
        work = _worked(unit, spec=spec, handler=handler, body=body)
        response = await (work if spec.progress is None else spec.progress(unit, work))
    return _finish(unit, response, spec=spec)


async def _worked(unit: Unit, *, spec: RouteSpec, handler: Handler, body: bytes) -> Response:
    request, scope = unit.request, unit.scope
    with scoped(scope):
        try:
            return await _work(unit, spec=spec, handler=handler, body=body)
        except TenantryError as error:
            await unit.session.rollback()
            if error.kind in (ErrorKind.DENIED, ErrorKind.NOT_FOUND, ErrorKind.EXHAUSTED):
                _note_refusal(scope, spec=spec, request=request, error=error, runtime=unit.runtime)
            raise
        except BaseException:
            await unit.session.rollback()
            raise
        finally:
            # Else unit and request hold each other until a collection, which then stops everybody for 25 ms.
            del request.state.unit


async def _body_of(request: StrictRequest, *, spec: RouteSpec, runtime: Runtime) -> bytes:
    if spec.raw_body or spec.method == "GET":
        return b""
    return await read_body(request, limit=runtime.settings.server.max_body_bytes, document=spec.document)


async def _serve_anybody(request: StrictRequest, *, spec: RouteSpec, handler: Handler, runtime: Runtime) -> Response:
    request.state.runtime = runtime
    if spec.method == "GET":
        return await handler(request)
    await read_body(request, limit=runtime.settings.server.max_body_bytes)
    with collecting() as recorded:
        response = await handler(request)
    # What it shows is as secret as what a credential opens.
    response.raw_headers += (*_HEADERS, *receipts.headers_of(recorded, runtime))
    return response


def _require_readable(request: Request) -> None:
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise Invalid("address_unreadable", "the address holds NUL", layer="guard")


def _scope(
    place: Place, *, caller: Caller, ip: str | None, trace_id: str, decision: Decision | None = None
) -> TenantScope:
    return TenantScope(
        tenant_id=place.tenant_id,
        region=place.region,
        actor=caller.actor,
        workspace_id=place.workspace_id,
        ip=ip,
        trace_id=trace_id,
        allowed_by=decision.source or "" if decision is not None and decision.allowed else "",
    )


async def _judge(request: Request, *, spec: RouteSpec, caller: Caller, place: Place, runtime: Runtime) -> Judgement:
    """Refuse what is not allowed there. A workspace the caller has no say in reads as absent.

    What depends on the thing itself is left to the handler, which reads it; `Unit.settle` sees to it (ADR 0021).
    """
    workspace_id, needs = place.workspace_id, spec.needs
    if not isinstance(needs, Permission):
        if workspace_id not in (None, caller.workspace_id):
            await _require_known(request, caller=caller, workspace_id=workspace_id, runtime=runtime)
        return Judgement()
    if place.lifecycle:
        return _required(Permission.PLATFORM_ADMIN, decide(caller.access, Permission.PLATFORM_ADMIN))
    if workspace_id is None:
        decision = decide(caller.access, needs)
        if spec.reach is Reach.ANYWHERE and not decision.allowed and caller.access.holds_anywhere(needs):
            return Judgement(needs, decision, lists=True)
        return _required(needs, decision)
    state = await _require_known(request, caller=caller, workspace_id=workspace_id, runtime=runtime)
    environment = request.path_params.get("environment")
    about = Circumstances(path=state.path, told=environment is not None, environment=environment)
    judgement = _required(needs, decide(caller.access, needs, workspace_id, about), about=about)
    if state.status is not WorkspaceStatus.ACTIVE and not spec.reads and not spec.closed_too:
        raise workspace_closed(state.status)
    return judgement


async def _require_feature(spec: RouteSpec, *, place: Place, runtime: Runtime) -> None:
    if spec.feature is not None:
        await runtime.features.require(spec.feature, place.tenant_id, region=place.region)


def _required(permission: Permission, decision: Decision, *, about: Circumstances | None = None) -> Judgement:
    if not decision.allowed and not decision.conditional:
        raise permission_missing(permission, decision)
    return Judgement(permission, decision, about or Circumstances())


async def _require_known(request: Request, *, caller: Caller, workspace_id: UUID, runtime: Runtime) -> WorkspaceState:
    """Tell a workspace's state; raises NotFound for one that is not the caller's to know of."""
    own = caller.workspace_id in (None, workspace_id)
    state = await runtime.admission.workspace_state(caller, workspace_id) if own else None
    if state is None or not caller.access.knows(workspace_id):
        await _note_blocked_region(request, caller=caller, workspace_id=workspace_id, runtime=runtime)
        raise not_found()
    return state


async def _work(unit: Unit, *, spec: RouteSpec, handler: Handler, body: bytes) -> Response:
    key = unit.request.headers.get("idempotency-key")
    if spec.method != "POST" or spec.replay is None or key is None:
        response = await _handled(unit, handler)
        await _commit(unit)
        return response
    if not _IDEMPOTENCY_KEY.match(key):
        raise Invalid("idempotency_key_invalid", "Idempotency-Key: 1 to 200 printable characters", layer="idempotency")
    principal = unit.caller.principal
    request_line = f"{spec.method} {unit.request.url.path}?{unit.request.url.query}\n".encode()
    digest = hmac.digest(unit.runtime.digest_key, request_line + body, "sha256")
    before = await idempotency.begin(unit.session, principal_id=principal, key=key, digest=digest)
    if before is not None:
        shown = await spec.replay(unit, before.resource_id)
        await unit.settle()
        content = shown.model_dump(mode="json", exclude_unset=True) if isinstance(shown, BaseModel) else shown
        return JSONResponse(content, status_code=before.status_code, headers={"Idempotency-Replayed": "true"})

    async def remember() -> None:
        resource = unit.resource_id or _resource_id(unit.request, unit.scope)
        await idempotency.remember(
            unit.session,
            principal_id=principal,
            key=key,
            digest=digest,
            status_code=spec.status,
            resource_id=resource,
        )

    unit.on_settle = remember
    response = await handler(unit.request)
    await _commit(unit)
    return response


async def _handled(unit: Unit, handler: Handler) -> Response:
    try:
        return await handler(unit.request)
    except Unchanged:
        return Response(status_code=304)


async def _commit(unit: Unit) -> None:
    await unit.settle()
    if unit.session.revokes:
        # Other processes hear of it by their links; this one, whose caller may ask at once, knows already.
        unit.runtime.admission.forget(unit.scope.tenant_id.hex)
        unit.runtime.book.forget(unit.scope.tenant_id.hex)
        unit.runtime.policies.forget(unit.scope.tenant_id.hex)
    for follow in unit.afterwards:
        await follow()


async def readmit(unit: Unit, needs: Permission) -> Unit:
    """Admit, place and decide anew for the next batch of a stream; gives a unit of its own, to be used and left."""
    runtime, request, about = unit.runtime, unit.request, unit.judgement.about
    caller = await runtime.admission.authenticate(presented(request, runtime), ip=unit.scope.ip)
    if unit.lifecycle:  # an administrator of the installation, at what is its business of every tenant
        judgement = _required(Permission.PLATFORM_ADMIN, decide(caller.access, Permission.PLATFORM_ADMIN))
        return Unit(
            runtime=runtime, request=request, caller=caller, scope=unit.scope, judgement=judgement, lifecycle=True
        )
    if caller.tenant_id == PLATFORM_TENANT != unit.scope.tenant_id:
        caller = await runtime.admission.visit(caller, await runtime.directory.get(unit.scope.tenant_id))
    decision = decide(caller.access, needs, unit.scope.workspace_id, about)
    if caller.tenant_id != unit.scope.tenant_id or not decision.allowed:
        raise permission_missing(needs, decision)
    judgement = Judgement(needs, decision, about)
    return Unit(runtime=runtime, request=request, caller=caller, scope=unit.scope, judgement=judgement, lifecycle=False)


def _finish(unit: Unit, response: Response, *, spec: RouteSpec) -> Response:
    """Record what has left no event yet, a read or a call without effect, and complete the answer."""
    if not unit.recorded and not spec.recorded:
        _note_use(unit, spec=spec)
    # Appended as they are: no route sets these, and looking for them first costs more than writing them.
    response.raw_headers += (*_HEADERS, (b"x-trace-id", unit.scope.trace_id.encode()))
    response.raw_headers += receipts.headers_of(unit.recorded, unit.runtime)
    if unit.etag is not None:
        response.headers["ETag"] = unit.etag
    if isinstance(response, StreamingResponse):
        response.body_iterator = _streamed(response.body_iterator, unit.scope)
    return response


def _note_use(unit: Unit, *, spec: RouteSpec) -> None:
    trail, asked = unit.runtime.trails[unit.scope.region], {"method": spec.method, "route": spec.path}
    thing = _resource_id(unit.request, unit.scope)
    if spec.reads:
        trail.read(unit.scope, action=_action(spec), resource_type=_noun(spec), resource_id=thing)
    else:
        trail.note(unit.scope, action=_action(spec), resource_type=_noun(spec), resource_id=thing, details=asked)


async def _streamed(body: AsyncIterable[Any], scope: TenantScope) -> AsyncIterator[Any]:
    """Give a stream its request's scope: the server takes its parts when the guard has long left it.

    Entered anew for each part, because whoever takes the parts would else keep the scope between them.
    """
    parts = aiter(body)
    try:
        while True:
            with scoped(scope):
                try:
                    part = await anext(parts)
                except StopAsyncIteration:
                    return
            yield part
    finally:
        if (close := getattr(parts, "aclose", None)) is not None:
            with scoped(scope):
                await close()


def _note_refusal(
    scope: TenantScope, *, spec: RouteSpec, request: Request, error: TenantryError, runtime: Runtime
) -> None:
    runtime.trails[scope.region].note(
        scope,
        action=_action(spec),
        resource_type=_noun(spec),
        resource_id=_resource_id(request, scope),
        outcome=Outcome.DENIED,
        reason=error.code,
        details={"method": spec.method, "route": spec.path},
    )


async def _note_blocked_region(request: Request, *, caller: Caller, workspace_id: UUID, runtime: Runtime) -> None:
    """Record a reach into another region, which the answer does not tell from an absent id."""
    other = await runtime.admission.is_elsewhere(caller, workspace_id)
    if other is None:
        return
    ip = client_address(request, runtime.settings.server.trusted_proxies)
    own = Place(tenant_id=caller.tenant_id, region=caller.region, workspace_id=None)
    scope = _scope(own, caller=caller, ip=ip, trace_id=request.state.trace_id)
    runtime.trails[caller.region].note(
        scope,
        action="region.blocked",
        resource_type="workspace",
        resource_id=format_id(Prefix.WORKSPACE, workspace_id),
        outcome=Outcome.DENIED,
        reason="wrong_region",
        details={"region": other, "route": request.url.path[:200]},
    )
    _log.warning("region.blocked", region=other)


def _action(spec: RouteSpec) -> str:
    """Name what was asked for: the permission as an action; of a marked route, its own name."""
    if isinstance(spec.needs, Permission):
        return spec.needs.replace(":", ".")
    return f"{_noun(spec)}.{'read' if spec.reads else 'asked'}"


def _noun(spec: RouteSpec) -> str:
    return spec.needs.partition(":")[0] if isinstance(spec.needs, Permission) else spec.path.split("/")[1]


def _resource_id(request: Request, scope: TenantScope) -> str:
    """Name the innermost thing of the path, else the workspace, else the tenant."""
    named = [value for name, value in request.path_params.items() if name not in _NO_THINGS]
    if named:
        return named[-1] if _PLAIN_ID.match(named[-1]) else "malformed"
    if scope.workspace_id is not None:
        return format_id(Prefix.WORKSPACE, scope.workspace_id)
    return format_id(Prefix.TENANT, scope.tenant_id)
