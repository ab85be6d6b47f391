"""Prepared databases without a server: notices move when a test says so, by a clock that it turns."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from tests.integration.api.conftest import ShiftedClock
from tests.integration.database.ground import Ground, open_ground
from tests.integration.notifications.receivers import Mailbox, Receiver, mailbox, receiving

from tenantry.capabilities.notifications.types import TOPICS
from tenantry.entrypoints.api_runtime import make_runtime
from tenantry.entrypoints.notices import NoticeLoop, Senders
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation import outbox
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.notification_settings import NotificationSettings
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.settings import load_settings
from tenantry.interfaces.api.app import create_app

Json = dict[str, Any]
SENDER = "notices@tenantry.example"


@dataclass
class House:
    """Everything of a server but its loops."""

    ground: Ground
    parts: Parts
    clock: ShiftedClock
    app: Any
    loops: list[NoticeLoop] = field(default_factory=list)

    def client(self, key: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1", headers=headers, timeout=60)

    async def tenant(self, *, region: str = "us", **fields: object) -> "Home":
        slug = f"t-{secrets.token_hex(5)}"
        owner = {"email": f"owner@{slug}.example", "name": "Owner"}
        place = {"region": region, "isolation": "row_level"}
        body = {"name": slug, "slug": slug, "plan": "enterprise", "owner": owner, **place, **fields}
        async with self.client(self.ground.platform_key or "") as platform:
            answer = await platform.post("/tenants", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        client = self.client(made["bootstrap_key"]["secret"])
        workspace = await client.post("/workspaces", json={"name": "Payments"})
        assert workspace.status_code == 201, workspace.text
        return Home(self, made["id"], region, workspace.json()["id"], client, owner["email"])

    def loop(self, senders: Senders | None = None, *, region: str = "us") -> NoticeLoop:
        loop = NoticeLoop(self.parts, self.parts.cells.get(region), senders=senders)
        self.loops.append(loop)
        return loop

    def senders(self) -> Senders:
        return Senders(self.parts.settings.notifications, clock=self.clock)


@dataclass
class Home:
    """A tenant with one workspace and its owner."""

    house: House
    id: str
    region: str
    workspace: str
    owner: httpx.AsyncClient
    email: str

    @property
    def tenant_id(self) -> UUID:
        return parse_id(Prefix.TENANT, self.id)

    def path(self, noun: str, *, workspace: bool = True) -> str:
        return f"/workspaces/{self.workspace}/{noun}" if workspace else f"/tenants/{self.id}/{noun}"

    async def channel(self, address: str, *topics: str, workspace: bool = True, **fields: object) -> Json:
        body = {
            "name": f"c {secrets.token_hex(4)}",
            "kind": "webhook",
            "address": address,
            "topics": list(topics) or ["*"],
            **fields,
        }
        answer = await self.owner.post(self.path("notification-channels", workspace=workspace), json=body)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    async def publish(self, topic: str = TOPICS[1], *, workspace: bool = True, **payload: str) -> None:
        """Leave news in the outbox, as the capability does that makes them."""
        scope = TenantScope(tenant_id=self.tenant_id, region=self.region, actor=SYSTEM)
        where = {"workspace_id": parse_id(Prefix.WORKSPACE, self.workspace).hex} if workspace else {}
        async with self.house.parts.cells.session(scope) as session:
            await outbox.publish(session, topic=topic, payload={**where, **payload})

    async def deliveries(self, *, workspace: bool = True) -> list[Json]:
        answer = await self.owner.get(self.path("notification-deliveries", workspace=workspace))
        assert answer.status_code == 200, answer.text
        found: list[Json] = answer.json()["items"]
        return found

    async def user(self) -> str:
        members = (await self.owner.get(f"/tenants/{self.id}/members")).json()["items"]
        return str(members[0]["id"])


OpenHouse = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture(scope="session")
async def ground() -> AsyncIterator[Ground]:
    async with open_ground() as opened:
        yield opened


@pytest.fixture(scope="session")
def open_house(ground: Ground) -> OpenHouse:
    @asynccontextmanager
    async def opened(**settings: object) -> AsyncIterator[House]:
        told = NotificationSettings.model_validate({"allow_private_addresses": True, **settings})
        clock = ShiftedClock()
        async with open_parts(load_settings(home=ground.home).model_copy(update={"notifications": told})) as parts:
            runtime = make_runtime(replace(parts, clock=clock))
            for trail in runtime.trails.values():
                trail.start()
            house = House(ground, replace(parts, clock=clock), clock, create_app(runtime))
            try:
                yield house
            finally:
                for loop in house.loops:
                    await loop.close()
                for trail in runtime.trails.values():
                    await trail.stop()

    return opened


@pytest.fixture
async def house(open_house: OpenHouse, post: Mailbox) -> AsyncIterator[House]:
    """One that may reach local receivers, with an SMTP server."""
    url = SecretStr(f"smtp://127.0.0.1:{post.port}?tls=none")
    async with open_house(smtp_url=url, sender=SENDER) as opened:
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


@pytest.fixture
def post() -> Iterator[Mailbox]:
    with mailbox() as opened:
        yield opened


async def settle(loop: NoticeLoop) -> None:
    """Have everything announced and everything that is due tried once."""
    await loop.look()
    await loop.settled()
