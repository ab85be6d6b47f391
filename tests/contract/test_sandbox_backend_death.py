"""What happens when the one who watches dies, whoever makes the sandboxes."""

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.ending import killed_after, line_of

from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.cgroups import find_hierarchy
from tenantry.engines.jail.docker.backend import DockerBackend
from tenantry.engines.jail.gvisor.backend import GvisorBackend
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import Ending, Spec

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from tenantry.engines.jail.docker.backend import DockerBackend
from tenantry.engines.jail.gvisor.backend import GvisorBackend
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Spec

async def main():
    home = Path(sys.argv[1])
    options = {"first_uid": int(sys.argv[3]), "uid_count": int(sys.argv[4])}
    if sys.argv[5]:
        kind = GvisorBackend if sys.argv[6] == "gvisor" else DockerBackend
        jail = await kind.open(home, socket=Path(sys.argv[5]), **options)
    else:
        jail = await Jail.open(home, **options)
    image = ImageStore(home / "images").host()
    for _ in range(3):
        words = ("sh", "-c", f"setsid sleep {sys.argv[2]} & sleep {sys.argv[2]}")
        await jail.start(Spec(image=image, command=words), lambda *_: None)
    print(jail._owner.instance, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""

LIVING = """
import asyncio, sys
from pathlib import Path
from tenantry.engines.jail.exec_types import ExecSpec, TerminalSize
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Spec

async def main():
    home = Path(sys.argv[1])
    jail = await Jail.open(home)
    image = ImageStore(home / "images").host()
    sandbox = await jail.start(Spec(image=image, keep=True), lambda *_: None)
    script = f"trap '' HUP TERM INT; setsid sleep {sys.argv[2]} & echo on; sleep {sys.argv[2]}"
    for size in (None, TerminalSize(9, 9)):
        run = await sandbox.exec(ExecSpec(command=("sh", "-c", script), terminal=size))
        await run.read()
    print(jail._owner.instance, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


class Maker:
    """Opens backends of one kind, here or in a process of its own."""

    def __init__(self, kind: str, engine: Path | None) -> None:
        self.kind = kind
        self.engine = engine
        self._home = Path()
        self._known: set[str] = set()

    @asynccontextmanager
    async def opened(self, home: Path, **options: Any) -> AsyncIterator[Backend]:
        self._home = home
        made: Backend
        if self.engine is None:
            made = await Jail.open(home, **options)
        elif self.kind == "gvisor":
            made = await GvisorBackend.open(home, socket=self.engine, **options)
        else:
            made = await DockerBackend.open(home, socket=self.engine, **options)
        async with made:
            yield made

    def supervisor(
        self, script: str, home: Path, mark: str, *, first_uid: int = 220_000, uids: int = 1000
    ) -> AbstractContextManager[subprocess.Popen[str]]:
        self._home = home
        words = (str(home), mark, str(first_uid), str(uids), str(self.engine or ""), self.kind)
        return killed_after(subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, text=True))

    def survivors(self, mark: str) -> bytes:
        """What runs of a home's sandboxes: their programs, or, where the host does not see these, their kernels."""
        if self.kind != "gvisor":
            return subprocess.run(["pgrep", "-f", f"sleep {mark}"], check=False, capture_output=True).stdout
        self._known |= {str(one["Id"]) for one in self._labelled(f"tenantry.home={self._home}")}
        running = subprocess.run(["pgrep", "-af", "^runsc-sandbox"], check=False, capture_output=True).stdout
        return b"".join(line for line in running.splitlines() if line[-64:].decode() in self._known)

    async def gone(self, mark: str, attempts: int = 100) -> bool:
        for _ in range(attempts):
            if not self.survivors(mark):
                return True
            await asyncio.sleep(0.05)
        return False

    def leftovers(self, instance: str) -> list[object]:
        """What a supervisor of that instance has left: groups, or containers."""
        if self.engine is None:
            return [path for parent in find_hierarchy().directories for path in parent.glob(f"{instance}-*")]
        return list(self._labelled(f"tenantry.owner={instance}"))

    def _labelled(self, label: str) -> list[dict[str, object]]:
        assert self.engine is not None
        wanted = json.dumps({"label": [label]}).replace(" ", "")
        return asked(self.engine, f"/containers/json?all=1&filters={wanted}")


async def nothing_is_mounted(maker: Maker, home: Path) -> None:
    """See that the next one clears away what a dead one was just lending."""
    async with maker.opened(home, trial=False):
        assert str(home) not in await asyncio.to_thread(Path("/proc/self/mountinfo").read_text)


def owner_of(receipt: Receipt) -> int:
    """Whose its files are, on the host."""
    return int(receipt.uid_map.split()[1]) if receipt.isolation == "gvisor" else receipt.uid


def asked(engine: Path, path: str) -> list[dict[str, object]]:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(engine))
        link.sendall(f"GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
        said = b""
        while piece := link.recv(1 << 16):
            said += piece
    found: list[dict[str, object]] = json.loads(said.partition(b"\r\n\r\n")[2])
    return found


@pytest.fixture(scope="module", params=["jail", "docker", "gvisor"])
def maker(request: pytest.FixtureRequest) -> Maker:
    engine = request.getfixturevalue("docker_socket") if request.param != "jail" else None
    return Maker(request.param, engine)


@pytest.fixture
def mark() -> str:
    """A number of seconds nobody else sleeps for, to know one's own by."""
    return str(10**8 + secrets.randbelow(10**8))


def launcher_of(jail: Any) -> int:
    return int(jail._launcher._process.pid)


async def test_a_killed_supervisor_leaves_no_survivor_and_the_next_reclaims_its_orphans(
    maker: Maker, tmp_path: Path, mark: str
) -> None:
    # Uids that nobody else on the host takes: ten, of which the dead one holds three or, with what waits, five.
    with maker.supervisor(SUPERVISOR, tmp_path, mark, first_uid=230_000, uids=10) as process:
        instance = (await asyncio.to_thread(line_of, process)).strip()
        assert maker.survivors(mark)
        assert maker.leftovers(instance)
        process.send_signal(signal.SIGKILL)
    assert await maker.gone(mark)
    async with maker.opened(tmp_path, first_uid=230_000, uid_count=10) as jail:
        assert maker.leftovers(instance) == []
        assert not (tmp_path / maker.kind / "owners" / instance).exists()
        if os.geteuid() == 0:  # the dead one's uids can be had again
            image = ImageStore(tmp_path / "images").host()
            held = [await jail.start(Spec(image=image, command=("sleep", "9")), lambda *_: None) for _ in range(3)]
            assert {owner_of(sandbox.receipt) for sandbox in held if sandbox.receipt} <= set(range(230_000, 230_010))
            await asyncio.gather(*(sandbox.close() for sandbox in held))


@pytest.mark.parametrize("maker", ["jail"], indirect=True)
async def test_a_killed_supervisor_leaves_nothing_of_what_it_put_into_a_living_one(
    maker: Maker, tmp_path: Path, mark: str
) -> None:
    with maker.supervisor(LIVING, tmp_path, mark) as process:
        instance = (await asyncio.to_thread(line_of, process)).strip()
        assert maker.survivors(mark)
        process.send_signal(signal.SIGKILL)
    assert await maker.gone(mark)
    async with maker.opened(tmp_path, trial=False):
        assert maker.leftovers(instance) == []


async def test_the_living_are_not_reclaimed(maker: Maker, tmp_path: Path) -> None:
    async with maker.opened(tmp_path) as one:
        image = ImageStore(tmp_path / "images").host()
        async with await one.start(Spec(image=image, command=("sleep", "2")), lambda *_: None) as sandbox:
            async with (
                maker.opened(tmp_path) as two,
                await two.start(Spec(image=image, command=("sleep", "9")), lambda *_: None) as other,
            ):
                assert sandbox.receipt
                assert other.receipt
                assert os.geteuid() != 0 or owner_of(sandbox.receipt) != owner_of(other.receipt)
            assert (await sandbox.wait()).ending is Ending.EXITED


async def test_a_killed_launcher_takes_its_sandboxes_and_is_replaced(maker: Maker, tmp_path: Path, mark: str) -> None:
    if maker.kind == "gvisor":
        pytest.skip("gVisor, whose sandboxes are nobody's children here")
    async with maker.opened(tmp_path) as jail:
        image = ImageStore(tmp_path / "images").host()
        spec = Spec(image=image, command=("sh", "-c", f"setsid sleep {mark} & sleep {mark}"))
        async with await jail.start(spec, lambda *_: None) as sandbox:
            os.kill(launcher_of(jail), signal.SIGKILL)
            outcome = await asyncio.wait_for(sandbox.wait(), 20)
            assert (outcome.ending, outcome.detail) == (Ending.KILLED, "the launcher died")
        assert await maker.gone(mark)
        again, _ = await jail.run(Spec(image=image, command=("true",)), lambda *_: None)
        assert again.exit_code == 0


@pytest.mark.parametrize("delay", [0.001, 0.004, 0.008, 0.012, 0.02])
async def test_a_supervisor_killed_in_the_middle_of_a_start_leaves_no_survivor(
    maker: Maker, tmp_path: Path, mark: str, delay: float
) -> None:
    script = SUPERVISOR.replace("print(jail._owner.instance, flush=True)", "").replace(
        "for _ in range(3):", 'print("ready", flush=True)\n    for _ in range(200):'
    )
    with maker.supervisor(script, tmp_path, mark) as process:
        await asyncio.to_thread(line_of, process)
        await asyncio.sleep(0.05 + delay)
        process.send_signal(signal.SIGKILL)
    assert await maker.gone(mark)
    await nothing_is_mounted(maker, tmp_path)


async def test_a_supervisor_and_its_launcher_killed_at_once_leave_no_survivor(
    maker: Maker, tmp_path: Path, mark: str
) -> None:
    """Nobody is left to clear up, nor takes their uids: what ends the sandboxes the kernel does by itself."""
    own = SUPERVISOR.replace(
        "print(jail._owner.instance, flush=True)", "print(jail._launcher._process.pid, flush=True)"
    )
    with maker.supervisor(own, tmp_path, mark, first_uid=231_000, uids=10) as process:
        launcher = int(await asyncio.to_thread(line_of, process))
        assert maker.survivors(mark)
        os.kill(launcher, signal.SIGSTOP)  # so that it does not see its supervisor die
        process.send_signal(signal.SIGKILL)
        os.kill(launcher, signal.SIGKILL)
    assert await maker.gone(mark)
    await nothing_is_mounted(maker, tmp_path)
