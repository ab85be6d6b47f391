"""How long evidence is kept: the workspace's days, the floors, holds; what is collected, and what a dry run tells."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.integration.evidence.conftest import MakeGround
from tests.integration.evidence.rounds import aged, behind, purge, round_of, session_of
from tests.integration.evidence.seen import base, listed, locked, of_job
from tests.integration.sandboxes.ground import Ground, Json, until_async
from tests.integration.tenancy.ground import directory_dsn

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.evidence.service import EvidenceCollector, HoldService
from tenantry.capabilities.evidence.service.holds import MOST_HOLDS
from tenantry.capabilities.evidence.types import Selector
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.ids import Prefix, parse_id


def worked(ground: Ground, **body: Any) -> str:
    job = str(ground.run("true", **body)["id"])
    locked(ground, job)
    return job


def collect(ground: Ground, *, dry_run: bool) -> Json:
    answer = ground.client.post(f"{base(ground)}/gc", json={"dry_run": dry_run})
    assert answer.status_code == 200, answer.text
    report: Json = answer.json()
    return report


def place(ground: Ground, **selector: Any) -> Json:
    body = {"case_id": "case-1", "reason": "litigation", **selector}
    answer = ground.client.post(f"{base(ground)}/holds", json=body)
    assert answer.status_code == 201, answer.text
    hold: Json = answer.json()
    return hold


def release(ground: Ground, hold: Json) -> Json:
    answer = ground.client.delete(f"{base(ground)}/holds/{hold['id']}", params={"reason": "settled"})
    assert answer.status_code == 200, answer.text
    released: Json = answer.json()
    return released


async def test_a_dry_run_tells_what_the_real_run_does(make_ground: MakeGround) -> None:
    ground = make_ground(retention_days=40)
    jobs = [await asyncio.to_thread(worked, ground, labels={"env": "dev"} if n else {}) for n in range(4)]
    ids = [parse_id(Prefix.JOB, job) for job in jobs]
    await aged(ground, days=50, job=ids[0])
    await aged(ground, days=50, job=ids[1])
    await aged(ground, days=39, job=ids[2])
    place(ground, label={"env": "dev"})
    told = collect(ground, dry_run=True)
    assert len(listed(ground)) == 4
    done = collect(ground, dry_run=False)
    assert {**told, "dry_run": False} == done
    assert (done["scanned"], done["expired"], done["held"], done["deleted"], done["left"]) == (4, 2, 1, 1, 0)
    assert done["by_state"] == {"wip": 0, "locked": 4, "tampered": 0}
    assert done["bytes"] > 1000
    assert {one["subject"] for one in listed(ground)} == set(jobs[1:])
    [event] = ground.audit(action="evidence.collected")
    assert event["details"]["sha256"]
    runs = ground.audit(action="evidence.collection")
    assert {run["details"]["dry_run"] for run in runs} == {True, False}
    assert collect(ground, dry_run=False)["deleted"] == 0


async def test_no_workspace_goes_below_the_floor(make_ground: MakeGround) -> None:
    ground = make_ground(retention_days=1)
    await asyncio.to_thread(worked, ground)
    await aged(ground, days=29)
    report = collect(ground, dry_run=False)
    assert (report["floor_days"], report["expired"], report["under_floor"], report["deleted"]) == (30, 1, 1, 0)
    await aged(ground, days=2)
    assert collect(ground, dry_run=False)["deleted"] == 1


async def test_a_tenants_legal_floor_is_the_platforms_to_set(make_ground: MakeGround) -> None:
    ground = make_ground(retention_days=1)
    await asyncio.to_thread(worked, ground)
    path, floor = f"/tenants/{ground.tenant.id}", {"limits": {"evidence_floor_days": 90}}
    assert ground.tenant.owner.patch(path, json=floor).json()["code"] == "platform_field"
    assert ground.installation.platform.patch(path, json=floor).status_code == 200
    await aged(ground, days=80)
    report = collect(ground, dry_run=False)
    assert (report["floor_days"], report["under_floor"], report["deleted"]) == (90, 1, 0)
    lower = {"limits": {"evidence_floor_days": 0}}
    assert ground.tenant.owner.patch(path, json=lower).json()["code"] == "platform_field"
    assert ground.client.get(f"{base(ground)}/index").json()["floor_days"] == 90
    await aged(ground, days=11)
    assert collect(ground, dry_run=False)["deleted"] == 1


@pytest.mark.parametrize("said", ["many", 1.5, -1, 10**9])
async def test_a_floor_that_is_no_number_of_days_keeps_everything(said: Any, make_ground: MakeGround) -> None:
    ground = make_ground(retention_days=1)
    path = f"/tenants/{ground.tenant.id}"
    assert ground.installation.platform.patch(path, json={"limits": {"evidence_floor_days": said}}).status_code == 200
    assert ground.client.get(f"{base(ground)}/index").json()["floor_days"] == 36_500


async def test_the_servers_own_round_collects_what_is_over(make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground(retention_days=40)
    await asyncio.to_thread(worked, ground)
    kept = await asyncio.to_thread(worked, ground)
    await aged(ground, days=45)
    await aged(ground, days=-40, job=parse_id(Prefix.JOB, kept))
    async with round_of(parts) as server:
        await server.collect()
    assert [one["subject"] for one in listed(ground)] == [kept]


async def test_open_work_is_never_collected(make_ground: MakeGround) -> None:
    ground = make_ground(retention_days=1)
    job = ground.start("sleep", "60")
    await asyncio.to_thread(ground.until_status, job, "running")
    async with behind(ground.installation) as connection:
        await connection.execute(
            "update evidence set created_at = now() - interval '1 year' where tenant_id = $1", ground.tenant_id
        )
    assert collect(ground, dry_run=False)["expired"] == 0
    ground.cancel(job)


SELECTORS = ["workspace", "label", "subject", "since", "until", "span"]


@pytest.mark.parametrize("selector", SELECTORS)
async def test_a_hold_keeps_what_it_selects_and_only_that(selector: str, make_ground: MakeGround) -> None:
    ground = make_ground(retention_days=1)
    job = await asyncio.to_thread(worked, ground, labels={"env": "dev"})
    await aged(ground, days=100)
    then = datetime.now(UTC) - timedelta(days=100)
    hits: dict[str, Json] = {
        "workspace": {},
        "label": {"label": {"env": "dev"}},
        "subject": {"subject": job},
        "since": {"since": (then - timedelta(days=1)).isoformat()},
        "until": {"until": (then + timedelta(days=1)).isoformat()},
        "span": {"since": (then - timedelta(days=1)).isoformat(), "until": (then + timedelta(days=1)).isoformat()},
    }
    misses: dict[str, Json] = {
        "workspace": {"label": {"env": "prod"}, "subject": job},
        "label": {"label": {"env": "prod"}},
        "subject": {"subject": "job_01h455vb4pex5vsknk084sn02q"},
        "since": {"since": (then + timedelta(days=1)).isoformat()},
        "until": {"until": (then - timedelta(days=1)).isoformat()},
        "span": {"since": (then + timedelta(days=1)).isoformat(), "until": (then + timedelta(days=2)).isoformat()},
    }
    missed = place(ground, **misses[selector])
    assert collect(ground, dry_run=True)["held"] == 0
    hold = place(ground, **hits[selector])
    report = collect(ground, dry_run=False)
    assert (report["held"], report["deleted"]) == (1, 0)
    release(ground, missed)
    assert collect(ground, dry_run=False)["deleted"] == 0
    assert release(ground, hold)["active"] is False
    assert collect(ground, dry_run=False)["deleted"] == 1


async def test_a_hold_leaves_its_history_and_is_released_once(make_ground: MakeGround) -> None:
    ground = make_ground()
    hold = place(ground, label={"env": "dev"})
    assert (hold["active"], hold["case_id"], hold["label"]) == (True, "case-1", {"env": "dev"})
    release(ground, hold)
    again = ground.client.delete(f"{base(ground)}/holds/{hold['id']}")
    assert (again.status_code, again.json()["code"]) == (409, "hold_released")
    [found] = ground.client.get(f"{base(ground)}/holds").json()["items"]
    assert (found["release_reason"], found["active"]) == ("settled", False)
    assert ground.client.get(f"{base(ground)}/holds", params={"active": "true"}).json()["items"] == []
    assert {event["action"] for event in ground.audit(resource=hold["id"])} == {
        "evidence.hold_placed", "evidence.hold_released",
    }  # fmt: skip


def test_a_workspace_has_so_many_active_holds(make_ground: MakeGround) -> None:
    ground = make_ground()
    holds = [place(ground) for _ in range(MOST_HOLDS)]
    refused = ground.client.post(f"{base(ground)}/holds", json={"case_id": "one more", "reason": "r"})
    assert (refused.status_code, refused.json()["code"]) == (409, "hold_limit")
    release(ground, holds[0])
    assert place(ground)["active"]


async def test_a_hold_keeps_what_a_job_has_left_from_the_sweep(make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground(persistence_mode="full", retention_days=1)
    job = await asyncio.to_thread(
        lambda: ground.sh("echo said; echo kept > out.txt", artifacts=["out.txt"], labels={"env": "dev"})
    )
    [artifact] = ground.artifacts(job["id"]).values()
    hold = place(ground, label={"env": "dev"})
    await purge(parts)
    assert ground.lines(job["id"], "stdout") == "said\n"
    assert ground.content(job["id"], artifact["id"]).content == b"kept\n"
    release(ground, hold)
    async with behind(ground.installation) as connection:
        await connection.execute("update queue.purges set due_at = now() where tenant_id = $1", ground.tenant_id)
    await purge(parts)
    assert ground.content(job["id"], artifact["id"]).status_code == 410


async def test_a_tenant_under_a_hold_is_not_deleted(make_ground: MakeGround) -> None:
    ground = make_ground()
    hold, platform = place(ground), ground.installation.platform
    refused = platform.delete(f"/tenants/{ground.tenant.id}")
    assert (refused.status_code, refused.json()["code"], refused.json()["cases"]) == (409, "legal_hold", ["case-1"])
    assert ground.tenant.owner.get(f"/tenants/{ground.tenant.id}").json()["status"] == "active"
    release(ground, hold)
    assert platform.delete(f"/tenants/{ground.tenant.id}").status_code == 200


async def test_a_deletion_and_a_hold_at_once_come_one_after_the_other(make_ground: MakeGround, parts: Parts) -> None:
    ground, clock = make_ground(), SystemClock()
    workspace, path = parse_id(Prefix.WORKSPACE, ground.workspace), f"/tenants/{ground.tenant.id}"
    async with session_of(parts, ground, workspace=workspace) as placing:
        holds = HoldService(session=placing, audit=AuditService(session=placing, clock=clock), clock=clock)
        await holds.place(workspace_id=workspace, case_id="c", reason="r", selector=Selector(), by="test")
        deleting = asyncio.create_task(asyncio.to_thread(ground.installation.platform.delete, path))
        done, _ = await asyncio.wait({deleting}, timeout=0.3)
        assert not done, "it did not wait for the hold"
    assert (await deleting).json()["code"] == "legal_hold"
    assert ground.tenant.owner.get(path).json()["status"] == "active"


async def test_an_erasure_waits_for_a_hold_that_came_all_the_same(make_ground: MakeGround) -> None:
    """Behind the product's back; the tenant can be restored, and the hold released."""
    ground = make_ground()
    hold, platform, path = place(ground), ground.installation.platform, f"/tenants/{ground.tenant.id}"
    release(ground, hold)
    assert platform.delete(path).status_code == 200
    async with behind(ground.installation) as connection:
        await connection.execute(
            "update evidence_holds set released_at = null, released_by = null where tenant_id = $1", ground.tenant_id
        )
        await connection.execute("update tenants set erase_after = now() where tenant_id = $1", ground.tenant_id)
    directory = await asyncpg.connect(directory_dsn(ground.installation))
    await directory.execute(
        "update directory.operations set due_at = now() where tenant_id = $1 and kind = 'erase'", ground.tenant_id
    )
    await directory.close()

    def waits() -> bool:
        [operation] = platform.get(f"{path}/operations").json()["items"]
        return bool(operation["failure"] == "legal_hold")

    await until_async(waits)
    assert platform.post(f"{path}/restore").status_code == 200
    release(ground, hold)
    assert ground.tenant.owner.get(path).json()["status"] == "active"


async def test_holds_take_the_feature_of_the_plan_and_so_does_the_export(make_ground: MakeGround) -> None:
    ground = make_ground(plan="starter")
    for answer in (
        ground.client.post(f"{base(ground)}/holds", json={"case_id": "c", "reason": "r"}),
        ground.client.get(f"{base(ground)}/export"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "feature_missing"), answer.text
    assert ground.client.get(base(ground)).status_code == 200


async def test_a_hold_and_a_collection_at_once_come_one_after_the_other(make_ground: MakeGround, parts: Parts) -> None:
    """Whoever comes second sees what the first has done: a hold that was placed lost nothing it could have kept."""
    ground = make_ground(retention_days=1)
    await asyncio.to_thread(worked, ground)
    await aged(ground, days=100)
    workspace, clock = parse_id(Prefix.WORKSPACE, ground.workspace), SystemClock()
    async with session_of(parts, ground, workspace=workspace) as placing:
        holds = HoldService(session=placing, audit=AuditService(session=placing, clock=clock), clock=clock)
        await holds.place(workspace_id=workspace, case_id="c", reason="r", selector=Selector(), by="test")

        async def collecting() -> tuple[int, int]:
            async with session_of(parts, ground, workspace=workspace) as session:
                audit = AuditService(session=session, clock=clock)
                collector = EvidenceCollector(session=session, audit=audit, floor_days=0, clock=clock)
                report = await collector.collect(workspace_id=workspace, dry_run=False)
                return report.held, report.deleted

        waiting = asyncio.create_task(collecting())
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done, "it did not wait for the hold"
    assert await waiting == (1, 0)
    assert len(listed(ground)) == 1


async def test_a_hold_waits_for_a_collection_under_way(make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground(retention_days=1)
    await asyncio.to_thread(worked, ground)
    await aged(ground, days=100)
    workspace, clock = parse_id(Prefix.WORKSPACE, ground.workspace), SystemClock()
    async with session_of(parts, ground, workspace=workspace) as session:
        audit = AuditService(session=session, clock=clock)
        collector = EvidenceCollector(session=session, audit=audit, floor_days=0, clock=clock)
        assert (await collector.collect(workspace_id=workspace, dry_run=False)).deleted == 1
        placing = asyncio.create_task(asyncio.to_thread(place, ground))
        done, _ = await asyncio.wait({placing}, timeout=0.3)
        assert not done, "it did not wait for the collection"
    assert (await placing)["active"]
    assert listed(ground) == []


async def test_two_collections_at_once_delete_each_piece_once(make_ground: MakeGround) -> None:
    ground = make_ground(retention_days=1)
    for _ in range(3):
        await asyncio.to_thread(worked, ground)
    await aged(ground, days=100)
    reports = await asyncio.gather(*(asyncio.to_thread(collect, ground, dry_run=False) for _ in range(4)))
    assert sum(report["deleted"] for report in reports) == 3
    assert len(ground.audit(action="evidence.collected")) == 3


async def test_evidence_is_found_by_what_it_is_of(make_ground: MakeGround) -> None:
    ground = make_ground()
    job = await asyncio.to_thread(worked, ground)
    assert of_job(ground, job)["subject"] == job
    assert listed(ground, state="wip") == []
    bad = ground.client.get(base(ground), params={"subject": "job_x"})
    assert (bad.status_code, bad.json()["code"]) == (422, "id_malformed")
