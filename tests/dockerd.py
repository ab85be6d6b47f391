"""A container engine of the tests' own: dockerd on a private socket, without a bridge or a rule of a firewall."""

import json
import os
import shutil
import signal
import socket as sockets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ending import ended

START_SECONDS = 60


def why_no_engine() -> str:
    """Say why dockerd cannot run here, empty when it can."""
    if os.geteuid() != 0:
        return "dockerd needs root"
    if not any(line.split()[2] in {"cgroup", "cgroup2"} for line in Path("/proc/mounts").read_text().splitlines()):
        return "dockerd needs cgroups"
    return ""


def runtimes() -> dict[str, object]:
    """gVisor's by the name it is looked for by, one that uses its host's sockets, and one that tells what it runs."""
    program = shutil.which("runsc")
    if program is None:
        pytest.fail("runsc is not installed: run `scripts/packages.sh`", pytrace=False)
    flags = {
        "runsc": ["--network=none"],
        "runsc-network": ["--network=host"],
        "runsc-loud": ["--network=none", "--strace"],
    }
    return {name: {"path": program, "runtimeArgs": more} for name, more in flags.items()}


@contextmanager
def running_dockerd() -> Iterator[Path]:
    """Start it, give its socket, stop it and whatever ran in it, and remove its files."""
    program = shutil.which("dockerd")
    if program is None:
        pytest.fail("dockerd is not installed: run `scripts/packages.sh`", pytrace=False)
    place = Path(tempfile.mkdtemp(prefix="tenantry-dockerd-"))  # short, for the sockets below it
    options = {"host": f"unix://{place}/docker.sock", "data-root": place / "data", "exec-root": place / "exec",
               "pidfile": place / "pid", "bridge": "none", "iptables": "false", "ip-masq": "false",
               "ip-forward": "false", "userland-proxy": "false", "log-level": "warn"}  # fmt: skip
    (place / "daemon.json").write_text(json.dumps({"runtimes": runtimes()}))
    options["config-file"] = place / "daemon.json"
    words = [program, *(f"--{name}={value}" for name, value in options.items())]
    with running_engine(words, place, socket=place / "docker.sock", mounts=("data", "exec")) as listening:
        yield listening


@contextmanager
def running_engine(words: list[str], place: Path, *, socket: Path, mounts: tuple[str, ...]) -> Iterator[Path]:
    """Run a program that answers Docker's API on `socket`; below `place`, which goes with it, it keeps all it has."""
    # Podman's containers leave a file `oom` where they were started: there too.
    bound = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []  # it ends with this process
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [*bound, *words], cwd=place, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        _wait(process, socket, place / "log")
        yield socket
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process, seconds=60)
        for mounted in mounts:  # of one that could not clear away itself
            subprocess.run(["umount", "--recursive", "--lazy", place / mounted], check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", place: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with sockets.socket(sockets.AF_UNIX) as link:
            try:
                link.connect(str(place))
                link.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                if b" 200 " in link.recv(64):
                    return
            except OSError:
                pass
        time.sleep(0.05)
    pytest.fail(f"{place.name} does not answer:\n{log.read_text()[-2000:]}", pytrace=False)
