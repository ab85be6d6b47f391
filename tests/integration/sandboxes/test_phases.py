"""Jobs of several programs: each in a sandbox of its own, with its own list, secrets and rights; a tree goes along."""

import asyncio
import hashlib
import os
import secrets as random
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.conftest import Installation
from tests.integration.api.conftest import problem
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, given, until

from tenantry.capabilities.sandboxes import repository
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

Json = dict[str, Any]
REACH = """
import socket, sys
for port in sys.argv[1:]:
    try:
        link = socket.create_connection(("127.0.0.1", 3128), 10)
    except OSError as error:
        print(port, error.strerror)
        continue
    link.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\n".encode())
    print(port, link.recv(4096).split()[1].decode(), flush=True)
"""
SEARCH = """
import os, sys
found = [value for value in os.environ.values()]
for base, folders, names in os.walk("/"):
    if base.startswith(("/sys", "/usr", "/lib", "/proc")):
        folders.clear()
        continue
    for name in names:
        path = os.path.join(base, name)
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, "rb") as source:
                found.append(source.read(1 << 20).decode(errors="replace"))
for pid in [each for each in os.listdir("/proc") if each.isdecimal()]:
    for name in ("environ", "cmdline"):
        with open(f"/proc/{pid}/{name}", "rb") as source:
            found.append(source.read().decode(errors="replace"))
print("looked at", len(found) > 10, "found", sum("can" + "ary-" in text for text in found if text is not None))
"""


class _Silent(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    """Three servers of this machine."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Silent) for _ in range(3)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    yield [server.server_address[1] for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def ground(make_ground: MakeGround) -> Ground:
    return make_ground()


@pytest.fixture(scope="module")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings, regions=("us",)) as opened:
        await opened.cells.get("us").start()
        yield opened


def sh(script: str, **more: object) -> Json:
    return {"command": ["sh", "-c", script], **more}


def begin(ground: Ground, phases: Json, **body: object) -> str:
    answer = ground.client.post(ground.jobs, json={"phases": phases, **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def run(ground: Ground, phases: Json, **body: object) -> tuple[Json, str]:
    job = ground.ended(begin(ground, phases, **body))
    return job, ground.lines(job["id"])


def allow(ground: Ground, document: Json) -> None:
    path = f"/workspaces/{ground.workspace}/policies/network"
    answer = ground.tenant.owner.put(path, params={"state": "enforced"}, json=document)
    assert answer.status_code == 200, answer.text


def hosts(*ports: int) -> list[Json]:
    return [{"host": "127.0.0.1", "port": port} for port in ports]


def write_secret(ground: Ground, name: str) -> str:
    value = f"canary-{random.token_hex(16)}"
    answer = ground.client.post(f"/workspaces/{ground.workspace}/secrets", json={"name": name, "value": value})
    assert answer.status_code == 201, answer.text
    return value


def test_a_tree_goes_from_phase_to_phase_and_artifacts_are_what_run_left(ground: Ground) -> None:
    phases = {
        "fetch": sh("echo fetched > source; ls -A /inputs; echo $WHO; id -u", env={"WHO": "fetcher"}),
        "run": sh("cat source /inputs/a; echo built > /outputs/built; echo $WHO", env={"WHO": "runner"}),
        "publish": sh("cat source /outputs/built; echo $WHO; cat /inputs/a", inputs=True),
    }
    job, said = run(ground, phases, artifacts=["outputs/**"], inputs=[given("a", b"given\n")])
    assert (job["status"], job["reason"], job["exit_code"]) == ("succeeded", "exited", 0), said
    assert ground.lines(job["id"], "stdout") == (
        "fetcher\n1000\n" "fetched\ngiven\nrunner\n" "fetched\nbuilt\n\ngiven\n"
    )  # fmt: skip
    assert list(ground.artifacts(job["id"])) == ["outputs/built"]
    assert job["command"] == phases["run"]["command"]
    assert [(one["phase"], one["workspace"], one["inputs"]) for one in job["phases"]] == [
        ("fetch", "write", False), ("run", "write", True), ("publish", "read", True),
    ]  # fmt: skip


def test_the_log_says_which_phase_speaks(ground: Ground) -> None:
    job, _ = run(ground, {"fetch": sh("printf one"), "run": sh("printf two; printf three >&2")})
    said = ground.lines(job["id"], "system", "stdout")
    assert said == "[tenantry] phase fetch begins\none[tenantry] phase run begins\ntwo"
    assert ground.lines(job["id"], "stderr") == "three"


def test_each_phase_has_a_sandbox_a_receipt_and_a_share_of_the_usage(ground: Ground) -> None:
    job, _ = run(ground, {"fetch": sh("head -c 3000 /dev/zero"), "run": sh("echo x"), "publish": sh("echo y")})
    receipts = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()["phases"]
    assert receipts.keys() == {"fetch", "run", "publish"}
    assert len({receipt["uid_map"] for receipt in receipts.values()}) == (3 if os.geteuid() == 0 else 1)
    assert all({"user", "pid", "mnt", "net"} <= set(receipt["unshared"]) for receipt in receipts.values())
    usage = job["usage"]
    assert usage["output_bytes"] == 3004
    assert {name: each["output_bytes"] for name, each in usage["phases"].items()} == {
        "fetch": 3000, "run": 2, "publish": 2,
    }  # fmt: skip
    assert usage["wall_seconds"] == pytest.approx(sum(each["wall_seconds"] for each in usage["phases"].values()))
    assert usage["peak_memory_mib"] == max(each["peak_memory_mib"] for each in usage["phases"].values())


def test_memory_is_metered_for_as_long_as_each_phase_held_it(ground: Ground) -> None:
    large = {"command": ["python3", "-c", "x = b'x' * (150 << 20)"]}
    job, _ = run(ground, {"fetch": large, "run": sh("sleep 1")})
    asked = {"meter": "job_memory_mib_seconds", "granularity": "event"}
    [item] = ground.tenant.owner.get(f"/workspaces/{ground.workspace}/metering", params=asked).json()["items"]
    held = sum(each["peak_memory_mib"] * each["wall_seconds"] for each in job["usage"]["phases"].values())
    assert float(item["quantity"]) == pytest.approx(held, rel=0.01)
    assert held < job["usage"]["peak_memory_mib"] * job["usage"]["wall_seconds"]


def test_a_rule_of_ones_own_sees_the_phase(ground: Ground) -> None:
    owner, place = ground.tenant.owner, f"/workspaces/{ground.workspace}/policies"
    rule = {"name": "sealed", "expression": "job.phase == 'publish'", "message": "Nothing is published here."}
    answer = owner.put(f"{place}/rules", params={"state": "enforced"}, json={"rules": [rule]})
    assert answer.status_code == 200, answer.text
    true: Json = {"command": ["true"]}
    assert run(ground, {"fetch": true, "run": true})[0]["status"] == "succeeded"
    refused = problem(
        ground.client.post(ground.jobs, json={"phases": {"run": true, "publish": true}}), 403, "policy_denied"
    )
    assert "In the phase publish: Nothing is published here." in refused["detail"]
    tried = [
        owner.post(f"{place}/test", json={"job": {**true, "phase": phase}}).json()["decision"]
        for phase in ("fetch", "run", "publish")
    ]
    assert tried == ["allow", "allow", "deny"]


def test_a_waiting_job_is_denied_when_a_policy_takes_what_one_phase_asks_for(ground: Ground, ports: list[int]) -> None:
    allow(ground, {"allowed_hosts": ["127.0.0.1"], "allowed_ports": [ports[0]]})
    owner = ground.tenant.owner
    assert owner.patch(f"/workspaces/{ground.workspace}/limits", json={"max_concurrent_jobs": 1}).status_code == 200
    running = ground.start("sleep", "30")
    ground.until_status(running, "running")
    true: Json = {"command": ["true"]}
    waiting = begin(ground, {"fetch": {**true, "network": hosts(ports[0])}, "run": true})
    allow(ground, {"allowed_hosts": ["127.0.0.1"], "phases": {"fetch": {"allowed_hosts": ["example.com"]}}})
    assert ground.job(waiting)["status"] == "denied"
    ground.cancel(running)


def test_one_phase_is_as_a_plain_job(ground: Ground) -> None:
    job, said = run(ground, {"run": sh("echo x")})
    assert (job["status"], said) == ("succeeded", "x\n")
    receipt = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()
    assert receipt["backend"] == "bubblewrap"
    assert "phases" not in job["usage"]


def test_each_phase_reaches_its_own_list_alone(ground: Ground, ports: list[int]) -> None:
    allow(ground, {"allowed_hosts": ["127.0.0.1"], "allowed_ports": ports})
    command = ["python3", "-c", REACH, *map(str, ports)]
    phases = {
        "fetch": {"command": command, "network": hosts(ports[0])},
        "run": {"command": command},
        "publish": {"command": command, "network": hosts(ports[2])},
    }
    job, said = run(ground, phases)
    assert job["status"] == "succeeded", said
    answers = [line.split(" ", 1) for line in ground.lines(job["id"], "stdout").splitlines()]
    assert [answer for _, answer in answers] == [
        "200", "403", "403", "Connection refused", "Connection refused", "Connection refused", "403", "403", "200",
    ]  # fmt: skip
    assert [(one["port"], one["phase"]) for one in job["network"]] == [(ports[0], "fetch"), (ports[2], "publish")]
    assert (job["usage"]["connections"], job["usage"]["denied_connections"]) == (2, 4)
    receipts = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()["phases"]
    assert {name: receipt["network"] for name, receipt in receipts.items()} == {
        "fetch": "gateway", "run": "none", "publish": "gateway",
    }  # fmt: skip


def test_a_network_policy_allows_phase_by_phase(ground: Ground, ports: list[int]) -> None:
    own = {"allowed_hosts": ["127.0.0.1"], "allowed_ports": [ports[0]]}
    allow(ground, {"allowed_hosts": ["example.com"], "phases": {"fetch": own}})
    true: Json = {"command": ["true"]}
    asked = {"fetch": {**true, "network": hosts(ports[0])}, "run": true}
    assert run(ground, asked)[0]["status"] == "succeeded"
    moved = {"fetch": true, "run": {**true, "network": hosts(ports[0])}}
    refused = problem(ground.client.post(ground.jobs, json={"phases": moved}), 403, "policy_denied")
    assert refused["policy_kind"] == "network"
    assert "phase run" in refused["detail"]


@pytest.mark.parametrize("form", ["plain", "phases"])
def test_a_connection_of_a_phase_that_is_not_there_is_refused(ground: Ground, ports: list[int], form: str) -> None:
    body = {"command": ["true"]} if form == "plain" else {"phases": {"run": {"command": ["true"]}}}
    asked = [{"host": "127.0.0.1", "port": ports[0], "phase": "fetch"}]
    refused = problem(ground.client.post(ground.jobs, json={**body, "network": asked}), 422, "phase_absent")
    assert refused["field"] == "network[0].phase"


def test_a_secret_of_publish_is_nowhere_before_it(ground: Ground) -> None:
    value = write_secret(ground, "TOKEN")
    search = {"command": ["python3", "-c", SEARCH]}
    publish = sh('printf %s "$TOKEN" | sha256sum; cat /run/secrets/key | sha256sum; echo "it is $TOKEN"')
    publish["secrets"] = [{"name": "TOKEN"}, {"name": "TOKEN", "file": "key"}]
    job, said = run(ground, {"fetch": search, "run": search, "publish": publish})
    assert job["status"] == "succeeded", said
    told = ground.lines(job["id"], "stdout").splitlines()
    assert told[:2] == ["looked at True found 0"] * 2
    digest = hashlib.sha256(value.encode()).hexdigest()
    assert told[2:] == [f"{digest}  -", f"{digest}  -", "it is [masked]"]
    assert value not in str(job) + said
    assert [(one["name"], one["phase"]) for one in job["secrets"]] == [("TOKEN", "publish")] * 2


def test_a_secret_of_run_is_not_carried_to_publish(ground: Ground) -> None:
    write_secret(ground, "KEY")
    search = {"command": ["python3", "-c", SEARCH]}
    given = sh(
        'test -n "$KEY" && cat /run/secrets/k > /dev/null', secrets=[{"name": "KEY"}, {"name": "KEY", "file": "k"}]
    )
    job, said = run(ground, {"run": given, "publish": search})
    assert job["status"] == "succeeded", said
    assert "looked at True found 0" in said


def test_fetch_is_given_no_secret(ground: Ground) -> None:
    write_secret(ground, "TOKEN")
    phases = {"fetch": {"command": ["true"], "secrets": [{"name": "TOKEN"}]}, "run": {"command": ["true"]}}
    refused = problem(ground.client.post(ground.jobs, json={"phases": phases}), 422, "fetch_has_no_secrets")
    assert refused["field"] == "phases.fetch.secrets"


def test_publish_reads_the_workspace_unless_it_is_to_write(ground: Ground) -> None:
    tries = "echo x > new || echo no; echo x >> /outputs/a || echo no; rm made || echo no; chmod 777 made || echo no"
    phases = {"run": sh("echo a > /outputs/a; echo made > made; chmod 666 made"), "publish": sh(tries)}
    job, _ = run(ground, phases, artifacts=["**"])
    assert ground.lines(job["id"], "stdout") == "no\nno\nno\nno\n"
    assert sorted(ground.artifacts(job["id"])) == ["made", "outputs/a"]
    phases["publish"] = sh("echo x > new && rm made", workspace="write")
    job, said = run(ground, phases, artifacts=["**"])
    assert job["status"] == "succeeded", said
    assert sorted(ground.artifacts(job["id"])) == ["new", "outputs/a"]


def test_what_fetch_has_planted_does_no_harm(ground: Ground) -> None:
    plant = """
    cp /bin/sh su && chmod 6755 su; ln -s /etc/passwd far; ln -s /proc/1/environ odd; ln -s ../../../../root up
    mkfifo pipe; mkdir -p d; ln -s /tmp d/tmp; truncate -s 200M z1 z2; printf x > "$(printf 'a\\nb')"
    mkdir closed; echo x > closed/x; chmod 000 closed; rmdir /outputs; rm -rf outputs; ln -s /etc outputs
    """
    look = """
    [ -u su ] && echo setuid; [ -g su ] && echo setgid; ./su -c 'id -u'; readlink far odd up d/tmp outputs
    [ -e pipe ] && echo pipe; [ -e z2 ] && echo giant; grep -c canary odd; ls | wc -l; cat up/.ssh/* 2>/dev/null; true
    """
    job, said = run(ground, {"fetch": sh(plant), "run": sh(look, env={"V": "canary"})}, artifacts=["**"])
    told = ground.lines(job["id"], "stdout").splitlines()
    assert told == ["1000", "/etc/passwd", "/proc/1/environ", "../../../../root", "/tmp", "/etc", "0", "8"], said
    system = ground.lines(job["id"], "system")
    assert "'pipe' of /workspace was not carried on: not_regular" in system
    assert "'z2' of /workspace was not carried on: too_large" in system
    assert sorted(ground.artifacts(job["id"])) == ["su", "z1"]


def test_after_a_failing_fetch_nothing_begins(ground: Ground) -> None:
    phases = {"fetch": sh("echo x > half; exit 7"), "run": sh("echo ran"), "publish": sh("echo published")}
    job, said = run(ground, phases, artifacts=["**"])
    assert (job["status"], job["reason"], job["exit_code"]) == ("failed", "phase_failed", 7)
    assert job["detail"] == "fetch exited with 7"
    assert "ran" not in said
    assert "published" not in said
    assert "phase_failed: fetch exited with 7" in said
    assert list(ground.artifacts(job["id"])) == ["half"]
    receipts = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()["phases"]
    assert list(receipts) == ["fetch"]


def test_a_phase_that_cannot_start_leaves_what_was_before(ground: Ground) -> None:
    phases = {"run": sh("echo kept > /outputs/a"), "publish": {"command": ["no-such-program"]}}
    job, _ = run(ground, phases, artifacts=["outputs/**"])
    assert (job["status"], job["reason"], job["exit_code"]) == ("failed", "phase_failed", 127)
    assert job["detail"] == "publish not_started: command not found: no-such-program"
    assert list(ground.artifacts(job["id"])) == ["outputs/a"]
    assert list(job["usage"]["phases"]) == ["run"]


def test_one_timeout_is_over_all_phases(ground: Ground) -> None:
    phases = {"fetch": sh("sleep 1.2"), "run": sh("sleep 30"), "publish": sh("echo published")}
    job, said = run(ground, phases, limits={"timeout_seconds": 2})
    assert (job["status"], job["reason"]) == ("timed_out", "timed_out")
    assert job["detail"].startswith("run timed_out: it ran longer than 0.")
    assert "published" not in said
    assert job["usage"]["wall_seconds"] < 5


def test_a_phase_has_a_timeout_of_its_own(ground: Ground) -> None:
    job, _ = run(ground, {"fetch": sh("sleep 30", timeout_seconds=0.3), "run": sh("true")})
    assert (job["status"], job["detail"]) == ("timed_out", "fetch timed_out: it ran longer than 0.3 s")


def test_one_bound_is_over_the_output_of_all_phases(ground: Ground) -> None:
    speak = sh("head -c 600 /dev/zero | tr '\\0' x")
    job, said = run(ground, {"fetch": speak, "run": speak}, limits={"output_bytes": 1000})
    assert (job["reason"], job["detail"]) == ("phase_failed", "run output_limit: more than 400 bytes")
    assert said.count("x") == 1000


def test_a_cancelled_phase_is_the_last(ground: Ground) -> None:
    phases = {"fetch": sh("echo begun; sleep 60"), "run": sh("echo ran"), "publish": sh("echo published")}
    job = begin(ground, phases)
    until(lambda: "begun" in ground.lines(job))
    ground.cancel(job)
    ended = ground.ended(job)
    assert (ended["status"], ended["reason"]) == ("cancelled", "cancelled")
    assert "ran" not in ground.lines(job)


def test_closing_the_workspace_ends_the_phase_that_runs_and_the_others(make_ground: MakeGround) -> None:
    ground = make_ground()
    job = begin(ground, {"fetch": sh("echo begun; sleep 60"), "run": sh("echo ran")})
    until(lambda: "begun" in ground.lines(job))
    answer = ground.client.post(f"/workspaces/{ground.workspace}/suspend", json={"reason": "review"})
    assert answer.status_code < 300, answer.text
    assert ground.tenant.owner.post(f"/workspaces/{ground.workspace}/resume").status_code == 200
    ended = ground.ended(job)
    assert (ended["status"], ended["reason"]) == ("cancelled", "workspace_suspended")
    assert "ran" not in ground.lines(job)


@pytest.mark.parametrize("why", ["nothing", "cancelled", "workspace", "tenant", "attempt"])
async def test_a_phase_begins_only_while_the_job_is_wanted(make_ground: MakeGround, parts: Parts, why: str) -> None:
    ground = await asyncio.to_thread(make_ground)
    job_id = parse_id(Prefix.JOB, await asyncio.to_thread(ground.start, "sleep", "60"))
    await asyncio.to_thread(ground.until_status, ground.client.get(ground.jobs).json()["items"][0]["id"], "running")
    scope = TenantScope(tenant_id=ground.tenant_id, region="us", actor=SYSTEM)
    session = parts.cells.get("us").session(scope)
    attempt = 2 if why == "attempt" else 1
    try:
        if why == "cancelled":
            await repository.request_cancellation(session, job_id, reason="cancelled")
        elif why == "workspace":
            await session.execute(
                "update workspaces set status = 'suspended' where tenant_id = $1 and workspace_id = $2",
                ground.tenant_id,
                parse_id(Prefix.WORKSPACE, ground.workspace),
            )
        elif why == "tenant":
            body = {"reason": "unpaid"}
            ground.installation.platform.post(f"/tenants/{ground.tenant.id}/suspend", json=body)
            with pytest.raises(Denied):
                await repository.find_running_job(session, job_id, attempt=attempt)
            return
        found = await repository.find_running_job(session, job_id, attempt=attempt)
        assert (found is not None) == (why == "nothing")
    finally:
        await session.rollback()
        await asyncio.to_thread(ground.cancel, ground.client.get(ground.jobs).json()["items"][0]["id"]) if (
            why != "tenant"
        ) else None


def test_images_and_commands_of_every_phase_are_judged(ground: Ground) -> None:
    owner, place = ground.tenant.owner, f"/workspaces/{ground.workspace}/policies"
    true: Json = {"command": ["true"]}
    answer = owner.put(f"{place}/command", params={"state": "enforced"}, json={"blocked_commands": ["curl"]})
    assert answer.status_code == 200, answer.text
    for phase in ("fetch", "run", "publish"):
        phases = {"run": true, phase: {"command": ["curl", "x"]}}
        refused = problem(ground.client.post(ground.jobs, json={"phases": phases}), 403, "policy_denied")
        assert refused["policy_kind"] == "command"
        named = f"phase {phase}" in refused["detail"]
        assert named == (phase != "run")
        assert ground.job(refused["job"])["status"] == "denied"
    answer = owner.put(f"{place}/image", params={"state": "enforced"}, json={"blocked_images": ["other"]})
    assert answer.status_code == 200, answer.text
    phases = {"run": true, "publish": {**true, "image": "other"}}
    refused = problem(ground.client.post(ground.jobs, json={"phases": phases}), 403, "policy_denied")
    assert refused["policy_kind"] == "image"
    assert "phase publish" in refused["detail"]
    unknown = {"run": true, "publish": {**true, "image": "absent"}}
    problem(ground.client.post(ground.jobs, json={"phases": unknown}), 422, "image_unknown")


@pytest.mark.parametrize(
    "body",
    [
        {"phases": {"fetch": {"command": ["true"]}}},
        {"phases": {"run": {"command": ["true"]}}, "command": ["true"]},
        {"phases": {"run": {"command": ["true"]}}, "env": {"A": "b"}},
        {"phases": {"run": {"command": ["true"]}}, "secrets": [{"name": "A"}]},
        {"phases": {"run": {"command": []}}},
        {"phases": {"run": {"command": ["true"]}, "deploy": {"command": ["true"]}}},
        {},
    ],
    ids=["no run", "both forms", "env beside", "secrets beside", "no program", "another phase", "nothing"],
)
def test_what_makes_no_job_is_refused(ground: Ground, body: Json) -> None:
    answer = ground.client.post(ground.jobs, json=body)
    assert answer.status_code == 422, answer.text


def test_a_rehearsal_knows_phases(ground: Ground, ports: list[int]) -> None:
    phases = {"fetch": {"command": ["true"], "network": hosts(ports[0])}, "run": {"command": ["true"]}}
    body = {"permission": "job:create", "workspace": ground.workspace, "job": {"phases": phases}}
    answer = ground.client.post("/explain", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["decision"], told["code"], told["rule"]) == ("deny", "policy_denied", "default deny")
    allow(ground, {"phases": {"fetch": {"allowed_hosts": ["127.0.0.1"], "allowed_ports": [ports[0]]}}})
    assert ground.client.post("/explain", json=body).json()["decision"] == "allow"
