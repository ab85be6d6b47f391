"""Channels through the API: who changes them, what is shown, and that their addresses are nowhere in clear."""

import asyncio
import secrets

import pytest
from tests.conftest import Installation, MakeTenant
from tests.integration.notifications.conftest import Home, House, settle
from tests.integration.notifications.receivers import Mailbox, Receiver
from tests.integration.tenancy.ground import inhabit, until

from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.service import NoticeArrival
from tenantry.capabilities.notifications.types import Address
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.errors import Fault
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

pytestmark = pytest.mark.xdist_group("notifications")


async def test_a_channel_is_made_changed_and_removed_and_the_trail_tells(acme: Home) -> None:
    made = await acme.channel("https://hooks.example.com/services/canary-one", "grant.*", "grant.*", name="pager")
    assert made["topics"] == ["grant.*"]
    assert (made["kind"], made["status"], made["version"]) == ("webhook", "active", 1)
    assert made["hint"] == "https://hooks.example.com/…-one"
    path = f"{acme.path('notification-channels')}/{made['id']}"
    seen = await acme.owner.get(path)
    assert seen.headers["etag"] == '"1"'
    assert (await acme.owner.get(path, headers={"If-None-Match": '"1"'})).status_code == 304
    stale = await acme.owner.patch(path, json={"name": "x"}, headers={"If-Match": '"9"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "version_mismatch")
    changed = await acme.owner.patch(
        path, json={"address": "https://other.example/canary-two", "status": "disabled"}, headers={"If-Match": '"1"'}
    )
    assert changed.status_code == 200, changed.text
    assert (changed.json()["hint"], changed.json()["status"], changed.json()["secret"]) == (
        "https://other.example/…",
        "disabled",
        None,
    )
    refused = await acme.owner.post(f"{path}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "channel_disabled")
    assert (await acme.owner.delete(path)).status_code == 200
    assert (await acme.owner.get(path)).status_code == 404
    events = (await acme.owner.get("/audit", params={"action": "notification_channel."})).json()["items"]
    assert [event["action"].partition(".")[2] for event in events] == ["removed", "changed", "created"]
    assert {name: value for name, value in events[1]["details"].items() if name != "allowed_by"} == {
        "fields": ["hint", "status"],
        "address_replaced": True,
        "secret_rotated": False,
    }
    assert "canary" not in str(events)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"topics": ["grant.unknown"]}, "topic_unknown"),
        ({"topics": ["*.active"]}, "topic_unknown"),
        ({"topics": ["notification.test"]}, "topic_unknown"),
        ({"topics": []}, "invalid_request"),
        ({"kind": "sms"}, "invalid_request"),
        ({"name": "a\nb"}, "invalid_request"),
        ({"address": "ftp://x.example"}, "address_invalid"),
        ({"kind": "apprise"}, "address_invalid"),
        ({"secret": "mine"}, "invalid_request"),
        ({"workspace_id": "x"}, "invalid_request"),
    ],
    ids=str,
)
async def test_what_is_no_channel_is_refused(fields: dict[str, object], code: str, acme: Home) -> None:
    body = {"name": "x", "kind": "webhook", "address": "https://hooks.example.com/x", "topics": ["*"], **fields}
    answer = await acme.owner.post(acme.path("notification-channels"), json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


async def test_a_name_is_taken_once_in_a_place_and_places_are_bounded(acme: Home) -> None:
    await acme.channel("https://hooks.example.com/x", name="pager")
    await acme.channel("https://hooks.example.com/x", name="pager", workspace=False)
    body = {"name": "pager", "kind": "webhook", "address": "https://hooks.example.com/x", "topics": ["*"]}
    answer = await acme.owner.post(acme.path("notification-channels"), json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    other = await acme.channel("https://hooks.example.com/x", name="other")
    path = f"{acme.path('notification-channels')}/{other['id']}"
    answer = await acme.owner.patch(path, json={"name": "pager"})
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    for _ in range(48):
        await acme.channel("https://hooks.example.com/x")
    answer = await acme.owner.post(acme.path("notification-channels"), json={**body, "name": "one more"})
    assert (answer.status_code, answer.json()["code"]) == (429, "channel_limit")
    assert (answer.json()["limit"], answer.json()["current"]) == (50, 50)


async def test_a_repeated_request_is_answered_without_the_secret(acme: Home) -> None:
    body = {"name": "x", "kind": "webhook", "address": "https://hooks.example.com/x", "topics": ["*"]}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    first, again = [
        await acme.owner.post(acme.path("notification-channels"), json=body, headers=headers) for _ in range(2)
    ]
    assert first.json()["secret"]
    assert again.json() == {name: value for name, value in first.json().items() if name != "secret"}
    assert again.headers["idempotency-replayed"] == "true"


async def test_only_a_webhook_has_a_secret_to_rotate(acme: Home) -> None:
    made = await acme.channel("a@b.example", kind="email")
    path = f"{acme.path('notification-channels')}/{made['id']}"
    answer = await acme.owner.patch(path, json={"rotate_secret": True})
    assert (answer.status_code, answer.json()["code"]) == (422, "secret_not_for_kind")


async def test_who_may_only_read_changes_nothing_and_sees_no_address(acme: Home) -> None:
    made = await acme.channel("https://hooks.example.com/services/canary-address")
    answer = await acme.owner.post(f"/workspaces/{acme.workspace}/keys", json={"name": "v", "roles": ["viewer"]})
    viewer = acme.house.client(answer.json()["secret"])
    path = acme.path("notification-channels")
    shown = [await viewer.get(path), await viewer.get(f"{path}/{made['id']}")]
    assert [each.status_code for each in shown] == [200, 200]
    assert "canary" not in "".join(each.text for each in shown)
    assert made["secret"] not in "".join(each.text for each in shown)
    tries = [
        await viewer.post(f"{path}/{made['id']}/test"),
        await viewer.patch(f"{path}/{made['id']}", json={"name": "x"}),
        await viewer.delete(f"{path}/{made['id']}"),
    ]
    assert [each.json()["code"] for each in tries] == ["permission_missing"] * 3
    await viewer.aclose()


async def test_no_address_is_in_clear_in_the_database_the_log_or_an_answer(
    house: House, receiver: Receiver, post: Mailbox, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every kind of channel, sent to, refused and failed; then everything that was written is searched."""
    canary = f"canary{secrets.token_hex(8)}"
    made = await house.tenant()
    channels = [
        await made.channel(f"{receiver.url}/hooks/{canary}"),
        await made.channel(f"http://127.0.0.1:1/{canary}-and-more"),
        await made.channel(f"mmost://{canary}:{canary}@127.0.0.1:{receiver.port}/{canary}xyz", kind="apprise"),
        await made.channel(f"{canary}@mail.example", kind="email"),
    ]
    signing = [each["secret"] for each in channels if each["secret"]]
    post.refusals = ["550 nobody here"]
    receiver.statuses = [500, 200]
    await made.publish()
    await settle(house.loop())
    answers = [
        (await made.owner.get(path)).text
        for path in (made.path("notification-channels"), made.path("notification-deliveries"), "/audit?limit=200")
    ]
    assert {each["status"] for each in await made.deliveries()} >= {"failed", "pending"}
    found = []
    async with house.ground.database().connected("superuser") as connection:
        tables = await connection.fetch(
            """select n.nspname || '.' || c.relname as name
               from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')"""
        )
        for table in tables:
            for word in (canary, *signing):
                texts = f"{word}|{word.encode().hex()}"
                if await connection.fetchval(
                    f"select exists (select from {table['name']} t where t::text ~ $1)", texts
                ):
                    found.append(table["name"])
    written = capfd.readouterr()
    said = "".join(answers) + written.out + written.err
    assert found == []
    assert canary not in said
    assert not [secret for secret in signing if secret in said]
    assert canary not in repr(Address(canary, canary)) + repr(NotSentError("http_500"))
    await made.owner.aclose()


async def test_a_sealed_address_opens_for_its_channel_and_tenant_only(house: House) -> None:
    ours, theirs = await house.tenant(), await house.tenant()
    made = [await each.channel("https://hooks.example.com/x") for each in (ours, ours, theirs)]
    ids = [parse_id(Prefix.NOTIFICATION_CHANNEL, each["id"]) for each in made]
    book = house.parts.address_book("us")
    async with house.parts.cells.session(TenantScope(ours.tenant_id, "us", SYSTEM)) as session:
        sealed = await session.fetchval("select sealed from notification_channels where channel_id = $1", ids[0])
    opened = await book.open(sealed, tenant_id=ours.tenant_id, channel_id=ids[0])
    assert opened == Address("https://hooks.example.com/x", made[0]["secret"])
    for tenant_id, channel_id in ((ours.tenant_id, ids[1]), (theirs.tenant_id, ids[0]), (theirs.tenant_id, ids[2])):
        with pytest.raises(Fault):
            await book.open(sealed, tenant_id=tenant_id, channel_id=channel_id)
    for each in (ours, theirs):
        await each.owner.aclose()


async def test_in_the_running_server_a_test_notice_that_leads_inside_is_refused_and_told(
    installation: Installation, make_tenant: MakeTenant, receiver: Receiver
) -> None:
    """As installed, with its own loops: the delivery says what became of it within moments."""
    tenant = make_tenant()
    workspace = tenant.workspace()
    path = f"/workspaces/{workspace}"
    body = {"name": "x", "kind": "webhook", "address": f"http://localhost:{receiver.port}/x", "topics": ["*"]}
    made = tenant.owner.post(f"{path}/notification-channels", json=body).json()
    tested = tenant.owner.post(f"{path}/notification-channels/{made['id']}/test")
    assert (tested.status_code, tested.json()["status"]) == (202, "pending")

    def ended() -> dict[str, object] | None:
        [found] = tenant.owner.get(f"{path}/notification-deliveries").json()["items"]
        return found if found["status"] != "pending" else None

    found = await asyncio.to_thread(until, ended)
    assert (found["id"], found["last_error"]) == (tested.json()["id"], "address_private")
    assert receiver.heard == []


async def test_an_address_still_opens_after_a_move_to_another_region(installation: Installation) -> None:
    inhabited = await asyncio.to_thread(inhabit, installation)
    owner, platform, path = inhabited.tenant.owner, installation.platform, inhabited.path
    [channel] = owner.get(f"/workspaces/{inhabited.workspace}/notification-channels").json()["items"]
    moved = platform.post(f"{path}/move", json={"region": "eu", "grace_seconds": 0})
    assert moved.status_code == 202, moved.text
    confirmed = owner.post(f"{path}/operations/{moved.json()['id']}/confirm")
    assert confirmed.status_code == 200, confirmed.text
    await asyncio.to_thread(inhabited.until_status, "move", "succeeded")
    channel_id = parse_id(Prefix.NOTIFICATION_CHANNEL, channel["id"])
    async with open_parts(installation.settings, regions=("eu",)) as parts:
        scope = TenantScope(inhabited.tenant_id, "eu", SYSTEM)
        async with parts.cells.session(scope) as session:
            sealed = await session.fetchval(
                "select sealed from notification_channels where tenant_id = $1 and channel_id = $2",
                inhabited.tenant_id,
                channel_id,
            )
        opened = await parts.address_book("eu").open(sealed, tenant_id=inhabited.tenant_id, channel_id=channel_id)
    assert opened.text == f"https://hooks.invalid/{inhabited.word}"


async def test_what_waited_where_a_tenant_came_from_is_not_sent_here(acme: Home, receiver: Receiver) -> None:
    """An imported tenant's deliveries end with its arrival; what comes afterwards is sent."""
    await acme.channel(receiver.url)
    await acme.publish()
    loop = acme.house.loop()
    async for _, pool, schema in loop._rounds.waiting("outbox"):
        await loop._announce(pool, schema)
    async with acme.house.parts.cells.session(TenantScope(acme.tenant_id, "us", SYSTEM)) as session:
        await NoticeArrival().arrive(session)
    await acme.publish("grant.expired")
    await settle(loop)
    assert [each.json["topic"] for each in receiver.heard] == ["grant.expired"]
    ended = {each["topic"]: (each["status"], each["last_error"]) for each in await acme.deliveries()}
    assert ended == {"grant.active": ("failed", "tenant_imported"), "grant.expired": ("sent", None)}
