"""Finding, starting and stopping the server of a home."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.entrypoints.embedded import ensure_home
from tenantry.foundation.errors import Conflict, NotFound, Unavailable

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 40.0
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class RunningServer:
    """`pid` is the server's; its workers and PostgreSQL are its children."""

    pid: int
    url: str


def server_command(home: Path, port: int | None) -> list[str]:
    return [sys.executable, "-m", "tenantry.entrypoints.server", str(home), *([] if port is None else [str(port)])]


def find_server(home: Path) -> RunningServer | None:
    """Tell the server of a home, None when none runs; a file left by a dead one counts for nothing."""
    try:
        found = json.loads((home / "server.json").read_text())
        arguments = Path(f"/proc/{int(found['pid'])}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, KeyError):
        return None
    if b"tenantry.entrypoints.server" not in arguments:
        return None
    return RunningServer(found["pid"], found["url"])


def start_detached(
    home: Path, *, port: int | None = None, environment: Mapping[str, str] | None = None
) -> tuple[RunningServer, str]:
    """Start a server in the background; gives it and what it said once it answers.

    `environment` is laid over this process's own.
    Raises Conflict `already_running`, Unavailable `start_failed` with its last words.
    """
    if (found := find_server(home)) is not None:
        raise Conflict("already_running", f"a server runs in {home} (pid {found.pid}): `tenantry down` stops it")
    ensure_home(home)
    log = home / "server.log"
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a") as output:
        output.seek(0, os.SEEK_END)
        began = output.tell()
        process = subprocess.Popen(
            server_command(home, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**os.environ, **(environment or {})},
        )
    deadline = time.monotonic() + _START_SECONDS
    while (server := find_server(home)) is None or not answers(server.url):
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text()[began:].strip()
            raise Unavailable("start_failed", f"the server did not start:\n{said[-4000:]}", layer="start")
        time.sleep(_LOOK_SECONDS)
    return server, log.read_text()[began:]


def stop(home: Path) -> RunningServer:
    """End the server of a home, wait until it is gone; raises NotFound `not_running`, Unavailable `still_running`."""
    server = find_server(home)
    if server is None:
        raise NotFound("not_running", f"no server runs in {home}: nothing to stop")
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _lives(server.pid):
        if time.monotonic() > deadline:
            raise Unavailable("still_running", f"the server (pid {server.pid}) has not ended: look at its log")
        time.sleep(_LOOK_SECONDS)
    return server


def _lives(pid: int) -> bool:
    """Say whether a process runs; one that has ended and waits for its parent, perhaps this process, does not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def answers(url: str) -> bool:
    """Say whether a server is ready. It is told nothing, and that it is the home's own says its process."""
    import httpx

    try:
        answer = httpx.get(f"{url}/readyz", timeout=2, trust_env=False, verify=False)  # noqa: S501 - as said above
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK
