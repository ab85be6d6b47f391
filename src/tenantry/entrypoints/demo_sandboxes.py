"""Scenes of the demo about sandboxes in depth: phases of a job, and a sandbox that lives on between commands."""

from typing import Final
from urllib.request import Request, urlopen

from tenantry.client.phase_types import JobPhases
from tenantry.client.types import JobLimits
from tenantry.entrypoints.demo_cast import Cast, Party, refusal_of
from tenantry.entrypoints.demo_stage import Stage

_TOKEN: Final = "bucket-key-of-acme-9f2d41"  # noqa: S105 - the demo's own, and what it looks for
_SMALL: Final[JobLimits] = {"cpus": 0.5, "memory_mib": 64, "timeout_seconds": 30}
_PHASES: Final[JobPhases] = {
    "fetch": {"command": ["sh", "-c", "mkdir site; echo fetched > site/page; env"]},
    "run": {"command": ["sh", "-c", "tr a-z A-Z < site/page > outputs/page; env; ls /run/secrets 2>&1 || true"]},
    "publish": {
        "command": ["sh", "-c", 'touch site/mine; cat outputs/page; [ "${#TOKEN}" -gt 9 ] && echo with its key'],
        "secrets": [{"name": "BUCKET", "env": "TOKEN"}],
    },
}
_SERVE: Final = """
import http.server, os
os.chdir('/workspace')
http.server.ThreadingHTTPServer(('127.0.0.1', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
_KNOCK: Final = "import socket; socket.create_connection(('127.0.0.1', 8000))"
_WAIT_SECONDS: Final = 30


def phases(stage: Stage, cast: Cast) -> None:
    """Fetch, run and publish in one job: each has its own sandbox, and a key only the last."""
    acme = cast.acme
    stage.scene("One job, three sandboxes: what fetched has no key, and what has the key cannot change the files")
    acme.owner.secrets.set(acme.workspace, name="BUCKET", value=_TOKEN)
    job = acme.owner.jobs.create(acme.workspace, phases=_PHASES, limits=_SMALL, wait_seconds=_WAIT_SECONDS)
    said = acme.output(job)
    stage.quote(acme.name, "\n".join(line for line in said.splitlines() if "phase" in line or "FETCHED" in line))
    stage.expect("the three have ended well", held=job["status"] == "succeeded", seen=job.get("detail") or "")
    stage.expect("what one left the next one found", held="FETCHED" in said, seen=said[-200:])
    stage.expect("the last had its key", held="with its key" in said, seen=said[-200:])
    stage.expect("the others had none, and no log has it", held="TOKEN=" not in said and _TOKEN not in said)
    stage.expect("the last could only read the files", held="Read-only file system" in said, seen=said[-300:])


def living(stage: Stage, cast: Cast) -> None:
    """Keep a sandbox alive between commands, stop it, and find its files again."""
    acme, globex = cast.acme, cast.globex
    stage.scene("A sandbox that lives: commands, files and a port of it, until it is stopped, and after")
    workspace = acme.owner.workspaces.create(
        name="bench", owner={"type": "team", "id": "bench"}, settings={"persistence_mode": "full"}
    )["id"]
    sandboxes = acme.owner.sandboxes
    made = sandboxes.create(
        workspace, name="dev", limits={"cpus": 0.5, "memory_mib": 96}, ttl_seconds=300, wait_seconds=_WAIT_SECONDS
    )
    stage.expect("it runs", held=made["status"] == "running", seen=made["status"])
    sandboxes.exec(workspace, made["id"], command=["sh", "-c", "echo made by the first > notes"])
    said = sandboxes.exec(workspace, made["id"], command=["sh", "-c", "cat notes; exit 3"])
    seen = f"{said['exit_code']}: {said['stdout'].strip()}"
    stage.expect("the second command finds what the first has made", held=seen == "3: made by the first", seen=seen)
    stage.expect("its port answers through the server", held=_served(cast, acme, workspace, made["id"]))
    foreign = refusal_of(lambda: globex.owner.sandboxes.exec(workspace, made["id"], command=["id"]))
    stage.expect_refusal("a command by globex", foreign, status=404, code="not_found")
    stopped = sandboxes.stop(workspace, made["id"], wait_seconds=_WAIT_SECONDS)
    stage.expect("it is stopped", held=stopped["status"] == "stopped", seen=stopped["status"])
    gone = refusal_of(lambda: sandboxes.exec(workspace, made["id"], command=["true"]))
    stage.expect_refusal("a command now", gone, status=409, code="sandbox_not_running")
    sandboxes.start(workspace, made["id"], wait_seconds=_WAIT_SECONDS)
    said = sandboxes.exec(workspace, made["id"], command=["cat", "notes"])
    stage.expect("started again it has its files", held=said["stdout"] == "made by the first\n", seen=said["stderr"])
    sandboxes.delete(workspace, made["id"])


def _served(cast: Cast, acme: Party, workspace: str, sandbox: str) -> bool:
    """Let it serve its files, and read one by a token that opens this port alone."""
    serving = ["sh", "-c", 'python3 -c "$1" & until python3 -c "$2"; do sleep 0.1; done; echo serving; wait', "sh"]
    command = [*serving, _SERVE, _KNOCK]
    with acme.owner.sandboxes.terminal(workspace, sandbox, command=command, tty=False) as channel:
        next(piece for piece in channel if isinstance(piece, bytes) and b"serving" in piece)
        token = acme.owner.sandboxes.make_port_token(workspace, sandbox, 8000)
        address = token["url"].replace("/8000/", "/8000/notes", 1)
        with urlopen(Request(f"{cast.server.url}{address}"), timeout=10) as answer:  # noqa: S310 - our own server's
            return bool(answer.read() == b"made by the first\n")
