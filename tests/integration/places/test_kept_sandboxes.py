"""What is kept of sandboxes goes where its tenant goes, and what runs meanwhile comes to rest or goes on."""

from itertools import pairwise

import pytest
from tests.integration.places.conftest import Eyes, MakeGround
from tests.integration.places.test_moves import ROUND, ask, ended, move
from tests.integration.sandboxes.ground import until
from tests.integration.sandboxes.live_ground import Json, LiveGround
from tests.integration.sandboxes.living import Living, start

from tenantry.entrypoints.addresses import cell_database
from tenantry.entrypoints.runtime import Parts

#: In a session of its own, or it would end with the command that began it.
BEATING = "setsid --wait sh -c '(while :; do date +%s%N > next; mv next beat; sleep 0.1; done) > /dev/null 2>&1 &'"
#: It goes on when another time is written: at once, or when a busy machine comes to it.
BEATS = """cat file; until a=$(cat beat 2> /dev/null); do sleep 0.1; done
for _ in $(seq 200); do test "$a" != "$(cat beat)" && exit 0; sleep 0.1; done; exit 1"""
PHASES = {
    "fetch": {"command": ["sh", "-c", "echo fetched > /workspace/got"]},
    "run": {"command": ["sh", "-c", "cat got > made"]},
    "publish": {"command": ["sh", "-c", "cat made"]},
}


def said(living: Living, script: str) -> str:
    told = living.sh(script)
    assert told["exit_code"] == 0, told
    return str(told["stdout"])


def again(live: LiveGround, sandbox: Json) -> Living:
    """Start it once more; gives it running."""
    told = live.done(sandbox, "start", wait=60)
    assert told["status"] == "running", told
    return Living(live.ground, told["id"], told["name"], live.client.headers["authorization"].removeprefix("Bearer "))


def forked(live: LiveGround, sandbox: Json, **body: str) -> str:
    """Start another from it, tell what `file` holds there, and stop it."""
    made = live.done(sandbox, "fork", wait=60, **body)
    assert made["status"] == "running", made
    key = live.client.headers["authorization"].removeprefix("Bearer ")
    text = said(Living(live.ground, made["id"], made["name"], key), "cat file")
    live.stopped(made)
    return text


def inhabited(live: LiveGround) -> tuple[Json, Json]:
    """Make a sandbox that has been stopped, with a snapshot of what was before."""
    living = start(live.ground, "kept", env={"WORD": "given"})
    said(living, "echo then > file")
    made = live.get({"id": living.id})
    snapshot = live.done(made, "snapshot", name="then")
    said(living, "echo now > file; mkdir -p a && ln -s ../file a/link && chmod 640 file")
    live.stopped(made)
    return made, snapshot


async def test_a_sandbox_lives_on_while_its_tenant_changes_strategy(make_ground: MakeGround) -> None:
    live = LiveGround(make_ground())
    kept, snapshot = inhabited(live)
    living = start(live.ground, "living")
    said(living, f"echo first > file; {BEATING}")
    for _, new in pairwise(ROUND):
        move(live.ground.tenant, isolation=new)
        assert said(living, BEATS) == "first\n"
        running = again(live, kept)
        assert said(running, "cat a/link; stat -c %a file; echo $WORD") == "now\n640\ngiven\n"
        live.stopped(kept)
        assert forked(live, kept, name=f"from-{new.partition('_')[0]}", snapshot=snapshot["id"]) == "then\n"
        taken = live.done({"id": living.id}, "snapshot", name=new.partition("_")[0])
        assert taken["files"] >= 2
    told = live.stopped({"id": living.id})
    assert (told["status"], told["reason"]) == ("stopped", "stopped")
    assert said(again(live, told), "cat file") == "first\n"


@pytest.mark.parametrize(
    ("isolation", "target"),
    [("row_level", "row_level"), ("schema_level", "database_level"), ("database_level", "schema_level")],
)
async def test_what_is_kept_leaves_a_region_with_its_tenant(
    make_ground: MakeGround, parts: Parts, eyes: Eyes, isolation: str, target: str
) -> None:
    live = LiveGround(make_ground(isolation=isolation))
    kept, snapshot = inhabited(live)
    job = live.client.post(live.ground.jobs, params={"wait": 60}, json={"phases": PHASES, "artifacts": ["made"]}).json()
    assert job["status"] == "succeeded", job
    before = {entry.key: entry.size async for entry in parts.objects["us"].list_objects(live.ground.tenant_id)}
    assert len(before) == 3, "two trees and an artifact"

    move(live.ground.tenant, region="eu", isolation=target)

    after = {entry.key: entry.size async for entry in parts.objects["eu"].list_objects(live.ground.tenant_id)}
    assert after == before
    assert [entry async for entry in parts.objects["us"].list_objects(live.ground.tenant_id)] == []
    assert await eyes.rows(cell_database("us"), live.ground.tenant_id) == {}
    artifact = live.ground.artifacts(job["id"])["made"]["id"]
    assert live.client.get(f"{live.ground.jobs}/{job['id']}/artifacts/{artifact}/content").text == "fetched\n"
    assert said(again(live, kept), "cat a/link; stat -c %a file; echo $WORD") == "now\n640\ngiven\n"
    live.stopped(kept)
    assert forked(live, kept, name="copy", snapshot=snapshot["id"]) == "then\n"


@pytest.mark.parametrize("isolation", ["row_level", "database_level"])
def test_one_that_runs_is_stopped_and_its_files_arrive(make_ground: MakeGround, isolation: str) -> None:
    live = LiveGround(make_ground(isolation=isolation))
    living = start(live.ground, "running")
    said(living, "echo lately > file")
    move(live.ground.tenant, region="eu", isolation=isolation)
    told = live.get({"id": living.id})
    assert (told["status"], told["reason"]) == ("stopped", "tenant_moving")
    assert said(again(live, told), "cat file") == "lately\n"
    live.stopped(told)


def test_one_that_keeps_nothing_is_waited_for_as_a_job_is(make_ground: MakeGround) -> None:
    ground = make_ground()
    workspace = ground.tenant.workspace("passing")
    live = LiveGround(type(ground)(ground.tenant, workspace, ground.client))
    living = start(live.ground, "passing")
    asked = ask(ground.tenant, region="eu").json()
    ground.tenant.owner.post(f"/tenants/{ground.tenant.id}/operations/{asked['id']}/confirm")

    def waits() -> bool:
        found = ground.installation.platform.get(f"/tenants/{ground.tenant.id}/operations/{asked['id']}").json()
        return bool(found["step"] == "drain" and found["failure"] == "tenant_draining")

    until(waits, seconds=30)
    assert live.get({"id": living.id})["status"] == "running"
    ground.tenant.owner.post(f"/tenants/{ground.tenant.id}/operations/{asked['id']}/cancel")
    assert ended(ground.tenant, asked["id"])["status"] == "cancelled"
    assert said(living, "echo still") == "still\n"
    live.stopped({"id": living.id})
