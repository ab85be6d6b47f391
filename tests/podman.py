"""Podman's service of the tests' own, on a private socket and with storage of its own: the other engine there is."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.dockerd import running_engine


@contextmanager
def running_podman() -> Iterator[Path]:
    """Start it, give its socket, stop it and whatever ran in it, and remove its files."""
    program = shutil.which("podman")
    if program is None:
        pytest.fail("podman is not installed: run `scripts/packages.sh`", pytrace=False)
    place = Path(tempfile.mkdtemp(prefix="tenantry-podman-"))  # short, for the sockets below it
    own = [program, f"--root={place}/data", f"--runroot={place}/run", f"--tmpdir={place}/tmp",
           "--cgroup-manager=cgroupfs", "--events-backend=none", "--storage-driver=vfs"]  # fmt: skip
    words = [*own, "system", "service", "--time=0", f"unix://{place}/podman.sock"]
    with running_engine(words, place, socket=place / "podman.sock", mounts=("data", "run")) as listening:
        try:
            yield listening
        finally:
            subprocess.run([*own, "rm", "--all", "--force", "--time=0"], check=False, capture_output=True, timeout=60)
