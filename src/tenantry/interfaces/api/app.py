"""Builds the application from the registries of its rooms."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from tenantry import __version__
from tenantry.foundation.telemetry import trace_id_of
from tenantry.interfaces.api import problems
from tenantry.interfaces.api.guard import Handler, guard
from tenantry.interfaces.api.port_access import set_aside_query
from tenantry.interfaces.api.protocol import GONE, SOCKET
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import PREFIX, Mark, RouteSpec
from tenantry.interfaces.api.runtime import Runtime
from tenantry.interfaces.api.sockets import Door, as_request, nothing, refusing, upgrading

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]

_OUTSIDE: Final = ("/health", "/readiness", "/readyz", "/metrics")


class GuardedRoute(APIRoute):
    """A route whose handler only the guard calls."""

    spec: RouteSpec
    runtime: Runtime

    def get_route_handler(self) -> Handler:  # type: ignore[override]
        return guard(self.spec, super().get_route_handler(), self.runtime)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.spec.rest:
            set_aside_query(scope)
        await super().handle(scope, receive, send)


class SocketRoute(GuardedRoute):
    """A WebSocket whose handshake the guard has served; asked without one it says so, to whoever may have it."""

    def get_route_handler(self) -> Handler:  # type: ignore[override]
        return guard(self.spec, upgrading(APIRoute.get_route_handler(self)), self.runtime)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(as_request(scope) if scope["type"] == "websocket" else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await super().handle(scope, receive, send)
            return
        door = Door(receive, send, scope["extensions"][GONE])
        with door.stack:
            await super().handle({**as_request(scope), SOCKET: door}, nothing, refusing(send))


def create_app(runtime: Runtime, *, lifespan: Lifespan | None = None) -> FastAPI:
    """Make the ASGI application; every route of the registry stands behind the guard."""
    app = FastAPI(
        title="Tenantry",
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        exception_handlers={HTTPException: _http_problem},
    )
    for spec in ALL_ROUTES:
        _add(app, spec, runtime)
    app.router.default = partial(_nowhere, app.router.default)
    app.openapi = partial(_document, app)  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """Make the OpenAPI document once; FastAPI knows nothing of the guard's credential."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes, openapi_version="3.1.0")
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["apiKey"] = {"type": "http", "scheme": "bearer", "description": "an API key"}
        app.openapi_schema = document
    return app.openapi_schema


def _add(app: FastAPI, spec: RouteSpec, runtime: Runtime) -> None:
    kind = SocketRoute if spec.socket else GuardedRoute
    route_class = type("Route", (kind,), {"spec": spec, "runtime": runtime})
    options: dict[str, Any] = {"response_class": JSONResponse}
    if spec.media_type is not None:
        options = {"response_class": Response, "response_model": None}
    elif spec.answer is not None:
        options["response_model"] = spec.answer
    path = spec.path if spec.path in _OUTSIDE else f"{PREFIX}{spec.path}"
    if spec.rest:
        path = f"{path.removesuffix('}')}:path}}"
    if spec.rest and spec.method == "GET":
        app.router.add_api_route(
            path, spec.endpoint, methods=["HEAD"], route_class_override=route_class, include_in_schema=False, **options
        )
    app.router.add_api_route(
        path,
        spec.endpoint,
        methods=[spec.method],
        status_code=spec.status,
        route_class_override=route_class,
        operation_id=_operation_id(spec),
        tags=[spec.endpoint.__module__.rpartition(".")[2]],
        openapi_extra={
            "x-permission": spec.needs.value,
            **({"x-websocket": True} if spec.socket else {}),
            "security": [] if spec.needs is Mark.PUBLIC else [{"apiKey": []}],
        },
        responses={
            "default": {"description": "A problem document (RFC 9457)", "content": _PROBLEM},
            **(_FOLLOWED if spec.progress is not None else {}),
        },
        **options,
    )


def _operation_id(spec: RouteSpec) -> str:
    name = f"{spec.endpoint.__module__.rpartition('.')[2]}_{spec.endpoint.__name__}"
    return f"{name}_{spec.method.lower()}" if spec.rest else name


_FOLLOWED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "How far it is, as server-sent events; the last one is `done` or `error`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_PROBLEM: Final = {
    "application/problem+json": {
        "schema": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "code", "layer", "trace_id"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "code": {"type": "string"},
                "layer": {"type": "string"},
                "trace_id": {"type": "string"},
            },
        }
    }
}


async def _nowhere(plain: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a handshake that no route takes as any request that none takes."""
    if scope["type"] != "websocket":
        await plain(scope, receive, send)
        return
    asked = as_request(scope)
    answer = await _http_problem(Request(asked), HTTPException(404))
    await answer(asked, nothing, refusing(send))


async def _http_problem(request: Request, error: Exception) -> Response:
    """Answer what no route answered: unknown paths and methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, detail = {
        404: ("not_found", "there is nothing at this address"),
        405: ("method_not_allowed", "this address does not know the method"),
    }.get(status, ("refused", "the request cannot be served"))
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    trace_id = trace_id_of(request.headers.get("traceparent"))
    return problems.problem(status, code=code, detail=detail, layer="api", trace_id=trace_id, headers=headers)
