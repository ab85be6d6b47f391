"""Webhooks: signed, at least once under one id, tried again, and nobody waits for another's address."""

import asyncio
import hashlib
import hmac
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.integration.notifications.conftest import Home, House, OpenHouse, settle
from tests.integration.notifications.receivers import Receiver, certificate_for, receiving, until

from tenantry.capabilities.notifications.adapters.resolving import Resolver
from tenantry.capabilities.notifications.adapters.webhook import WebhookSender
from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.types import MAX_ATTEMPTS, Address, ChannelKind, Message
from tenantry.entrypoints.notices import NoticeLoop
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.ids import new_id
from tenantry.foundation.outbox import OutboxEvent

pytestmark = pytest.mark.xdist_group("notifications")

GRANT = new_id()


async def test_an_event_is_told_to_the_channels_that_subscribe(acme: Home, receiver: Receiver) -> None:
    for path, topics, workspace in (
        ("/one", ("grant.active",), True),
        ("/noun", ("grant.*",), True),
        ("/all", ("*",), False),
        ("/other", ("grant.denied", "approval.*"), True),
    ):
        await acme.channel(f"{receiver.url}{path}", *topics, workspace=workspace)
    sibling = await acme.owner.post("/workspaces", json={"name": "other"})
    there = f"/workspaces/{sibling.json()['id']}/notification-channels"
    body = {"name": "x", "kind": "webhook", "address": f"{receiver.url}/sibling", "topics": ["*"]}
    assert (await acme.owner.post(there, json=body)).status_code == 201
    await acme.publish("grant.active", grant_id=GRANT.hex, principal_id="svc_01h455vb4pex5vsknk084sn02q")
    await settle(acme.house.loop())
    assert sorted(each.path for each in receiver.heard) == ["/all", "/noun", "/one"]
    heard = receiver.at("/one")[0]
    told = heard.json
    assert told["topic"] == heard.headers["x-tenantry-topic"] == "grant.active"
    assert told["id"] == heard.delivery
    assert (told["tenant"], told["workspace"]) == (acme.id, {"id": acme.workspace, "name": "Payments"})
    assert told["subject"]["principal_id"] == "svc_01h455vb4pex5vsknk084sn02q"
    assert told["subject"]["grant_id"].startswith("jit_")
    assert told["title"] == "[Tenantry] Grant active in Payments"
    assert abs(datetime.fromisoformat(told["occurred_at"]) - datetime.now().astimezone()) < timedelta(minutes=1)
    assert len({each.delivery for each in receiver.heard}) == 3


async def test_who_has_the_secret_can_tell_that_it_is_ours(acme: Home, receiver: Receiver) -> None:
    made = await acme.channel(receiver.url)
    await acme.publish()
    await settle(acme.house.loop())
    [heard] = receiver.heard
    _require_signed(heard.headers["x-tenantry-signature"], heard.body, made["secret"])
    with pytest.raises(AssertionError):
        _require_signed(heard.headers["x-tenantry-signature"], heard.body + b" ", made["secret"])


async def test_a_rotated_secret_signs_from_then_on_and_is_shown_once(acme: Home, receiver: Receiver) -> None:
    made = await acme.channel(receiver.url)
    path = f"{acme.path('notification-channels')}/{made['id']}"
    changed = await acme.owner.patch(path, json={"rotate_secret": True})
    assert changed.json()["secret"] not in (None, made["secret"])
    assert "secret" not in (await acme.owner.get(path)).json()
    await acme.publish()
    await settle(acme.house.loop())
    _require_signed(receiver.heard[0].headers["x-tenantry-signature"], receiver.heard[0].body, changed.json()["secret"])


async def test_a_repeated_event_makes_one_delivery(acme: Home, receiver: Receiver) -> None:
    await acme.channel(receiver.url)
    await acme.channel(f"{receiver.url}/tenant", workspace=False)
    loop = acme.house.loop()
    event = OutboxEvent(acme.tenant_id, new_id(), "grant.active", {"grant_id": GRANT.hex})
    counts = [await loop._announcer.announce(event) for _ in range(3)]
    counts += await asyncio.gather(*(acme.house.loop()._announcer.announce(event) for _ in range(4)))
    assert sum(counts) == counts[0] == 1
    await settle(loop)
    assert [each.path for each in receiver.heard] == ["/tenant"]


async def test_after_a_500_it_is_tried_again_under_the_same_id(acme: Home, receiver: Receiver) -> None:
    await acme.channel(receiver.url)
    receiver.statuses = [500, 503]
    await acme.publish()
    loop = acme.house.loop()
    await settle(loop)
    [waiting] = await acme.deliveries()
    assert (waiting["status"], waiting["attempts"], waiting["last_error"]) == ("pending", 1, "http_500")
    await settle(loop)
    assert len(receiver.heard) == 1, "not before its time"
    for expected in (2, 3):
        acme.house.clock.ahead += timedelta(minutes=10)
        await settle(loop)
        assert len(receiver.heard) == expected
    assert len({each.delivery for each in receiver.heard}) == 1
    assert len({each.body for each in receiver.heard}) == 1
    [sent] = await acme.deliveries()
    assert (sent["status"], sent["attempts"], sent["next_attempt_at"]) == ("sent", 3, None)
    await settle(loop)
    assert len(receiver.heard) == 3


async def test_after_eight_attempts_over_hours_it_has_failed_and_the_trail_says_so(
    acme: Home, receiver: Receiver
) -> None:
    made = await acme.channel(receiver.url)
    receiver.statuses = [500] * 20
    await acme.publish()
    loop = acme.house.loop()
    began, waits = acme.house.clock.now(), []
    for _ in range(MAX_ATTEMPTS):
        await settle(loop)
        [seen] = await acme.deliveries()
        if seen["next_attempt_at"]:
            until = datetime.fromisoformat(seen["next_attempt_at"])
            waits.append((until - acme.house.clock.now()).total_seconds())
            acme.house.clock.ahead += until - acme.house.clock.now() + timedelta(seconds=1)
    assert (seen["status"], seen["attempts"], seen["last_error"]) == ("failed", MAX_ATTEMPTS, "http_500")
    assert waits == sorted(waits)
    assert timedelta(hours=2) < acme.house.clock.now() - began < timedelta(hours=5)
    acme.house.clock.ahead += timedelta(days=1)
    await settle(loop)
    assert len(receiver.heard) == MAX_ATTEMPTS
    acme.house.clock.ahead = timedelta()
    events = (await acme.owner.get("/audit", params={"action": "notification.failed"})).json()["items"]
    assert [(each["outcome"], each["reason"], each["details"]["channel"]) for each in events] == [
        ("error", "http_500", made["id"])
    ]
    assert events[0]["workspace"] == acme.workspace


async def test_a_crash_between_sending_and_noting_sends_again_under_the_same_id(acme: Home, receiver: Receiver) -> None:
    await acme.channel(receiver.url)
    await acme.publish()
    senders = acme.house.senders()
    real = senders.by_kind[ChannelKind.WEBHOOK]

    class Crashes:
        async def send(self, address: Address, message: Message) -> None:
            await real.send(address, message)
            raise asyncio.CancelledError

    senders.by_kind[ChannelKind.WEBHOOK] = Crashes()
    await settle(acme.house.loop(senders))
    assert [each["status"] for each in await acme.deliveries()] == ["pending"]
    loop = acme.house.loop()
    await settle(loop)
    assert len(receiver.heard) == 1, "it is leased"
    acme.house.clock.ahead = timedelta(minutes=3)
    await settle(loop)
    first, second = receiver.heard
    assert (first.delivery, first.body) == (second.delivery, second.body)
    assert [(each["status"], each["attempts"]) for each in await acme.deliveries()] == [("sent", 2)]


async def test_one_that_always_kills_its_sender_is_given_up(acme: Home, receiver: Receiver) -> None:
    await acme.channel(receiver.url)
    await acme.publish()
    senders = acme.house.senders()

    class Crashes:
        async def send(self, _address: Address, _message: Message) -> None:
            raise asyncio.CancelledError

    senders.by_kind[ChannelKind.WEBHOOK] = Crashes()
    loop = acme.house.loop(senders)
    for _ in range(MAX_ATTEMPTS + 1):
        await settle(loop)
        acme.house.clock.ahead += timedelta(minutes=3)
    [seen] = await acme.deliveries()
    assert (seen["status"], seen["last_error"]) == ("failed", "sender_lost")


async def test_an_address_that_does_not_answer_holds_up_no_other(house: House, receiver: Receiver) -> None:
    """Neither of its own tenant nor of another, and however many wait for it."""
    slow, quick = await house.tenant(), await house.tenant()
    answered = threading.Event()
    with receiving() as stuck:
        stuck.gate = lambda: answered.wait(30)
        await slow.channel(stuck.url, "grant.active")
        await slow.channel(f"{receiver.url}/same-tenant")
        await quick.channel(f"{receiver.url}/other-tenant")
        for _ in range(40):
            await slow.publish("grant.active")
        await quick.publish("grant.expiring")
        loop = house.loop()
        running = asyncio.create_task(loop.run())
        try:
            await asyncio.to_thread(until, lambda: len(receiver.heard) >= 41)
            assert len(stuck.heard) <= 2
        finally:
            answered.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await loop.settled()
    assert len(receiver.at("/other-tenant")) == 1
    for each in (slow, quick):
        await each.owner.aclose()


async def test_two_servers_send_each_delivery_once(acme: Home, receiver: Receiver) -> None:
    await acme.channel(receiver.url)
    for _ in range(12):
        await acme.publish()
    loops = [acme.house.loop(), acme.house.loop()]
    for _ in range(12):
        await asyncio.gather(*(settle(loop) for loop in loops))
    assert len({each.delivery for each in receiver.heard}) == len(receiver.heard) == 12


async def test_nothing_is_on_the_network_inside_a_transaction(acme: Home, receiver: Receiver) -> None:
    await acme.channel(receiver.url)
    await acme.publish()
    open_ones: list[int] = []
    asked = threading.Event()
    receiver.gate = lambda: asked.wait(10)
    loop = acme.house.loop()
    await loop.look()
    await asyncio.to_thread(until, lambda: receiver.heard)
    async with acme.house.ground.database().connected("superuser") as connection:
        count = """select count(*) from pg_stat_activity where xact_start is not null and pid <> pg_backend_pid()
                   and datname = current_database() and backend_type = 'client backend'"""
        open_ones.append(await connection.fetchval(count))
    asked.set()
    await loop.settled()
    assert open_ones == [0]


async def test_a_suspended_tenants_notices_wait_uncounted(house: House, receiver: Receiver) -> None:
    made = await house.tenant()
    await made.channel(receiver.url)
    await made.publish()
    loop = house.loop()
    async with house.client(house.ground.platform_key or "") as platform:
        assert (await platform.post(f"/tenants/{made.id}/suspend", json={"reason": "x"})).status_code == 200
        await settle(loop)
        assert receiver.heard == []
        assert (await platform.post(f"/tenants/{made.id}/resume")).status_code == 200
    loop._resting.clear()
    await settle(loop)
    assert len(receiver.heard) == 1
    assert [each["attempts"] for each in await made.deliveries()] == [1]
    await made.owner.aclose()


async def test_a_tenant_that_cannot_be_told_silences_no_other(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = await house.tenant(), await house.tenant()
    for each in (broken, sound):
        await each.channel(receiver.url)
    for _ in range(120):  # more than are taken at once
        await broken.publish()
    await sound.publish()
    loop = house.loop()
    real = loop._announcer.announce

    async def announce(event: OutboxEvent) -> int:
        if event.tenant_id == broken.tenant_id:
            raise ZeroDivisionError
        return await real(event)

    monkeypatch.setattr(loop._announcer, "announce", announce)
    await settle(loop)
    assert {each.json["tenant"] for each in receiver.heard} == {sound.id}
    monkeypatch.undo()
    loop._resting.clear()
    await loop.look()
    assert len(await broken.deliveries()) == 50
    for each in (broken, sound):
        await each.owner.aclose()


@pytest.mark.parametrize("isolation", ["schema_level", "database_level"])
async def test_a_tenant_with_a_place_of_its_own_is_told_as_well(
    isolation: str, house: House, receiver: Receiver
) -> None:
    made = await house.tenant(isolation=isolation)
    channel = await made.channel(receiver.url)
    await made.publish()
    loop = house.loop()
    await settle(loop)
    await settle(loop)
    assert [each["status"] for each in await made.deliveries()] == ["sent"]
    tested = await made.owner.post(f"{made.path('notification-channels')}/{channel['id']}/test")
    assert tested.status_code == 202
    for place in await house.parts.directory.list_places("us"):
        loop._rounds.stir(place)
    await settle(loop)
    assert [each.json["topic"] for each in receiver.heard] == ["grant.active", "notification.test"]
    await made.owner.aclose()


async def test_a_channels_tenant_alone_hears_of_its_events(house: House, receiver: Receiver) -> None:
    ours, theirs = await house.tenant(), await house.tenant()
    for name, each in (("ours", ours), ("theirs", theirs)):
        await each.channel(f"{receiver.url}/{name}")
        await each.channel(f"{receiver.url}/{name}", workspace=False)
    await ours.publish()
    # Another tenant's workspace in a payload names nothing here.
    await ours.publish("grant.denied", workspace_id=theirs.workspace)
    await settle(house.loop())
    assert {each.path for each in receiver.heard} == {"/ours"}
    foreign = [each.json for each in receiver.heard if each.json["topic"] == "grant.denied"]
    assert [(each["workspace"], each["tenant"]) for each in foreign] == [(None, ours.id)]
    assert theirs.workspace not in str(foreign)
    assert await theirs.deliveries() == []
    for each in (ours, theirs):
        await each.owner.aclose()


async def test_https_is_verified_for_the_hosts_name(tmp_path: Path) -> None:
    shown, trusting = certificate_for("localhost", tmp_path)
    other, _ = certificate_for("elsewhere.example", tmp_path)
    resolver = Resolver(allow_private=True)
    message = Message("dlv_x", "grant.active", "t", "b", {"id": "dlv_x"})
    sender = WebhookSender(resolver, clock=SystemClock(), tls=trusting)
    stranger = WebhookSender(resolver, clock=SystemClock())
    try:
        with receiving(tls=shown) as receiver:
            await sender.send(Address(f"https://localhost:{receiver.port}/x", "s"), message)
            assert receiver.heard[0].headers["host"] == f"localhost:{receiver.port}"
            with pytest.raises(NotSentError, match="tls_failed"):
                await stranger.send(Address(f"https://localhost:{receiver.port}/x", "s"), message)
        with receiving(tls=other) as receiver:
            with pytest.raises(NotSentError, match="tls_failed"):
                await sender.send(Address(f"https://localhost:{receiver.port}/x", "s"), message)
            assert receiver.heard == []
    finally:
        await sender.close()
        await stranger.close()
        resolver.close()


async def test_a_redirect_is_not_followed_and_an_answer_is_not_read(acme: Home, receiver: Receiver) -> None:
    await acme.channel(f"{receiver.url}/first")
    receiver.statuses = [302]
    receiver.headers = {"Location": f"{receiver.url}/second"}
    receiver.body = b"x" * 5_000_000
    await acme.publish()
    await settle(acme.house.loop())
    assert [each.path for each in receiver.heard] == ["/first"]
    [seen] = await acme.deliveries()
    assert (seen["status"], seen["last_error"]) == ("pending", "http_302")


async def test_nobody_there_and_gone_for_good_are_told_apart(acme: Home, receiver: Receiver) -> None:
    with receiving() as closed:
        url = closed.url
    for address, status in ((url, "pending"), (f"{receiver.url}/gone", "failed")):
        receiver.statuses = [410]
        channel = await acme.channel(address, "approval.expired")
        path = f"{acme.path('notification-channels')}/{channel['id']}"
        assert (await acme.owner.post(f"{path}/test")).status_code == 202
        await settle(acme.house.loop())
        found = (await acme.deliveries())[0]
        assert (found["status"], found["channel"]) == (status, channel["id"])
    assert {each["last_error"] for each in await acme.deliveries()} == {"connection_failed", "http_410"}


async def test_ended_deliveries_are_forgotten_after_their_days(acme: Home, receiver: Receiver) -> None:
    await acme.channel(receiver.url)
    await acme.publish()
    loop = acme.house.loop()
    await settle(loop)
    acme.house.clock.ahead = timedelta(days=31)
    await loop._announcer.announce(OutboxEvent(acme.tenant_id, UUID(int=new_id().int + 1), "grant.active", {}))
    acme.house.clock.ahead = timedelta()
    assert await acme.deliveries() == []


async def test_a_running_loop_is_woken_by_the_news(open_house: OpenHouse, receiver: Receiver) -> None:
    """What is published reaches its receiver long before anybody would have looked."""
    async with open_house() as house:
        made = await house.tenant()
        await made.channel(receiver.url)
        loop: NoticeLoop = house.loop()
        await house.parts.cells.get("us").start()
        running = asyncio.create_task(loop.run())
        try:
            await asyncio.sleep(0.3)
            woken: list[float] = []
            for number in range(5):
                began = asyncio.get_running_loop().time()
                await made.publish()
                await asyncio.to_thread(until, partial(_heard, receiver, number))
                woken.append(asyncio.get_running_loop().time() - began)
            assert sorted(woken)[2] < 1.0, woken
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await made.owner.aclose()


def _heard(receiver: Receiver, more_than: int) -> bool:
    return len(receiver.heard) > more_than


def _require_signed(header: str, body: bytes, secret: str) -> None:
    """Check as a receiver does, by the documentation alone."""
    parts: Mapping[str, Any] = dict(part.split("=", 1) for part in header.split(","))
    expected = hmac.new(secret.encode(), parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(expected, parts["v1"])
