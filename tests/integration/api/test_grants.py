"""Just-in-time grants: asked for, approved by others, active from then on, over in time, and never forgotten."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import Beside, problem
from tests.integration.api.deciding import Principal, principal

pytestmark = pytest.mark.xdist_group("api")

Json = dict[str, Any]


class Office:
    """One workspace with somebody who asks, and others who decide."""

    def __init__(self, tenant: Tenant, workspace: str) -> None:
        self.tenant, self.workspace = tenant, workspace
        self.path = f"/workspaces/{workspace}/grants"
        self.approver = principal(tenant, workspace, "approver")

    def principal(self, *roles: str) -> Principal:
        return principal(self.tenant, self.workspace, *(roles or ("viewer",)))

    def ask(self, who: Principal, role: str = "operator", **fields: object) -> Json:
        answer = who.client.post(self.path, json={"role": role, "reason": "to mend it", **fields})
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def decide(self, grant: Json, vote: str = "approve", by: Principal | None = None, **body: object) -> httpx.Response:
        approval = grant["extension"]["approval"] if grant["extension"] else grant["approval"]
        path = f"/workspaces/{self.workspace}/approvals/{approval}/{vote}"
        return (by or self.approver).client.post(path, json=body)

    def now(self, grant: Json) -> Json:
        found: Json = self.tenant.owner.get(f"{self.path}/{grant['id']}").json()
        return found

    def granted(self, who: Principal, role: str = "operator", **fields: object) -> Json:
        """Have a grant asked for and approved."""
        grant = self.ask(who, role, **fields)
        assert self.decide(grant).status_code == 200
        return self.now(grant)

    def given(self, who: Principal, role: str = "operator", **fields: object) -> Json:
        """Have the owner give one at once."""
        body = {"role": role, "reason": "on call", "principal": who.id, **fields}
        answer = self.tenant.owner.post(self.path, json=body)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def may_work(self, who: Principal) -> bool:
        answer = who.client.post(f"/workspaces/{self.workspace}/jobs", json={"command": ["true"]})
        assert answer.status_code in (202, 403), answer.text
        return answer.status_code == 202

    def actions(self, grant: Json) -> list[str]:
        """What the trail says of it, oldest first; reads and refusals left out."""
        events = self.tenant.owner.get("/audit", params={"resource": grant["id"], "limit": 100}).json()["items"]
        return [event["action"] for event in reversed(events) if event["action"] not in ("grant.read", "grant.request")]


@pytest.fixture
def office(acme: Tenant) -> Office:
    return Office(acme, acme.workspace(f"office {time.monotonic_ns()}"))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def until(what: Callable[[], object], *, seconds: float = 1.0) -> float:
    """Wait until something is so; tell how long it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "not within the time"
        time.sleep(0.02)
    return time.monotonic() - began


def test_a_grant_is_asked_for_approved_active_and_over(office: Office) -> None:
    who = office.principal()
    assert not office.may_work(who)
    asked = office.ask(who, minutes=30)
    assert (asked["status"], asked["principal"]["id"], asked["expires_at"]) == ("requested", who.id, None)
    assert not office.may_work(who)
    approval = office.decide(asked, comment="go ahead").json()
    assert (approval["status"], approval["kind"], approval["subject"]) == ("approved", "grant", asked["id"])
    assert approval["used_at"] is not None
    active = office.now(asked)
    assert (active["status"], active["granted_by"], active["granted_minutes"]) == ("active", [office.approver.id], 30)
    assert at(active["expires_at"]) - at(active["active_at"]) == timedelta(minutes=30)
    assert office.may_work(who)
    ended = who.client.post(f"{office.path}/{asked['id']}/revoke", json={"reason": "done"}).json()
    assert (ended["status"], ended["ended_by"], ended["end_reason"]) == ("revoked", who.id, "done")
    assert not office.may_work(who)
    expected = ["grant.requested", "grant.approved", "grant.activated", "grant.revoked"]
    assert office.actions(asked) == expected


async def test_the_clock_starts_when_it_is_approved_and_not_when_it_is_asked_for(
    office: Office, beside: Beside
) -> None:
    asked = office.ask(office.principal(), minutes=10)
    path = f"/workspaces/{office.workspace}/approvals/{asked['approval']}/approve"
    beside.clock.ahead = timedelta(hours=3)
    try:
        async with beside.client(office.approver.key) as client:
            assert (await client.post(path)).json()["status"] == "approved"
    finally:
        beside.clock.ahead = timedelta()
    active = office.now(asked)
    assert at(active["active_at"]) - at(active["requested_at"]) >= timedelta(hours=3)
    assert at(active["expires_at"]) - at(active["active_at"]) == timedelta(minutes=10)


def test_nobody_approves_their_own_grant_with_any_key(office: Office) -> None:
    who = office.principal("approver")
    asked = office.ask(who)
    other = office.tenant.as_key(office.tenant.key(office.workspace, "workspace-admin", service_account=who.id))
    for client in (who.client, other):
        path = f"/workspaces/{office.workspace}/approvals/{asked['approval']}/approve"
        problem(client.post(path, json={}), 403, "approval_own_request")
    assert office.now(asked)["status"] == "requested"


def test_an_administrator_gives_at_once_to_others_and_not_to_oneself(office: Office) -> None:
    who, admin = office.principal(), office.principal("workspace-admin")
    given = office.given(who, minutes=15)
    assert (given["status"], given["approval"]) == ("active", None)
    assert office.may_work(who)
    own = admin.client.post(office.path, json={"role": "operator", "reason": "r", "principal": admin.id}).json()
    assert own["status"] == "requested"
    body = {"role": "operator", "reason": "r", "principal": who.id}
    problem(office.principal("operator").client.post(office.path, json=body), 403, "permission_missing")
    weak = principal(office.tenant, office.workspace, permissions=["grant:admin", "grant:request"])
    problem(weak.client.post(office.path, json=body), 403, "grant_exceeds_own")
    for nobody in ("usr_" + "0" * 26, "svc_" + "0" * 26, "tenantry", "key_" + "0" * 26):
        answer = admin.client.post(office.path, json=body | {"principal": nobody})
        problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("asked", "role"), [("viewer", "viewer"), ("deployer", "deployer"), ("admin", "workspace-admin")]
)
def test_levels_at_a_provider_are_roles(asked: str, role: str, office: Office) -> None:
    grant = office.ask(office.principal(), asked, provider="gcp")
    assert (grant["role_asked"], grant["role"], grant["provider"]) == (asked, role, "gcp")


def test_what_cannot_be_granted_is_refused(office: Office) -> None:
    client = office.principal().client
    for fields, code in (
        ({"role": "operator", "provider": "gcp"}, "level_unknown"),
        ({"role": "root"}, "role_unknown"),
        ({"role": "tenant-admin"}, "role_not_for_workspace"),
        ({"role": "platform-admin"}, "role_not_for_workspace"),
        ({"role": "operator", "minutes": 481}, "grant_too_long"),
        ({"role": "operator", "minutes": 0}, "invalid_request"),
        ({"role": "operator", "minutes": -5}, "invalid_request"),
        ({"role": "operator", "minutes": 1e308}, "invalid_request"),
        ({"role": "operator", "reason": ""}, "invalid_request"),
        ({"role": "operator", "reason": "a\nb"}, "invalid_request"),
        ({"role": "operator", "provider": "GCP; drop"}, "invalid_request"),
        ({"role": "operator", "status": "active"}, "invalid_request"),
        ({"role": "operator", "expires_at": "2100-01-01T00:00:00Z"}, "invalid_request"),
    ):
        problem(client.post(office.path, json={"reason": "r", **fields}), 422, code)
    assert client.get(office.path).json()["items"] == []


def test_a_workspace_is_stricter_than_the_installation_and_never_laxer(office: Office) -> None:
    place = f"/workspaces/{office.workspace}"
    settings = {"max_grant_minutes": 20, "grant_quorum": 2}
    assert office.tenant.owner.patch(place, json={"settings": settings}).status_code == 200
    who = office.principal()
    body = {"role": "operator", "reason": "r", "minutes": 21}
    assert problem(who.client.post(office.path, json=body), 422, "grant_too_long")["limit"] == 20
    asked = office.ask(who, minutes=20)
    assert office.decide(asked).json()["status"] == "pending"
    assert office.now(asked)["status"] == "requested"
    assert office.decide(asked, by=office.principal("approver")).json()["status"] == "approved"
    assert len(office.now(asked)["granted_by"]) == 2
    laxer = {"max_grant_minutes": 10_000, "grant_quorum": 1}
    assert office.tenant.owner.patch(place, json={"settings": laxer}).status_code == 200
    answer = who.client.post(office.path, json=body | {"minutes": 481})
    assert problem(answer, 422, "grant_too_long")["limit"] == 480


def test_an_approver_shortens_and_never_lengthens(office: Office) -> None:
    asked = office.ask(office.principal(), minutes=60)
    problem(office.decide(asked, minutes=61), 422, "minutes_too_long")
    assert office.decide(asked, minutes=5).json()["granted_minutes"] == 5
    active = office.now(asked)
    assert (active["minutes"], active["granted_minutes"]) == (60, 5)
    assert at(active["expires_at"]) - at(active["active_at"]) == timedelta(minutes=5)


def test_what_is_rejected_or_withdrawn_gives_nothing_and_stays_known(office: Office) -> None:
    who = office.principal()
    denied, withdrawn = office.ask(who), office.ask(who)
    office.decide(denied, "reject", comment="no")
    assert office.now(denied)["status"] == "denied"
    assert who.client.post(f"{office.path}/{withdrawn['id']}/revoke").json()["status"] == "revoked"
    problem(office.decide(withdrawn), 409, "approval_closed")
    assert not office.may_work(who)
    items = office.tenant.owner.get(office.path, params={"principal": who.id}).json()["items"]
    assert {item["id"]: item["status"] for item in items} == {denied["id"]: "denied", withdrawn["id"]: "revoked"}


def test_grants_add_up_and_end_one_by_one(office: Office) -> None:
    who = office.principal()
    first, second, deployer = office.granted(who), office.granted(who), office.granted(who, "deployer")
    assert office.may_work(who)
    end = f"{office.path}/{{}}/revoke"
    who.client.post(end.format(first["id"]))
    assert office.may_work(who), "the other one still allows it"
    who.client.post(end.format(second["id"]))
    assert not office.may_work(who)
    held = next(item for item in who.client.get("/me").json()["workspaces"] if item["id"] == office.workspace)
    assert "deployment:apply" in held["permissions"]
    assert office.now(deployer)["status"] == "active"


def test_all_of_a_principal_end_at_once(office: Office) -> None:
    who, other = office.principal(), office.principal()
    grants = [office.granted(who), office.granted(who, "deployer"), office.ask(who)]
    kept = office.granted(other)
    answer = office.tenant.owner.post(f"{office.path}/revoke-all", json={"principal": who.id})
    assert {item["id"]: item["status"] for item in answer.json()["items"]} == {g["id"]: "revoked" for g in grants}
    assert not office.may_work(who)
    assert office.may_work(other)
    assert office.now(kept)["status"] == "active"
    problem(office.decide(grants[2]), 409, "approval_closed")
    again = office.tenant.owner.post(f"{office.path}/revoke-all", json={"principal": who.id})
    assert again.json()["items"] == []
    problem(who.client.post(f"{office.path}/revoke-all", json={"principal": other.id}), 403, "permission_missing")


def test_only_its_holder_and_administrators_end_or_extend_it(office: Office) -> None:
    who, other = office.principal(), office.principal()
    grant = office.granted(who)
    for verb, body in (("revoke", {}), ("extend", {"minutes": 5})):
        problem(other.client.post(f"{office.path}/{grant['id']}/{verb}", json=body), 403, "permission_missing")
    assert office.may_work(who)
    ended = office.tenant.owner.post(f"{office.path}/{grant['id']}/revoke", json={"reason": "left"}).json()
    again = who.client.post(f"{office.path}/{grant['id']}/revoke", json={"reason": "mine"}).json()
    assert (again["ended_by"], again["end_reason"]) == (ended["ended_by"], "left")


def test_an_extension_is_approved_anew_and_bounded_in_all(office: Office) -> None:
    who = office.principal()
    grant = office.granted(who, minutes=400)
    extend = f"{office.path}/{grant['id']}/extend"
    problem(who.client.post(extend, json={"minutes": 81}), 422, "grant_too_long")
    waits = who.client.post(extend, json={"minutes": 80}).json()
    assert (waits["expires_at"], waits["extension"]["minutes"]) == (grant["expires_at"], 80)
    problem(who.client.post(extend, json={"minutes": 1}), 409, "extension_pending")
    problem(office.decide(waits, by=who), 403, "permission_missing")
    office.decide(waits, minutes=50)
    longer = office.now(grant)
    assert at(longer["expires_at"]) - at(grant["expires_at"]) == timedelta(minutes=50)
    assert (longer["granted_minutes"], longer["extension"]) == (450, None)
    given = office.tenant.owner.post(extend, json={"minutes": 30}).json()
    assert at(given["expires_at"]) - at(grant["expires_at"]) == timedelta(minutes=80)
    problem(office.tenant.owner.post(extend, json={"minutes": 1}), 422, "grant_too_long")
    assert office.actions(grant).count("grant.extended") == 2


def test_an_extension_that_is_rejected_leaves_it_and_one_that_comes_too_late_does_nothing(office: Office) -> None:
    who = office.principal()
    grant = office.granted(who)
    extend = f"{office.path}/{grant['id']}/extend"
    office.decide(who.client.post(extend, json={"minutes": 5}).json(), "reject")
    assert (office.now(grant)["status"], office.now(grant)["extension"]) == ("active", None)
    waits = who.client.post(extend, json={"minutes": 5}).json()
    who.client.post(f"{office.path}/{grant['id']}/revoke")
    problem(office.decide(waits), 409, "approval_closed")
    problem(who.client.post(extend, json={"minutes": 5}), 409, "grant_not_active")


def test_a_grant_that_makes_an_administrator_does_not_extend_itself(office: Office) -> None:
    who = office.principal()
    grant = office.granted(who, "workspace-admin")
    waits = who.client.post(f"{office.path}/{grant['id']}/extend", json={"minutes": 5}).json()
    assert (waits["expires_at"], waits["extension"]["minutes"]) == (grant["expires_at"], 5)
    problem(office.decide(waits, by=who), 403, "approval_own_request")
    other = office.tenant.as_key(office.tenant.key(office.workspace, service_account=who.id))
    assert other.post(office.path, json={"role": "operator", "reason": "r"}).json()["status"] == "requested"


async def test_of_many_approvers_at_once_as_many_count_as_it_needs(office: Office) -> None:
    office.tenant.owner.patch(f"/workspaces/{office.workspace}", json={"settings": {"grant_quorum": 3}})
    crowd = [office.principal("approver") for _ in range(16)]
    asked = office.ask(office.principal())
    answers = await asyncio.gather(*(asyncio.to_thread(office.decide, asked, by=each) for each in crowd))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [409] * 13
    assert len(office.now(asked)["granted_by"]) == 3
    assert office.actions(asked).count("grant.activated") == 1


async def test_approval_and_withdrawal_at_once_end_in_one_of_both(office: Office) -> None:
    who = office.principal()
    for _ in range(6):
        asked = office.ask(who)
        revoke = f"{office.path}/{asked['id']}/revoke"
        approved, revoked = await asyncio.gather(
            asyncio.to_thread(office.decide, asked), asyncio.to_thread(who.client.post, revoke)
        )
        assert approved.status_code in (200, 409)
        assert revoked.status_code == 200, revoked.text
        assert office.now(asked)["status"] == "revoked", "the withdrawal comes after whatever was decided"
    assert not office.may_work(who)


async def test_what_is_given_and_taken_counts_in_every_process_within_a_second(office: Office, beside: Beside) -> None:
    who = office.principal()
    jobs = f"/workspaces/{office.workspace}/jobs"
    async with beside.client(who.key) as there:

        async def becomes(status: int) -> None:
            began = time.monotonic()
            while True:
                here = who.client.post(jobs, json={"command": ["true"]}).status_code
                found = {here, (await there.post(jobs, json={"command": ["true"]})).status_code}
                if found == {status}:
                    return
                assert time.monotonic() - began < 1, found

        await becomes(403)
        grant = office.granted(who)
        await becomes(202)
        who.client.post(f"{office.path}/{grant['id']}/revoke")
        await becomes(403)


async def test_a_grant_is_over_by_the_clock_whether_or_not_it_was_swept(office: Office, beside: Beside) -> None:
    who = office.principal()
    grant = office.given(who, minutes=60)
    jobs = f"/workspaces/{office.workspace}/jobs"
    async with beside.client(who.key) as there:
        try:
            assert (await there.post(jobs, json={"command": ["true"]})).status_code == 202
            beside.clock.ahead = timedelta(minutes=60)
            problem(await there.post(jobs, json={"command": ["true"]}), 403, "permission_missing")
            assert (await there.get(f"{office.path}/{grant['id']}")).json()["status"] == "expired"
            expired = (await there.get(office.path, params={"status": "expired"})).json()["items"]
            assert [item["id"] for item in expired] == [grant["id"]]
            answer = await there.post(f"{office.path}/{grant['id']}/extend", json={"minutes": 5})
            problem(answer, 409, "grant_not_active")
        finally:
            beside.clock.ahead = timedelta()
    assert office.now(grant)["status"] == "active", "here its time is not over"


def test_what_is_over_cannot_be_had_again_by_its_old_approval(office: Office) -> None:
    who = office.principal()
    grant = office.granted(who)
    who.client.post(f"{office.path}/{grant['id']}/revoke")
    assert office.decide(grant).json()["status"] == "approved", "the same vote again changes nothing"
    problem(office.decide(grant, by=office.principal("approver")), 409, "approval_closed")
    assert office.now(grant)["status"] == "revoked"
    assert not office.may_work(who)


def test_a_grant_counts_in_its_workspace_only(office: Office) -> None:
    who = office.principal()
    office.granted(who, "workspace-admin")
    other = office.tenant.workspace(f"other {time.monotonic_ns()}")
    problem(who.client.get(f"/workspaces/{other}/jobs"), 404, "not_found")
    problem(office.tenant.owner.get(f"/workspaces/{other}/grants/{office.ask(who)['id']}"), 404, "not_found")


def test_a_repeated_request_makes_one_grant(office: Office) -> None:
    who = office.principal()
    headers = {"Idempotency-Key": f"k{time.monotonic_ns()}"}
    body = {"role": "operator", "reason": "once"}
    first, second = [who.client.post(office.path, json=body, headers=headers) for _ in range(2)]
    assert first.json() == second.json()
    assert len(who.client.get(office.path).json()["items"]) == 1
    assert datetime.now(UTC) > at(first.json()["requested_at"])
