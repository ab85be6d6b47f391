"""Prepared databases without a server: events are sealed, indexed and streamed when a test says so, by its clock."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from tests.integration.api.conftest import ShiftedClock
from tests.integration.database.ground import Ground, open_ground
from tests.integration.notifications.receivers import Receiver, receiving

from tenantry.capabilities.audit.ports import Sink
from tenantry.capabilities.audit.service import AuditService, seal, sign_grown
from tenantry.capabilities.audit.types import Outcome
from tenantry.capabilities.audit.types.streams import StreamKind
from tenantry.entrypoints.api_runtime import make_runtime
from tenantry.entrypoints.audit_followers import AuditFollowers
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.entrypoints.trails import make_witness
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.settings import load_settings
from tenantry.interfaces.api.app import create_app
from tenantry.interfaces.api.runtime import Runtime

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

Json = dict[str, Any]


@dataclass
class House:
    """Everything of a server but its loops."""

    ground: Ground
    parts: Parts
    runtime: Runtime
    clock: ShiftedClock
    app: Any
    followers: list[AuditFollowers] = field(default_factory=list)

    def client(self, key: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1", headers=headers, timeout=60)

    async def tenant(self, *, region: str = "us", **fields: object) -> "Home":
        slug = f"t-{secrets.token_hex(5)}"
        owner = {"email": f"owner@{slug}.example", "name": "Owner"}
        body = {"name": slug, "slug": slug, "plan": "enterprise", "owner": owner, "region": region}
        async with self.client(self.ground.platform_key or "") as platform:
            answer = await platform.post("/tenants", json={**body, "isolation": "row_level", **fields})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Home(self, made["id"], region, self.client(made["bootstrap_key"]["secret"]))

    @staticmethod
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text)

    def following(self, sinks: Mapping[StreamKind, Sink] | None = None, *, region: str = "us") -> AuditFollowers:
        """What another server process would run beside those that there are."""
        made = AuditFollowers(self.parts, self.parts.cells.get(region), sinks=sinks)
        self.followers.append(made)
        return made

    async def seal(self, *, region: str = "us") -> None:
        """Give all events that wait anywhere their place, and tell those that follow."""
        await self.runtime.trails[region].flush()
        async for place, connection in self._visits(region, "audit_unsealed"):
            await seal(connection, limit=100_000)
            for each in self.followers:
                each.stir(place)

    async def sign(self, *, region: str = "us") -> None:
        """Sign all trees that have grown."""
        witness = make_witness(self.parts.settings, region, self.clock)
        async for _, connection in self._visits(region, "audit_unsigned"):
            await sign_grown(connection, notary=self.runtime.notaries[region], witness=witness, limit=10_000)

    async def _visits(
        self, region: str, table: str
    ) -> AsyncIterator[tuple[str, "PoolConnectionProxy[asyncpg.Record]"]]:
        """Go as the sealer to each place where a table has rows."""
        dsn = self.parts.addresses.cells[region].sealer
        directory, clock = self.parts.directory, self.parts.clock
        rounds = Rounds(dsn, region=region, directory=directory, clock=clock, look_seconds=0.0)
        try:
            async for place, pool, schema in rounds.waiting(table):
                async with platform_session(pool, schema=schema) as connection:
                    yield place, connection
        finally:
            await rounds.close()


@dataclass
class Home:
    """A tenant and its owner."""

    house: House
    id: str
    region: str
    owner: httpx.AsyncClient

    @property
    def tenant_id(self) -> UUID:
        return parse_id(Prefix.TENANT, self.id)

    @property
    def scope(self) -> TenantScope:
        return TenantScope(tenant_id=self.tenant_id, region=self.region, actor=SYSTEM, trace_id="")

    async def record(
        self, *names: str, action: str = "note.made", outcome: Outcome = Outcome.SUCCESS, **details: object
    ) -> None:
        """Record an event for each resource named."""
        async with self.house.parts.cells.session(self.scope) as session:
            audit = AuditService(session=session, clock=self.house.clock)
            for name in names:
                await audit.record(action, resource_type="note", resource_id=name, outcome=outcome, details=details)

    async def stream(self, address: str | None = None, **fields: object) -> Json:
        """Make a stream of what comes from now on, of notes alone."""
        body: Json = {"name": f"s {secrets.token_hex(4)}", "kind": "webhook", "filter": {"actions": ["note."]}}
        answer = await self.owner.post("/audit/streams", json={**body, "address": address, **fields})
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    async def shown(self, stream: str) -> Json:
        answer = await self.owner.get(f"/audit/streams/{stream}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def trail(self, **query: object) -> list[Json]:
        answer = await self.owner.get(
            "/audit", params={"limit": "200", **{name: str(value) for name, value in query.items()}}
        )
        assert answer.status_code == 200, answer.text
        items: list[Json] = answer.json()["items"]
        return items


OpenHouse = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture(scope="session")
async def ground() -> AsyncIterator[Ground]:
    async with open_ground() as opened:
        yield opened


@pytest.fixture(scope="session")
def open_house(ground: Ground) -> OpenHouse:
    @asynccontextmanager
    async def opened(*, private: bool = True, **audit: object) -> AsyncIterator[House]:
        settings = load_settings(home=ground.home)
        told = settings.model_copy(
            update={
                "notifications": settings.notifications.model_copy(update={"allow_private_addresses": private}),
                "audit": settings.audit.model_validate({**settings.audit.model_dump(), **audit}),
            }
        )
        clock = ShiftedClock()
        async with open_parts(told) as opened_parts:
            parts = replace(opened_parts, clock=clock)
            runtime = make_runtime(parts)
            for trail in runtime.trails.values():
                trail.start()
            house = House(ground, parts, runtime, clock, create_app(runtime))
            try:
                yield house
            finally:
                for each in house.followers:
                    await each.close()
                for trail in runtime.trails.values():
                    await trail.stop()

    return opened


@pytest.fixture
def collected(tmp_path: Path) -> Path:
    """Where the installation lets streams of files lie."""
    place = tmp_path / "collected"
    place.mkdir()
    return place


@pytest.fixture
async def house(open_house: OpenHouse, collected: Path) -> AsyncIterator[House]:
    """One whose streams may lead to local receivers and into a directory."""
    async with open_house(stream_directories={"siem": collected}) as opened:
        yield opened


@pytest.fixture
async def acme(house: House) -> AsyncIterator[Home]:
    made = await house.tenant()
    yield made
    await made.owner.aclose()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def told(receiver: Receiver, path: str = "/in") -> list[str]:
    """The resources of all events that came, in the order they came."""
    return [event["data"]["resource"]["id"] for heard in receiver.at(path) for event in json.loads(heard.body)]


async def stream_all(following: AuditFollowers) -> None:
    """Give every stream that is due its turns, until none has anything to send."""
    while await following.streams.look():
        await following.streams.settled()


async def index_all(following: AuditFollowers) -> None:
    following.index._resting.clear()  # it was a moment ago perhaps
    while await following.index.look():
        await following.index.settled()
