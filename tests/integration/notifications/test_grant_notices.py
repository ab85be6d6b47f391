"""The whole way of a grant's news: who is told when it is asked for, begins, nears its end and ends."""

import json
from datetime import timedelta

import httpx
import pytest
from tests.integration.notifications.conftest import Home, Json, settle
from tests.integration.notifications.receivers import Mailbox, Receiver

from tenantry.entrypoints.due import make_due_round

pytestmark = pytest.mark.xdist_group("notifications")


async def _robot(home: Home) -> tuple[str, httpx.AsyncClient]:
    account = (await home.owner.post(home.path("service-accounts"), json={"name": "robot"})).json()["id"]
    body = {"principal": account, "role": "viewer"}
    assert (await home.owner.post(home.path("bindings"), json=body)).status_code == 201
    key = await home.owner.post(home.path("keys"), json={"name": "robot", "service_account": account})
    return account, home.house.client(key.json()["secret"])


async def _asked(home: Home, client: httpx.AsyncClient) -> Json:
    body = {"role": "operator", "minutes": 30, "reason": "<b>secret plans</b>"}
    answer = await client.post(home.path("grants"), json=body)
    assert answer.status_code == 201, answer.text
    grant: Json = answer.json()
    return grant


async def test_a_grant_is_told_when_it_is_asked_for_begins_nears_its_end_and_ends(
    acme: Home, receiver: Receiver
) -> None:
    await acme.channel(receiver.url, "grant.*", "approval.*")
    account, robot = await _robot(acme)
    loop = acme.house.loop()
    due = make_due_round(acme.house.parts, acme.house.parts.cells.get(acme.region))
    try:
        grant = await _asked(acme, robot)
        await settle(loop)
        path = acme.path(f"approvals/{grant['approval']}/approve")
        assert (await acme.owner.post(path, json={"minutes": 20})).status_code == 200
        await settle(loop)
        for minutes in (16, 5):
            acme.house.clock.ahead += timedelta(minutes=minutes)
            await due.go_round()
            await settle(loop)
    finally:
        acme.house.clock.ahead = timedelta()
        await due.rounds.close()
        await robot.aclose()
    told = [json.loads(heard.body) for heard in receiver.heard]
    topics = [each["topic"] for each in told]
    assert topics.index("grant.requested") < topics.index("grant.active") < topics.index("grant.expiring")
    assert topics[-1] == "grant.expired"
    active = next(each for each in told if each["topic"] == "grant.active")
    assert active["subject"]["grant_id"] == grant["id"]
    assert active["subject"]["principal_id"] == account
    assert active["facts"]["minutes"] == "20"
    assert active["facts"]["until"].endswith("Z")
    assert "secret plans" not in json.dumps(told)


async def test_who_is_given_a_grant_is_told_by_email(acme: Home, post: Mailbox) -> None:
    """An administrator gives it at once; whom it is for has an address."""
    user = await acme.user()
    _, robot = await _robot(acme)
    body = {"principal": (await robot.get("/me")).json()["principal"]["acts_for"], "role": "tenant-admin"}
    assert (await acme.owner.post(f"/tenants/{acme.id}/bindings", json=body)).status_code == 201
    given = {"principal": user, "role": "deployer", "minutes": 10, "reason": "on call"}
    answer = await robot.post(acme.path("grants"), json=given)
    assert answer.status_code == 201, answer.text
    await settle(acme.house.loop())
    assert [envelope.rcpt_tos for envelope in post.envelopes] == [[acme.email]]
    assert "Grant active" in post.mails[0]["Subject"]
    await robot.aclose()
