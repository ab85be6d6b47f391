"""Podman's service of the tests' own, on a private socket and with storage of its own: the other engine there is."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.dockerd import wait_for_engine
from tests.ending import ended


@contextmanager
def running_podman() -> Iterator[Path]:
    """Start it, give its socket, stop it and whatever ran in it, and remove its files."""
    program = shutil.which("podman")
    if program is None:
        pytest.fail("podman is not installed: run `scripts/packages.sh`", pytrace=False)
    place = Path(tempfile.mkdtemp(prefix="tenantry-podman-"))  # short, for the sockets below it
    own = [program, f"--root={place}/data", f"--runroot={place}/run", f"--tmpdir={place}/tmp",
           "--cgroup-manager=cgroupfs", "--events-backend=none", "--storage-driver=vfs"]  # fmt: skip
    bound = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []  # it ends with this process
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [*bound, *own, "system", "service", "--time=0", f"unix://{place}/podman.sock"],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        wait_for_engine(process, place / "podman.sock", place / "log")
        yield place / "podman.sock"
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process, seconds=60)
        subprocess.run([*own, "rm", "--all", "--force", "--time=0"], check=False, capture_output=True, timeout=60)
        for mounted in ("data", "run"):  # of one that could not clear away itself
            subprocess.run(["umount", "--recursive", "--lazy", place / mounted], check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)
