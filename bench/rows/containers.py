"""Rows 9d to 12d: the same in containers, of an engine that is started for it where there is dockerd."""

import contextlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.installation import Installation, running_installation
from bench.report import Result
from bench.rows import egress, jobs

_START_SECONDS = 60


async def measure(installation: Installation, *, quick: bool) -> list[Result]:
    """In an installation of its own, beside bare bubblewrap as the others; the bars are the jail's.

    Before that row 9 of the jail once more, now that there is an engine to compare it with.
    """
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(_engine())
        if socket is None:
            missing = Result("9d", "jobs in containers of an engine")
            missing.remarks.append("not measured: it takes root, and dockerd on the PATH")
            return [missing]
        contained = stack.enter_context(
            running_installation(TENANTRY_SANDBOXES__BACKEND="docker", TENANTRY_SANDBOXES__DOCKER_SOCKET=str(socket))
        )
        engine = f"unix://{socket}"
        _import_image(engine)
        results = await jobs.one(installation, quick=quick, engine=engine)
        gateway = partial(egress.measure, engine=socket)
        for row in (partial(jobs.one, engine=engine), jobs.burst, jobs.tasks, gateway):
            for result in await row(contained, quick=quick):
                result.row += "d"
                result.title = result.title.replace("(jail)", "(docker)") + ", in containers"
                results.append(result)
        return results


def _import_image(engine: str) -> None:
    """Give the engine an image of `true` and what it is linked with, for `docker run`, where there is such a client."""
    if shutil.which("docker") is None:
        return
    program = shutil.which("true") or "/bin/true"
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryFile() as image:
        with tarfile.open(fileobj=image, mode="w") as archive:
            for path in {program, *re.findall(r"/\S+", linked)}:
                archive.add(Path(path).resolve(), arcname="/bin/true" if path == program else path)
        image.seek(0)
        words = ["docker", "--host", engine, "import", "-", jobs.DOCKER_IMAGE]
        subprocess.run(words, stdin=image, stdout=subprocess.DEVNULL, check=True)


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
