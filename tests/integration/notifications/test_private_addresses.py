"""Nothing that a tenant names is connected to inside the installation's own network (SSRF)."""

import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.notifications.conftest import Home, House, OpenHouse, settle
from tests.integration.notifications.receivers import Receiver

from tenantry.capabilities.notifications.adapters.resolving import Resolver
from tenantry.capabilities.notifications.adapters.webhook import WebhookSender
from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.types import Address, Message
from tenantry.foundation.clock import SystemClock

pytestmark = pytest.mark.xdist_group("notifications")

MESSAGE = Message("dlv_x", "grant.active", "t", "b", {"id": "dlv_x"})
REAL = socket.getaddrinfo


@pytest.fixture
async def closed(open_house: OpenHouse) -> AsyncIterator[House]:
    """A house as it is by default."""
    async with open_house(allow_private_addresses=False) as opened:
        yield opened


@pytest.fixture
async def wary(closed: House) -> AsyncIterator[Home]:
    made = await closed.tenant()
    yield made
    await made.owner.aclose()


def answering(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have the resolver answer for `hooks.example.com`, each look-up with the next answer; gives what was asked."""
    asked: list[str] = []
    left = list(answers)

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if host not in ("hooks.example.com", b"hooks.example.com") or options.get("flags", 0) & socket.AI_NUMERICHOST:
            return REAL(host, port, *arguments, **options)
        asked.append("hooks.example.com")
        found = left.pop(0) if len(left) > 1 else left[0]
        return [entry for each in found for entry in REAL(each, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_spelling_of_a_private_address_makes_no_channel(host: str, wary: Home, receiver: Receiver) -> None:
    for kind, scheme in (("webhook", "http"), ("apprise", "mmost")):
        body = {"name": "x", "kind": kind, "address": f"{scheme}://{host}:{receiver.port}/token", "topics": ["*"]}
        answer = await wary.owner.post(wary.path("notification-channels"), json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "address_private"), answer.text
    made = await wary.channel("https://hooks.example.com/x")
    path = f"{wary.path('notification-channels')}/{made['id']}"
    answer = await wary.owner.patch(path, json={"address": f"http://{host}/x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "address_private")


@pytest.mark.parametrize("kind", ["webhook", "apprise"])
async def test_a_name_that_leads_inside_is_connected_to_by_nobody(kind: str, wary: Home, receiver: Receiver) -> None:
    scheme = {"webhook": "http", "apprise": "mmost"}[kind]
    await wary.channel(f"{scheme}://localhost:{receiver.port}/abcdefghijklmnopqrstuvwxyz", kind=kind)
    await wary.publish()
    await settle(wary.house.loop())
    assert receiver.heard == []
    [seen] = await wary.deliveries()
    assert (seen["status"], seen["attempts"], seen["last_error"]) == ("failed", 1, "address_private")


async def test_a_name_that_changes_its_mind_is_asked_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: what was examined is connected to, so a second answer would change nothing, and is not asked for."""
    asked = answering(monkeypatch, ["192.0.2.1"], ["127.0.0.1"])
    monkeypatch.setattr("tenantry.capabilities.notifications.adapters.resolving.is_public", lambda _: True)
    monkeypatch.setattr("tenantry.capabilities.notifications.adapters.webhook._CONNECT_SECONDS", 0.3)
    resolver = Resolver(allow_private=False)
    sender = WebhookSender(resolver, clock=SystemClock())
    with pytest.raises(NotSentError, match=r"connection_failed|timed_out"):
        await sender.send(Address(f"http://hooks.example.com:{receiver.port}/"), MESSAGE)
    await sender.close()
    resolver.close()
    assert asked == ["hooks.example.com"]
    assert receiver.heard == []


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["2606:4700::1111", "::1"]])
async def test_a_name_with_one_private_address_is_refused_whole(
    found: list[str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, found)
    resolver = Resolver(allow_private=False)
    sender = WebhookSender(resolver, clock=SystemClock())
    with pytest.raises(NotSentError, match="address_private"):
        await sender.send(Address(f"http://hooks.example.com:{receiver.port}/"), MESSAGE)
    await sender.close()
    resolver.close()
    assert receiver.heard == []


async def test_the_name_goes_along_to_the_address_that_was_examined(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positive control: with private ones allowed the same name is connected to, and told its own name."""
    answering(monkeypatch, ["127.0.0.1"])
    resolver = Resolver(allow_private=True)
    sender = WebhookSender(resolver, clock=SystemClock())
    await sender.send(Address(f"http://hooks.example.com:{receiver.port}/x"), MESSAGE)
    await sender.close()
    resolver.close()
    assert receiver.heard[0].headers["host"] == f"hooks.example.com:{receiver.port}"


async def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    resolver = Resolver(allow_private=True)
    sender = WebhookSender(resolver, clock=SystemClock())
    await sender.send(Address(f"http://127.0.0.1:{receiver.port}/x"), MESSAGE)
    await sender.close()
    resolver.close()
    assert len(receiver.heard) == 1


async def test_a_channel_from_before_the_rule_is_examined_when_it_is_sent_to(
    open_house: OpenHouse, receiver: Receiver
) -> None:
    """Written where private addresses were allowed, as one from another installation's archive may be."""
    async with open_house() as lax:
        made = await lax.tenant()
        await made.channel(f"{receiver.url}/x")
        await made.publish()
    async with open_house(allow_private_addresses=False) as strict:
        await settle(strict.loop())
        client = strict.client(made.owner.headers["Authorization"].removeprefix("Bearer "))
        found = (await client.get(made.path("notification-deliveries"))).json()["items"]
        await client.aclose()
    await made.owner.aclose()
    assert [(each["status"], each["last_error"]) for each in found] == [("failed", "address_private")]
    assert receiver.heard == []


async def test_a_name_that_is_not_known_is_tried_again(wary: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await wary.channel("https://nowhere.invalid/x")
    await wary.publish()
    loop = wary.house.loop()
    await settle(loop)
    [seen] = await wary.deliveries()
    assert (seen["status"], seen["last_error"]) == ("pending", "name_unresolved")
    wary.house.clock.ahead = timedelta(minutes=5)
    await settle(loop)
    assert (await wary.deliveries())[0]["attempts"] == 2
