"""No step on a program's way in can be left out unnoticed: each in turn, on this machine's own kernel.

The steps are the same under gVisor, whose kernel is asked in the same words; what a kernel of either kind shows then,
at the barrier and to the program, is compared with what the whole way in comes to.
"""

import json
import os
import resource
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tenantry.engines.jail.gvisor.stepper import IGNORE, REPORT, build_stepper
from tenantry.engines.jail.gvisor.steps import AT_BARRIER, READ_BACK_BYTES, ReadBack, Steps, steps_of
from tenantry.engines.jail.types import ImageRoot, Spec

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes another uid, as in a container")
UID = 233_007
LOOK = """
import json, os, resource, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
told = {name: status[name].strip() for name in status
        if name.startswith(("Cap", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp:", "Seccomp", "Umask"))}
told["fds"] = sorted(os.listdir("/proc/self/fd"))
told["leads"] = os.getsid(0) == os.getpid()
told["limits"] = [resource.getrlimit(kind) for kind in (4, 7, 1, 12, 6)]
told["place"], told["input"], told["env"] = os.getcwd(), os.read(0, 1).decode(), dict(os.environ)
print(json.dumps(told, sort_keys=True), flush=True)
print("errors", file=sys.stderr)
"""
#: What leaving a step out changes nothing of, and why, by how it is told.
HARMLESS = {
    "close": "the last that is opened for reading back is closed by the program's exec",
    "prctl": "it asks whether privileges can be gained, and would end the way in",
    "setresgid": "the map alone makes the number it has the one it should have",
    "setresuid": "the map alone makes the number it has the one it should have",
}
_LAST_CAPABILITY = int(Path("/proc/sys/kernel/cap_last_cap").read_text())


@dataclass(frozen=True)
class Came:
    """What came of a way in."""

    reports: tuple[tuple[int, int], ...]
    read_back: ReadBack | None
    said: str
    code: int


class Without(Steps):
    """The same steps, but for one that does nothing."""

    def leave_out(self, number: int) -> None:
        self._steps[number] = (self._numbers["close"], IGNORE, (999,), 0, "left out")


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """Where any uid can reach it, which pytest's own folders are not."""
    with TemporaryDirectory(prefix="stepper-") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "stepper"
        path.write_bytes(build_stepper())
        path.chmod(0o755)
        yield path


def way_in(*command: str) -> Without:
    spec = Spec(image=ImageRoot(path=Path("/"), digest=""), command=command, workdir="/usr")
    bounds = [(resource.RLIMIT_CORE, 4096), (resource.RLIMIT_FSIZE, 1 << 20), (resource.RLIMIT_MSGQUEUE, 0),
              (resource.RLIMIT_NPROC, 50)]  # fmt: skip
    steps = steps_of(spec, uid=UID, rlimits=bounds, files=[(resource.RLIMIT_NOFILE, 32)])
    steps.__class__ = Without
    assert isinstance(steps, Without)
    return steps


def came(program: Path, steps: Steps, *, release: bool = True) -> Came:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with ours, os.fdopen(reader, "rb") as out, subprocess.Popen(
        [program], stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=UID, group=UID,
        extra_groups=[], umask=0o077,
    ) as process:  # fmt: skip
        theirs.close()
        ours.settimeout(2)
        reports: list[tuple[int, int]] = []
        read_back = None
        try:
            ours.sendall(steps.encoded())
            socket.send_fds(ours, [b"+"], [writer, writer])
            os.close(writer)
            writer = -1
            for report in _reports(ours):
                reports.append(report)
                if report == AT_BARRIER:
                    read_back = ReadBack.parsed(_received(ours, READ_BACK_BYTES))
                    if release:
                        ours.sendall(b"+")
                    else:
                        ours.shutdown(socket.SHUT_WR)
        except (OSError, struct.error, ValueError):
            process.kill()
        finally:
            if writer >= 0:
                os.close(writer)
        ours.close()
        said = out.read().decode()
        return Came(tuple(answer for answer in reports if answer[0] < 3), read_back, said, process.wait(20))


def _reports(link: socket.socket) -> Iterator[tuple[int, int]]:
    while len(piece := _received(link, REPORT.size)) == REPORT.size:
        yield REPORT.unpack(piece)


def _received(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (piece := link.recv(size - len(found))):
        found += piece
    return found


def _plain(outcome: Came) -> Came:
    """Leave out what differs from process to process."""
    told = outcome.read_back
    kept = (name for name in (told.status if told else {}) if name.startswith(("Cap", "Uid", "Gid", "Sec", "NoNew")))
    status = {name: told.status[name] for name in kept} if told else {}
    return replace(outcome, read_back=replace(told, status=status) if told else None)


@needs_root
def test_no_step_can_be_left_out_unnoticed(program: Path) -> None:
    found, absent = ("/usr/bin/python3", "-I", "-S", "-c", LOOK), ("/absent",)  # as many steps
    whole, missing = _plain(came(program, way_in(*found))), _plain(came(program, way_in(*absent)))
    sealed = _plain(came(program, way_in(*found), release=False))
    assert whole.code == 0, whole
    assert json.loads(whole.said.splitlines()[0])["place"] == "/usr"
    unnoticed = []
    for number, (_, _, arguments, _, told) in enumerate(way_in(*found)._steps):
        steps = [way_in(*found), way_in(*absent), way_in(*found)]
        for each in steps:
            each.leave_out(number)
        if _plain(came(program, steps[0])) != whole:
            continue
        if _plain(came(program, steps[2], release=False)) != sealed or _plain(came(program, steps[1])) != missing:
            continue
        unnoticed.append((told, arguments))
    past_the_last = [(24, number) for number in range(_LAST_CAPABILITY + 1, 64)]
    left = [(told, arguments) for told, arguments in unnoticed if arguments not in past_the_last]
    assert sorted(told for told, _ in left) == sorted(HARMLESS), "\n".join(map(str, left))
