"""A sandbox from an imported image: it sees that root and no other."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.prisons import KINDS, Prison, opened_prison

from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.types import Ending, ImageRoot, InputFile


@pytest.fixture(scope="module", params=KINDS)
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison(request.param, tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


def programs_of_the_host(*names: str) -> dict[str, bytes]:
    """The named programs and the libraries they are linked with, by path without links."""
    found: dict[str, bytes] = {}
    for name in names:
        lines = subprocess.run(["ldd", name], capture_output=True, text=True, check=True).stdout.split()
        for path in {name, *(word for word in lines if word.startswith("/"))}:
            found[path.lstrip("/")] = Path(path).read_bytes()
    return found


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageRoot:
    place = tmp_path_factory.mktemp("imported")
    root = place / "source"
    for path, content in programs_of_the_host("/bin/sh", "/bin/cat", "/bin/ls", "/usr/bin/id").items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o4755)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/marker").write_text("imported\n")
    return ImageStore(place / "images").import_directory(root, name="tool:1")


async def test_the_image_is_the_root(prison: Any, image: ImageRoot) -> None:
    ran = await prison.sh(
        "cat /etc/marker; id -un; cd /usr/bin; echo *; (echo > /etc/x); echo > /workspace/x && echo wrote", image=image
    )
    # gVisor's kernel asks who may write before it asks whether anybody may.
    refused = ran.err.count("ead-only") + ran.err.count("Permission denied")
    assert (ran.outcome.ending, refused) == (Ending.EXITED, 1)
    assert ran.out.split() == ["imported", "sandbox", "id", "wrote"]
    assert ran.receipt.image_digest == image.digest


async def test_a_hostile_image_runs_in_the_same_sandbox(prison: Any, tmp_path: Path) -> None:
    """Its mount points are links to the host, its /etc is full of lies, its programs are setuid."""
    root, host = tmp_path / "source", tmp_path / "host"
    host.mkdir()
    for path, content in programs_of_the_host("/bin/sh", "/bin/cat", "/bin/ls", "/usr/bin/id").items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o6755)
    for name in ("proc", "dev", "sys", "tmp", "run", "workspace", "inputs", "outputs"):
        (root / name).symlink_to(host)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").symlink_to("/etc/shadow")
    (root / "etc/group").symlink_to(host / "group")
    hostile = ImageStore(tmp_path / "images").import_directory(root, name="hostile")
    script = "id -u; echo mine > /workspace/x; echo mine > /tmp/x; cat /etc/passwd /outputs/../x; echo /sys/* /inputs/*"
    ran = await prison.sh(script, image=hostile, inputs=(InputFile("a", b"x"),))
    assert (ran.outcome.ending, ran.receipt.faults(supervisor_uid=os.geteuid())) == (Ending.EXITED, ())
    assert ran.out.splitlines()[0] == "1000"
    assert "sandbox:x:1000" in ran.out
    own = "/sys/*" if ran.receipt.isolation != "gvisor" else "/sys/block /sys/bus"  # of its own kernel
    assert ran.out.splitlines()[-2] == "mine"
    assert ran.out.splitlines()[-1].startswith(own)
    assert ran.out.endswith(" /inputs/a\n")
    assert list(host.iterdir()) == []


async def test_a_removed_image_is_refused_at_start(prison: Any, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    (tmp_path / "root").mkdir()
    gone = store.import_directory(tmp_path / "root")
    store.remove(gone.digest)
    if os.geteuid() == 0:  # the supervisor itself has to reach it
        with pytest.raises(JailUnavailable) as refused:
            await prison.run("true", image=gone)
        assert refused.value.code == "image_unreachable"
    else:
        assert (await prison.run("true", image=gone)).outcome.ending is Ending.NOT_STARTED


async def test_an_empty_image_runs_nothing(prison: Any, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    empty = ImageStore(tmp_path / "images").import_directory(tmp_path / "root")
    outcome = (await prison.run("sh", image=empty)).outcome
    assert (outcome.ending, outcome.exit_code) == (Ending.NOT_STARTED, 127)
