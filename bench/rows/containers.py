"""Rows 9d, 10d and 11d: the same jobs in containers, of an engine that is started for it where there is dockerd."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.installation import Installation, running_installation
from bench.report import Result
from bench.rows import jobs

_START_SECONDS = 60


async def measure(installation: Installation, *, quick: bool) -> list[Result]:
    """In an installation of its own, beside bare bubblewrap as the others; the bars are the jail's."""
    del installation
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(_engine())
        if socket is None:
            missing = Result("9d", "jobs in containers of an engine")
            missing.remarks.append("not measured: it takes root, and dockerd on the PATH")
            return [missing]
        contained = stack.enter_context(
            running_installation(TENANTRY_SANDBOXES__BACKEND="docker", TENANTRY_SANDBOXES__DOCKER_SOCKET=str(socket))
        )
        results = []
        for row in (jobs.one, jobs.burst, jobs.tasks):
            for result in await row(contained, quick=quick):
                result.row += "d"
                result.title = result.title.replace("(jail)", "(docker)") + ", in containers"
                results.append(result)
        return results


@contextlib.contextmanager
def _engine() -> Iterator[Path | None]:
    program = shutil.which("dockerd")
    if program is None or os.geteuid() != 0:
        yield None
        return
    place = Path(tempfile.mkdtemp(prefix="tenantry-bench-dockerd-"))
    options = ("bridge=none", "iptables=false", "ip-masq=false", "ip-forward=false", "log-level=error")
    places = (f"data-root={place}/data", f"exec-root={place}/exec", f"pidfile={place}/pid")
    words = [program, f"--host=unix://{place}/engine.sock", *(f"--{option}" for option in (*options, *places))]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (place / "engine.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield place / "engine.sock"
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(place, ignore_errors=True)
