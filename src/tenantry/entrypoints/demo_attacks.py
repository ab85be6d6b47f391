"""Scenes of the demo in which a tenant misbehaves, is suspended, or loses its worker, and the others go on."""

import json
import math
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

from tenantry.client.resources.jobs import job_input
from tenantry.client.types import Job, JobLimits
from tenantry.entrypoints import demo_files
from tenantry.entrypoints.demo_cast import Cast, Party, Work, given, refusal_of
from tenantry.entrypoints.demo_stage import Stage
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.ids import Prefix, parse_id

_RESTARTED_SECONDS: Final = 30.0
_LOST_SECONDS: Final = 40.0
_SUSPENDED_SECONDS: Final = 1.0
Attempt = dict[str, str]


def look_around(stage: Stage, cast: Cast) -> None:
    """Globex tries, from inside of a sandbox, what is acme's, the host's and the network's."""
    stage.scene("globex looks around: acme's files, the host, the network")
    secret = secrets.token_hex(8)
    hide = Work(command=("sh", "-c", f"echo {secret} | tee /workspace/secret /tmp/secret; exec sleep 60"))
    with cast.acme.running(hide):
        there, elsewhere = _attempts(cast, secret)
        stage.tell(
            f"acme runs a job meanwhile. From here {_open_on_host(there)} of the first {len(there)} are open; inside:"
        )
        plan = job_input(path="plan.json", content=json.dumps(there + elsewhere).encode())
        job, seen = cast.globex.watch(
            stage,
            Work(
                command=("python3", "/inputs/look_around.py", "/inputs/plan.json"),
                inputs=(*given("look_around.py"), plan),
            ),
        )
    lines = seen.text.splitlines()
    refused = [line for line in lines if line.startswith("refused")]
    wanted = len(there) + len(elsewhere)
    stage.expect(
        "every try was refused",
        held=job["exit_code"] == 0 and len(refused) == len(lines) == wanted,
        seen=f"{len(refused)} of {wanted}",
    )
    _receipt(stage, cast.globex, job)


def _attempts(cast: Cast, secret: str) -> tuple[list[Attempt], list[Attempt]]:
    """List what is open on the host, so that a refusal inside means something, and what is to be refused anyway."""
    home, pid = cast.home, str(cast.server.pid)
    stored = home / cast.acme.region / parse_id(Prefix.TENANT, cast.acme.id).hex
    port = cast.server.url.rpartition(":")[2]
    there = [
        ("list", str(home), "list the server's home"),
        ("read", str(home / "secrets.json"), "read the installation's secrets"),
        ("read", str(home / "credentials.json"), "read the platform's key"),
        ("list", str(home / cast.acme.region), "list what acme's region stores"),
        ("read", "/etc/shadow", "read /etc/shadow"),
        ("read", f"/proc/{pid}/environ", "read the server's environment in the host's /proc"),
        ("signal", pid, "signal the server"),
        ("connect", f"127.0.0.1:{port}", f"connect to the server's port, 127.0.0.1:{port}"),
    ]
    if (home / "postgres").exists():  # embedded
        folder = EmbeddedPostgres(home).dsn(user="", password="", database="").host
        there.append(("unix", f"{folder}/.s.PGSQL.5432", "connect to the database's socket"))
    elsewhere = [
        ("list", str(stored), "list acme's objects"),
        ("read", "/workspace/secret", "read acme's secret in /workspace"),
        ("read", "/tmp/secret", "read acme's secret in /tmp"),  # noqa: S108 - a place to look in, not to write to
        ("text", secret, "find acme's secret in any file, in any environment"),
        ("uid", "0", "become root"),
        ("write", "/usr/bin/planted", "write to /usr/bin"),
        ("interface", "lo", "find a network interface"),
        ("connect", "169.254.169.254:80", "connect to the cloud's metadata address, 169.254.169.254"),
        ("connect", "1.1.1.1:443", "connect to 1.1.1.1:443"),
        ("send", "1.1.1.1:53", "send a datagram to 1.1.1.1:53"),
        ("resolve", "example.com", "resolve example.com"),
    ]
    lists = [
        [{"kind": kind, "target": target, "what": what} for kind, target, what in each] for each in (there, elsewhere)
    ]
    return lists[0], lists[1]


def _open_on_host(attempts: list[Attempt]) -> int:
    """Try the same from here, outside of any sandbox; gives how many targets were open."""
    with as_file(files(demo_files).joinpath("look_around.py")) as program:
        command = [sys.executable, "-I", str(program), "/dev/stdin"]
        done = subprocess.run(
            command, input=json.dumps(attempts), capture_output=True, text=True, check=False, timeout=30
        )
    return sum(line.startswith("OPEN") for line in done.stdout.splitlines())


def _receipt(stage: Stage, party: Party, job: Job) -> None:
    """Show what the kernel said of that sandbox."""
    receipt = party.operator.jobs.receipt(party.workspace, job["id"])
    stage.tell("what that sandbox was, read back from the kernel (its receipt):")
    bounds = ", ".join(f"{name} {value}" for name, value in receipt["cgroup_values"].items())
    stage.facts({
        "host uid": receipt["uid"],
        "own namespaces": ", ".join(receipt["unshared"]),
        "capabilities": " ".join(sorted(set(receipt["capabilities"].values()))),
        "seccomp": f"mode {receipt['seccomp_mode']}, filter {receipt['seccomp_sha256'][:16]}…",
        "interfaces": ", ".join(receipt["interfaces"]),
        "bounds": bounds or f"none of the whole sandbox: isolation is {receipt['isolation']}",
        "image": f"{receipt['image_name']} {receipt['image_digest'][:23]}…",
    })  # fmt: skip
    stage.expect("not root, no capabilities, no new privileges, filtered, no network", held=_is_fenced(receipt))


def _is_fenced(receipt: Mapping[str, Any]) -> bool:
    masks = {name: int(mask, 16) for name, mask in receipt["capabilities"].items() if name != "CapBnd"}
    return bool(
        receipt["uid"] != 0
        and not any(masks.values())
        and receipt["no_new_privs"]
        and receipt["seccomp_mode"] == "2"
        and receipt["interfaces"] == ["lo"]
    )


def exhaust(stage: Stage, cast: Cast) -> None:
    """Globex lets bombs off; each ends by its own limit, and says by which. acme works meanwhile."""
    stage.scene("Limits: four bombs at once, and a neighbour at work")
    python = ("python3", "-c")
    slow = JobLimits(cpus=0.25, memory_mib=256, pids=32, timeout_seconds=2)
    small = JobLimits(cpus=0.25, memory_mib=64, pids=32, timeout_seconds=30, output_bytes=1 << 16)
    bombs = {
        "a fork bomb": (Work(("python3", "/inputs/fork_bomb.py"), given("fork_bomb.py"), limits=slow), "timed_out"),
        "an endless loop": (Work(("sh", "-c", "while :; do :; done"), limits=slow), "timed_out"),
        "a memory bomb": (Work((*python, "hoard = b'x' * (1 << 30)"), limits=small), "out_of_memory"),
        "endless output": (Work(("yes",), limits=small), "output_limit"),
    }
    warm = cast.acme.start(Work(("true",)), wait_seconds=_RESTARTED_SECONDS)  # by the new worker, if the old was killed
    if cast.acme.operator.jobs.receipt(cast.acme.workspace, warm["id"])["isolation"] != "cgroup":
        del bombs["a memory bomb"]
        stage.tell("(no memory bomb: without cgroups the memory of a sandbox is not bounded, only each process)")
    started = {name: cast.globex.start(bomb) for name, (bomb, _) in bombs.items()}
    sums = Work((*python, "print(sum(n * n for n in range(10**6)))"))
    neighbours = [(party, party.start(sums, wait_seconds=30)) for party in (cast.acme, cast.globex)]
    for name, (_, reason) in bombs.items():
        job = cast.globex.ended(started[name], seconds=30)
        lines = cast.globex.operator.jobs.logs(cast.globex.workspace, job["id"])
        said = [line.text.strip().rpartition(f"{reason}: ")[2] for line in lines if line.stream == "system"]
        stage.expect(f"{name} was ended: {reason}", held=job["reason"] == reason, seen="; ".join(said))
        if name == "a fork bomb":
            stage.quote("globex", cast.globex.output(job).partition("\n")[0])
    for party, job in neighbours:
        wall = job["usage"].get("wall_seconds", math.nan)
        stage.expect(
            f"a job of {party.name} beside them was done", held=job["status"] == "succeeded", seen=f"{wall:.2f} s"
        )


def suspend(stage: Stage, cast: Cast) -> None:
    """Let the platform suspend globex while a job of it runs."""
    stage.scene("Suspension: what runs is killed, what asks is refused")
    globex = cast.globex
    with globex.running(Work(command=("sh", "-c", "echo begun; exec sleep 300"))) as job:
        suspended = cast.platform.tenants.suspend(globex.slug, reason="the demo")
        began = time.monotonic()
        while (error := refusal_of(globex.operator.me)) is None and time.monotonic() - began < _SUSPENDED_SECONDS:
            pass
        took = time.monotonic() - began
        stage.expect_refusal(
            f"its key is refused {took * 1000:.0f} ms later", error, status=403, code="tenant_suspended"
        )
        time.sleep(_SUSPENDED_SECONDS)
        cast.platform.tenants.resume(globex.slug)
        found = globex.seen(job)
    after = _seconds_between(suspended, "suspended_at", found, "finished_at")
    killed = after < _SUSPENDED_SECONDS and found["reason"] == "tenant_suspended"
    stage.expect(
        f"its running job was killed within {_SUSPENDED_SECONDS:g} s", held=killed, seen=f"after {after * 1000:.0f} ms"
    )
    stage.expect(
        "resumed, it works again", held=globex.start(Work(("true",)), wait_seconds=30)["status"] == "succeeded"
    )


def _seconds_between(
    first: Mapping[str, object], first_name: str, second: Mapping[str, object], second_name: str
) -> float:
    """Compute how long after the first moment the second was; infinite when one of them has not come."""
    moments = (first[first_name], second[second_name])
    if None in moments:
        return math.inf
    began, ended = (datetime.fromisoformat(str(moment)) for moment in moments)
    return (ended - began).total_seconds()


@contextmanager
def losing_a_worker(stage: Stage, cast: Cast) -> Iterator[None]:
    """Kill a worker with a job on it at the beginning; tell at the end what became of the job."""
    worker = _worker_of(cast)
    if worker is None or not cast.alone:
        stage.tell("(no worker is killed: it is not the demo's alone)")
        yield
        return
    acme, mark = cast.acme, f"/inputs/{secrets.token_hex(6)}"
    work = Work(
        ("sh", "-c", f"echo begun; exec tail -f /dev/null {mark}"), (job_input(path=Path(mark).name, content=b"."),)
    )
    with acme.running(work) as job:
        before = _processes_of(mark)
        os.kill(worker, signal.SIGKILL)
        began = time.monotonic()
        while _processes_of(mark) and time.monotonic() - began < 1:
            time.sleep(0.01)
        took = time.monotonic() - began
        stage.tell(
            f"Now the worker of {acme.region} is killed (SIGKILL) with a job of acme on it: the last scene tells more"
        )
        gone = bool(before) and not _processes_of(mark)
        yield
        stage.scene("What became of the job whose worker was killed")
        stage.expect("its sandbox died with the worker", held=gone, seen=f"within {took * 1000:.0f} ms")
        found = acme.ended(job, seconds=_LOST_SECONDS)
        attempt = _attempt_of(found)
        stage.expect(
            "it says so", held=(found["status"], found["reason"]) == ("failed", "worker_lost"), seen=found["reason"]
        )
        stage.expect("it was not run a second time", held=attempt == 1, seen=f"attempt {attempt}")
        stage.expect_refusal(
            "what it had said is read, whose key lay in that worker's memory alone",
            refusal_of(lambda: acme.output(job)),
            status=410,
            code="content_gone",
        )
        stage.expect("a new worker serves the region", held=_worker_of(cast) not in {None, worker})


def _attempt_of(job: Mapping[str, object]) -> object:
    return job["attempt"]


def _worker_of(cast: Cast) -> int | None:
    """Find the process that runs the jobs of acme's region, a child of the server."""
    wanted = [b"tenantry.entrypoints.worker", str(cast.home).encode(), cast.acme.region.encode()]
    for place in Path("/proc").glob("[0-9]*"):
        if _arguments(place)[-3:] == wanted and f"\nPPid:\t{cast.server.pid}\n" in _text(place / "status"):
            return int(place.name)
    return None


def _processes_of(mark: str) -> list[int]:
    return [int(place.name) for place in Path("/proc").glob("[0-9]*") if mark.encode() in _arguments(place)]


def _arguments(place: Path) -> list[bytes]:
    return _text(place / "cmdline").encode("utf-8", "surrogateescape").rstrip(b"\0").split(b"\0")


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
