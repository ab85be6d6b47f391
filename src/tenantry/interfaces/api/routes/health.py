"""Whether the process lives, whether it is ready, and what it measures."""

import asyncio
from ipaddress import ip_address
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from tenantry.foundation.errors import Denied, TenantryError
from tenantry.interfaces.api.routing import Mark, RouteRegistry
from tenantry.interfaces.api.runtime import Runtime

routes = RouteRegistry()


@routes.get("/health", needs=Mark.PUBLIC)
async def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@routes.get("/readiness", needs=Mark.PUBLIC)
async def readiness(request: Request) -> Response:
    """Every part that requests need answers; 503 and the name of the part otherwise."""
    return await _ready(request.state.runtime)


@routes.get("/readyz", needs=Mark.PUBLIC)
async def readyz(request: Request) -> Response:
    """The same, under the name that orchestrators ask for."""
    return await _ready(request.state.runtime)


@routes.get("/metrics", needs=Mark.PUBLIC, media_type="text/plain")
async def metrics(request: Request) -> Response:
    """Prometheus metrics, without tenant labels; only for a scraper on this machine (or a proxy there)."""
    from prometheus_client import generate_latest

    from tenantry.foundation.telemetry import REGISTRY

    host = request.client.host if request.client else ""
    if not host or not ip_address(host).is_loopback or "x-forwarded-for" in request.headers:
        raise Denied("metrics_local_only", "metrics are for the scraper on this machine", layer="guard")
    return Response(generate_latest(REGISTRY), media_type="text/plain; version=0.0.4")


async def _ready(runtime: Runtime) -> Response:
    checks: dict[str, Any] = {}

    async def check(name: str, work: Any) -> None:
        try:
            async with asyncio.timeout(2):
                await work
            checks[name] = "ok"
        except (TenantryError, TimeoutError) as error:
            checks[name] = error.code if isinstance(error, TenantryError) else "timeout"

    await check("directory", runtime.directory.find("platform"))
    for cell in runtime.cells:
        await check(f"database.{cell.region}", cell.ping())
        configured = runtime.settings.regions.get(cell.region)
        if configured is not None and configured.redis_url is not None:
            await check(f"caches.{cell.region}", runtime.caches[cell.region].ready())
    ready = all(value == "ok" for value in checks.values())
    return JSONResponse(
        {"status": "ready" if ready else "unavailable", "checks": checks}, status_code=200 if ready else 503
    )
