"""Two tenants in two regions, and servers beside the running one: in this process, with their own caches and clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.conftest import Installation, MakeTenant, Tenant, on_every_strategy

from tenantry.entrypoints.api_runtime import make_runtime
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.limit_settings import LimitSettings
from tenantry.foundation.settings import DatabaseSettings, RegionSettings, Settings
from tenantry.interfaces.api.app import create_app
from tenantry.interfaces.api.runtime import Runtime

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "layer", "trace_id"}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that an answer is a whole problem document of this kind; gives it."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert set(found) >= PROBLEM_MEMBERS
    assert found["code"] == code, found
    assert found["status"] == status
    assert found["type"] == f"urn:tenantry:problem:{code}"
    assert found["layer"]
    assert len(found["trace_id"]) == 32
    return found


def own_details(event: dict[str, Any]) -> dict[str, Any]:
    """What an event tells of its effect; what allowed it, which every one names, left out."""
    return {name: value for name, value in event["details"].items() if name != "allowed_by"}


@pytest.fixture(scope="session")
def acme(make_tenant: MakeTenant) -> Tenant:
    """A tenant in us."""
    return make_tenant(region="us")


@pytest.fixture(scope="session")
def globex(make_tenant: MakeTenant) -> Tenant:
    """A tenant in eu."""
    return make_tenant(region="eu")


@pytest.fixture(scope="session")
def dev(acme: Tenant) -> str:
    """A workspace of acme."""
    return acme.workspace("dev")


class ShiftedClock(SystemClock):
    """The machine's clock, put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Beside:
    """A server process of its own, but for the process: it shares nothing with the running one but the databases."""

    app: Any
    clock: ShiftedClock
    runtime: Runtime

    def client(self, key: str, *, ip: str = "127.0.0.1", host: str = "localhost") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(ip, 50_000))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}/api/v1", headers=headers, timeout=60)


Asked = list[tuple[str, ...]]


def tap_sessions(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Note what this process's servers ask of tenants' rows: statements, without their values."""
    said: Asked = []
    for name in ("fetch", "fetchrow", "fetchval", "execute"):
        original = getattr(TenantSession, name)

        async def tapped(self: TenantSession, query: str, *args: Any, _original: Any = original) -> Any:
            said.append((query, str(len(args))))
            return await _original(self, query, *args)

        monkeypatch.setattr(TenantSession, name, tapped)
    return said


@asynccontextmanager
async def serving_beside(settings: Settings, *, regions: tuple[str, ...] | None = None) -> AsyncIterator[Beside]:
    """Serve by these settings for a while."""
    clock = ShiftedClock()
    async with open_parts(settings, regions=regions) as parts:
        runtime = make_runtime(replace(parts, clock=clock))
        for cell in parts.cells:
            await cell.link.start()
            runtime.trails[cell.region].start()
        try:
            yield Beside(create_app(runtime), clock, runtime)
        finally:
            for trail in runtime.trails.values():
                await trail.stop()


OpenBeside = Callable[..., AbstractAsyncContextManager[Beside]]


@pytest.fixture(scope="session")
def open_beside(installation: Installation) -> OpenBeside:
    """Open a server beside the running one, with a clock to turn, other settings, or fewer regions.

    With `redis_url` it shares its key-value store with others of that address; else it has one of its own.
    """

    @asynccontextmanager
    async def opened(
        *,
        base_domain: str | None = None,
        regions: tuple[str, ...] | None = None,
        redis_url: str | None = None,
        limits: LimitSettings | None = None,
        pool_size: int | None = None,
    ) -> AsyncIterator[Beside]:
        settings = installation.settings
        server = settings.server.model_copy(update={"base_domain": base_domain})
        settings = settings.model_copy(update={"server": server, "limits": limits or settings.limits})
        if pool_size is not None:
            database = settings.database.model_copy(update={"pool_size": pool_size})
            settings = settings.model_copy(update={"database": database})
        if redis_url is not None:
            settings = settings.model_copy(update=_configured(installation, redis_url))
        async with serving_beside(settings, regions=regions) as served:
            yield served

    return opened


def _configured(installation: Installation, redis_url: str) -> dict[str, Any]:
    """Name the embedded cells as an operator names regions, with a key-value store for all."""
    addresses = installation.addresses
    regions = {
        name: RegionSettings(
            app_url=SecretStr(cell.app),
            dispatcher_url=SecretStr(cell.dispatcher),
            sealer_url=SecretStr(cell.sealer),
            redis_url=SecretStr(redis_url),
        )
        for name, cell in addresses.cells.items()
    }
    return {"regions": regions, "database": DatabaseSettings(directory_url=SecretStr(addresses.directory))}


@pytest.fixture(scope="session")
async def beside(open_beside: OpenBeside) -> AsyncIterator[Beside]:
    """One that all tests may ask; its clock is put forward only within a test and back again."""
    async with open_beside() as opened:
        yield opened


_LIVES = ("test_tenants", "test_workspaces", "test_environments", "test_idempotency")
"""What a tenant's life and its work are tried by, on each strategy; the rest is the same code on any."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in _LIVES:
        on_every_strategy(metafunc)
