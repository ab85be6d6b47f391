"""The baseline of rows 1 and 2: the same FastAPI application with the same routes, telemetry, query and rendering,
on an asyncpg pool with its default reset and without the guard. `python -m bench.bare_app HOME TENANT`.

It reads and writes the very same rows, as a role that row level security does not bind.
"""

import asyncio
import gc
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import asyncpg
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.responses import Response

from bench.installation import REGION
from tenantry.capabilities.identity import repository as identity
from tenantry.capabilities.identity.types import PrincipalStatus, ServiceAccount
from tenantry.capabilities.tenants import repository as tenants
from tenantry.entrypoints.addresses import cell_database, embedded_dsn
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, new_id, parse_id
from tenantry.foundation.telemetry import REQUEST_SECONDS, REQUESTS, trace_id_of
from tenantry.interfaces.api import problems
from tenantry.interfaces.api.protocol import BoundedProtocol
from tenantry.interfaces.api.routes import ALL_ROUTES, service_accounts, workspaces
from tenantry.interfaces.api.routing import PREFIX
from tenantry.interfaces.api.unit import Unit

Handler = Callable[[Request], Awaitable[Response]]


class TelemetryRoute(APIRoute):
    """Counts, times and names the trace as the guard does; guards nothing."""

    def get_route_handler(self) -> Handler:  # type: ignore[override]
        inner, path = super().get_route_handler(), self.path.removeprefix(PREFIX)
        observe = REQUEST_SECONDS.labels(path).observe

        async def timed(request: Request) -> Response:
            started = time.perf_counter()
            trace_id = trace_id_of(request.headers.get("traceparent"))
            response = await inner(request)
            response.headers.update(problems.HEADERS)
            response.headers["X-Trace-Id"] = trace_id
            REQUESTS.labels(path, request.method, response.status_code).inc()
            observe(time.perf_counter() - started)
            return response

        return timed


class PlainSession:
    """What the repositories ask of a session, without binding: one query, one pooled connection, default reset."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", tenant_id: UUID) -> None:
        self._pool = pool
        self.scope = SimpleNamespace(tenant_id=tenant_id)

    async def fetchrow(self, query: str, *args: object) -> "asyncpg.Record | None":
        async with self._pool.acquire() as connection:
            return await connection.fetchrow(query, *args)


def create_app(pool: "asyncpg.Pool[asyncpg.Record]", tenant_id: UUID) -> FastAPI:
    plain = PlainSession(pool, tenant_id)
    session, unit = cast("TenantSession", plain), cast("Unit", plain)

    async def get_workspace(request: Request, ws: str) -> workspaces.WorkspaceAnswer:  # noqa: ARG001 - as the route's own
        found = await tenants.find_workspace(session, parse_id(Prefix.WORKSPACE, ws))
        assert found is not None
        return workspaces.render(unit, found)

    async def create_service_account(
        request: Request,  # noqa: ARG001 - as the route's own
        ws: str,
        body: service_accounts.ServiceAccountBody,
    ) -> service_accounts.ServiceAccountAnswer:
        account = ServiceAccount(
            service_account_id=new_id(),
            workspace_id=parse_id(Prefix.WORKSPACE, ws),
            name=body.name,
            status=PrincipalStatus.ACTIVE,
            version=1,
            created_at=datetime.now(UTC),
        )
        assert await identity.insert_service_account(session, account)
        return service_accounts.render(account)

    measured: dict[Callable[..., Any], Callable[..., Any]] = {
        workspaces.get_workspace: get_workspace,
        service_accounts.create_service_account: create_service_account,
    }
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False)
    for spec in ALL_ROUTES:
        # The others are only there to be matched against, as in the product; nobody calls them.
        app.router.add_api_route(
            f"{PREFIX}{spec.path}",
            measured.get(spec.endpoint, _absent),
            methods=[spec.method],
            status_code=spec.status,
            response_class=JSONResponse,
            route_class_override=TelemetryRoute,
        )
    return app


async def _absent() -> None:
    """Stand for a route that the bench does not call."""


async def serve(home: Path, tenant_id: UUID) -> None:
    superuser = EmbeddedPostgres(home).superuser
    dsn = embedded_dsn(home, user=superuser.user, password=superuser.password, database=cell_database(REGION))
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=10,
        init=_prepare,
        server_settings={"search_path": "tenantry, pg_temp", "timezone": "UTC", "jit": "off"},
    )
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    config = uvicorn.Config(
        create_app(pool, tenant_id),
        loop="uvloop",
        http=BoundedProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    await uvicorn.Server(config).serve(sockets=[listener])


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), parse_id(Prefix.TENANT, sys.argv[2])))
