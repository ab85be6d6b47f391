"""Approvals: bound to what will be done, decided by others, once, in time, by as many as it needs."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
import rfc8785
from tests.conftest import Installation, Tenant
from tests.integration.api.conftest import Beside, ShiftedClock, problem
from tests.integration.api.deciding import APPROVE, CONTENT, REJECT, Desk, Principal, principal

from tenantry.capabilities.approvals.types import ApprovalStatus, Vote
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.errors import Conflict, Denied, Invalid
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import Actor, ActorType

pytestmark = pytest.mark.xdist_group("api")

HOUR = timedelta(hours=1)
MakeDesk = Callable[..., Desk]


@pytest.fixture(scope="module")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings, regions=("us",)) as opened:
        await opened.cells.get("us").link.start()
        yield opened


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def desk(acme: Tenant, parts: Parts, clock: ShiftedClock, dev: str) -> Desk:
    return Desk(parts, acme, dev, clock)


@pytest.fixture(scope="module")
def approver(acme: Tenant, dev: str) -> Principal:
    return principal(acme, dev, "approver")


@pytest.fixture(scope="module")
def requester(acme: Tenant, dev: str) -> Principal:
    return principal(acme, dev, "approver")


async def test_an_approval_shows_what_it_is_bound_to_and_who_approved(desk: Desk, approver: Principal) -> None:
    approval = await desk.ask()
    shown = approver.client.get(desk.of(approval)).json()
    assert shown["digest"] == hashlib.sha256(rfc8785.dumps(CONTENT)).hexdigest()
    assert (shown["status"], shown["needed"], shown["approved"], shown["decisions"]) == ("pending", 1, 0, [])
    decided = desk.vote(approver, approval, comment="as discussed").json()
    assert (decided["status"], decided["approved"]) == ("approved", 1)
    [vote] = decided["decisions"]
    assert (vote["principal"], vote["decision"], vote["comment"]) == (approver.id, "approve", "as discussed")
    assert [told.status for told in desk.recorder.told] == [], "the server has no subject of this kind"
    events = desk.tenant.owner.get("/audit", params={"resource": shown["id"]}).json()["items"]
    actions = [event["action"] for event in events if event["action"].startswith("approval.")]
    assert {"approval.requested", "approval.voted", "approval.approved"} <= set(actions)
    assert "as discussed" not in str(events), "what was said is content, which the trail does not keep"


async def test_lists_show_the_newest_first_and_those_of_one_status(desk: Desk, approver: Principal) -> None:
    first, second = await desk.ask(), await desk.ask()
    desk.vote(approver, first, comment="said")
    items = approver.client.get(desk.path, params={"limit": 2}).json()["items"]
    assert [item["id"] for item in items] == [
        format_id(Prefix.APPROVAL, second.approval_id),
        format_id(Prefix.APPROVAL, first.approval_id),
    ]
    assert items[1]["decisions"][0]["comment"] is None
    page = approver.client.get(desk.path, params={"limit": 1, "status": "approved"}).json()
    assert page["items"][0]["id"] == format_id(Prefix.APPROVAL, first.approval_id)
    stranger = approver.client.get(desk.path, params={"status": "pending", "cursor": page["next_cursor"] or "x"})
    problem(stranger, 422, "cursor_invalid")


async def test_nobody_decides_on_what_they_asked_for_whichever_key_they_use(
    desk: Desk, requester: Principal, approver: Principal, acme: Tenant, dev: str
) -> None:
    approval = await desk.ask(requester.actor)
    other_key = acme.key(dev, "approver", service_account=requester.id)
    for client in (requester.client, acme.as_key(other_key)):
        for vote in (APPROVE, REJECT):
            problem(client.post(f"{desk.of(approval)}/{vote}", json={}), 403, "approval_own_request")
    assert (await desk.now(approval)).status is ApprovalStatus.PENDING
    assert desk.vote(approver, approval).json()["status"] == "approved"
    events = acme.owner.get("/audit", params={"action": "approval.decide", "outcome": "denied"}).json()["items"]
    assert "approval_own_request" in {event["reason"] for event in events}


async def test_nobody_in_the_chain_of_an_agent_that_asks_decides_nor_whoever_gains(
    desk: Desk, requester: Principal, approver: Principal
) -> None:
    agent = Actor(ActorType.AGENT_SESSION, "ses_1", ("key_1", requester.id))
    problem(desk.vote(requester, await desk.ask(agent)), 403, "approval_own_request")
    approval = await desk.ask(agent, parties=(approver.id,))
    problem(desk.vote(approver, approval), 403, "approval_own_request")
    async with desk.service(Actor(ActorType.AGENT_SESSION, "ses_2", ("usr_1",))) as service:
        with pytest.raises(Denied, match="a person decides"):
            await service.decide(approval.approval_id, Vote.APPROVE, workspace_id=desk.workspace_id)


async def test_a_quorum_counts_principals_and_not_keys(desk: Desk, approver: Principal, acme: Tenant, dev: str) -> None:
    approval = await desk.ask(needed=2)
    again = acme.as_key(acme.key(dev, "approver", service_account=approver.id))
    for client in (approver.client, again, approver.client):
        answer = client.post(f"{desk.of(approval)}/approve", json={}).json()
        assert (answer["status"], answer["approved"]) == ("pending", 1)
    assert desk.vote(principal(acme, dev, "approver"), approval).json()["status"] == "approved"


async def test_a_vote_stands_and_its_replay_changes_nothing(desk: Desk, approver: Principal) -> None:
    approval = await desk.ask()
    first = desk.vote(approver, approval, comment="yes").json()
    assert desk.vote(approver, approval, comment="yes again").json() == first
    problem(desk.vote(approver, approval, REJECT), 409, "vote_cast")
    headers = {"Idempotency-Key": f"k-{format_id(Prefix.APPROVAL, approval.approval_id)}"}
    path, pending = f"{desk.path}/{{}}/approve", await desk.ask()
    made = approver.client.post(f"{desk.of(pending)}/approve", json={}, headers=headers)
    assert approver.client.post(f"{desk.of(pending)}/approve", json={}, headers=headers).json() == made.json()
    third = path.format(format_id(Prefix.APPROVAL, (await desk.ask()).approval_id))
    problem(approver.client.post(third, json={}, headers=headers), 422, "idempotency_key_reused")


async def test_one_rejection_is_enough_and_final(desk: Desk, approver: Principal, acme: Tenant, dev: str) -> None:
    approval = await desk.ask(needed=2)
    desk.vote(approver, approval)
    other = principal(acme, dev, "approver")
    assert desk.vote(other, approval, REJECT, comment="no").json()["status"] == "rejected"
    problem(desk.vote(principal(acme, dev, "approver"), approval), 409, "approval_closed")


async def test_of_many_who_approve_at_once_exactly_the_quorum_counts(desk: Desk, acme: Tenant, dev: str) -> None:
    approval = await desk.ask(needed=5)
    crowd = [principal(acme, dev, "approver") for _ in range(16)]
    answers = await asyncio.gather(*(asyncio.to_thread(desk.vote, each, approval) for each in crowd))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [409] * 11
    shown = acme.owner.get(desk.of(approval)).json()
    assert (shown["status"], shown["approved"], len(shown["decisions"])) == ("approved", 5, 5)


async def test_of_an_approval_and_a_rejection_at_once_one_counts(desk: Desk, acme: Tenant, dev: str) -> None:
    ones, others = [[principal(acme, dev, "approver") for _ in range(4)] for _ in range(2)]
    for one, other in zip(ones, others, strict=True):
        approval = await desk.ask()
        answers = await asyncio.gather(
            asyncio.to_thread(desk.vote, one, approval), asyncio.to_thread(desk.vote, other, approval, REJECT)
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert len(acme.owner.get(desk.of(approval)).json()["decisions"]) == 1


async def test_the_same_content_keeps_an_approval_and_any_other_makes_it_void(desk: Desk, approver: Principal) -> None:
    approval = await desk.ask()
    desk.vote(approver, approval)
    async with desk.service() as service:
        kept = await service.resubmit(
            approval.approval_id, dict(reversed(CONTENT.items())), workspace_id=desk.workspace_id
        )
        assert kept.status is ApprovalStatus.APPROVED
    async with desk.service() as service:
        changed = CONTENT | {"count": 4}
        void = await service.resubmit(approval.approval_id, changed, workspace_id=desk.workspace_id)
        assert void.status is ApprovalStatus.VOID
    assert [told.status for told in desk.recorder.told] == [ApprovalStatus.VOID]
    async with desk.service() as service:
        with pytest.raises(Conflict, match="void"):
            await service.consume(approval.approval_id, CONTENT, workspace_id=desk.workspace_id)
    pending = await desk.ask()
    async with desk.service() as service:
        await service.resubmit(pending.approval_id, CONTENT | {"image": "sha256:0b"}, workspace_id=desk.workspace_id)
    problem(desk.vote(approver, pending), 409, "approval_closed")


async def test_an_approval_is_used_once_for_exactly_what_it_is_of(
    desk: Desk, approver: Principal, clock: ShiftedClock
) -> None:
    approval = await desk.ask()

    async def use(content: dict[str, object]) -> str:
        try:
            async with desk.service() as service:
                await service.consume(approval.approval_id, content, workspace_id=desk.workspace_id)
        except Conflict as error:
            return error.code
        return "used"

    assert await use(CONTENT) == "approval_not_given"
    desk.vote(approver, approval)
    assert await use(CONTENT | {"count": 4}) == "approval_content_changed"
    clock.ahead = HOUR
    assert await use(CONTENT) == "approval_expired", "what was approved long ago is stale"
    clock.ahead = timedelta()
    assert sorted(await asyncio.gather(*(use(CONTENT) for _ in range(8)))) == ["approval_used"] * 7 + ["used"]
    async with desk.service() as service:
        kept = await service.withdraw(approval.approval_id, workspace_id=desk.workspace_id, reason="late")
        assert kept.status is ApprovalStatus.APPROVED, "what was done stays approved"


async def test_after_its_time_nothing_is_decided_swept_or_not(
    desk: Desk, approver: Principal, clock: ShiftedClock, beside: Beside
) -> None:
    approval = await desk.ask()
    clock.ahead = beside.clock.ahead = HOUR
    try:
        async with beside.client(approver.key) as client:
            assert (await client.get(desk.of(approval))).json()["status"] == "expired"
            problem(await client.post(f"{desk.of(approval)}/approve", json={}), 409, "approval_expired")
    finally:
        beside.clock.ahead = timedelta()
    for _ in range(2):
        async with desk.service() as service:
            await service.pass_due(approval.approval_id)
    assert [told.status for told in desk.recorder.told] == [ApprovalStatus.EXPIRED], "told once"
    problem(desk.vote(approver, approval), 409, "approval_closed")


async def test_what_nobody_answers_goes_to_those_above(
    desk: Desk, acme: Tenant, dev: str, clock: ShiftedClock, approver: Principal
) -> None:
    above = principal(acme, dev, "approver")
    approval = await desk.ask(
        eligible=(approver.id,), escalate_to=(above.id,), escalate_at=datetime.now(UTC) + HOUR / 2
    )
    problem(desk.vote(above, approval), 403, "approval_not_eligible")
    problem(desk.vote(principal(acme, dev, "approver"), approval), 403, "approval_not_eligible")
    async with desk.service() as service:
        await service.pass_due(approval.approval_id)
    assert (await desk.now(approval)).escalated_at is None, "not before its time"
    clock.ahead = HOUR / 2
    for _ in range(2):
        async with desk.service() as service:
            await service.pass_due(approval.approval_id)
    now = await desk.now(approval)
    assert (now.eligible, now.due_at, now.needed) == ((approver.id, above.id), approval.expires_at, 1)
    assert desk.vote(above, approval).json()["status"] == "approved"


async def test_a_quorum_that_nobody_can_reach_is_refused(desk: Desk, requester: Principal, approver: Principal) -> None:
    with pytest.raises(Invalid, match="only 1"):
        await desk.ask(requester.actor, needed=2, eligible=(requester.id, approver.id))


async def test_approvers_shorten_and_the_least_counts(desk: Desk, acme: Tenant, dev: str) -> None:
    approval = await desk.ask(needed=3, minutes=60)
    one, two, three = (principal(acme, dev, "approver") for _ in range(3))
    problem(desk.vote(one, approval, minutes=61), 422, "minutes_too_long")
    for minutes in (0, -1, 1.5, True, "5"):
        problem(desk.vote(one, approval, minutes=minutes), 422, "invalid_request")
    desk.vote(one, approval, minutes=20)
    desk.vote(two, approval, minutes=40)
    shown = desk.vote(three, approval).json()
    assert (shown["status"], shown["minutes"], shown["granted_minutes"]) == ("approved", 60, 20)
    problem(desk.vote(one, await desk.ask(), minutes=5), 422, "minutes_not_taken")


async def test_what_its_subject_refuses_undoes_the_vote(desk: Desk, approver: Principal) -> None:
    approval = await desk.ask()
    desk.recorder.refuses = Conflict("no_more", "what it was about is gone", layer="test")
    with pytest.raises(Conflict, match="gone"):
        async with desk.service(approver.actor) as service:
            await service.decide(approval.approval_id, Vote.APPROVE, workspace_id=desk.workspace_id)
    assert (await desk.now(approval)).status is ApprovalStatus.PENDING
    assert desk.tenant.owner.get(desk.of(approval)).json()["decisions"] == []


async def test_where_people_must_decide_no_program_does(desk: Desk, approver: Principal) -> None:
    approval = await desk.ask()
    desk.people_only = True
    async with desk.service(approver.actor) as service:
        with pytest.raises(Denied, match="a person decides"):
            await service.decide(approval.approval_id, Vote.APPROVE, workspace_id=desk.workspace_id)
    async with desk.service(Actor(ActorType.USER, "usr_1")) as service:
        decided = await service.decide(approval.approval_id, Vote.APPROVE, workspace_id=desk.workspace_id)
    assert decided.status is ApprovalStatus.APPROVED


async def test_who_may_not_decide_and_who_is_elsewhere_are_refused(
    desk: Desk, acme: Tenant, globex: Tenant, dev: str
) -> None:
    approval = await desk.ask()
    problem(desk.vote(principal(acme, dev, "operator"), approval), 403, "permission_missing")
    other = acme.workspace("approvals elsewhere")
    neighbour = principal(acme, other, "approver")
    problem(desk.vote(neighbour, approval), 404, "not_found")
    moved = desk.of(approval).replace(dev, other)
    problem(neighbour.client.post(f"{moved}/approve", json={}), 404, "not_found")
    problem(globex.owner.post(f"{desk.of(approval)}/approve", json={}), 404, "not_found")
    stale = {"If-Match": '"7"'}
    answer = acme.owner.post(f"{desk.of(approval)}/approve", json={}, headers=stale)
    problem(answer, 412, "version_mismatch")


@pytest.mark.parametrize(("mode", "days"), [("metadata_only", 900 / 86400), ("full", 2)])
async def test_what_was_said_is_sealed_and_goes_as_the_workspace_wants(
    mode: str, days: float, desk: Desk, acme: Tenant, parts: Parts
) -> None:
    settings = {"persistence_mode": mode, "retention_days": 2}
    desk.workspace = acme.workspace(f"said {mode}", settings=settings)
    approval = await desk.ask()
    said = "tell nobody, and not tenantry_us_ws01h455vb4pex5vsknk084sn02q_" + "A" * 32 + "_000000"
    shown = desk.vote(principal(acme, desk.workspace, "approver"), approval, comment=said).json()
    [vote] = shown["decisions"]
    assert vote["comment"] == "tell nobody, and not [masked]"
    kept = datetime.fromisoformat(shown["content_until"]) - datetime.fromisoformat(shown["decided_at"])
    assert kept == timedelta(days=days)
    [kind] = [kind for kind in parts.content_kinds("us").values() if kind.name == "approval"]
    async with desk.service() as service:
        session = service._session
        rows = await session.fetch(
            "select comment, comment_bytes from approval_decisions where approval_id = $1", approval.approval_id
        )
        assert b"nobody" not in rows[0]["comment"]
        due = await session.fetchval("select due_at from queue.purges where item_id = $1", approval.approval_id)
        assert due == datetime.fromisoformat(shown["content_until"])
        for _ in range(2):
            await kind.remove_objects(session, approval.approval_id)
            await kind.forget(session, approval.approval_id)
    [vote] = acme.owner.get(desk.of(approval)).json()["decisions"]
    assert vote["comment"] is None
    assert vote["comment_size_bytes"] == len("tell nobody, and not [masked]")
    assert vote["comment_sha256"] == hashlib.sha256(b"tell nobody, and not [masked]").hexdigest()
    assert (await desk.now(approval)).content_key is None
