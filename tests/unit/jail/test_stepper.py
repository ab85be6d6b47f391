"""The program that makes the system calls it is told: run here, on this machine's own kernel, as it runs in gVisor."""

import errno
import os
import resource
import signal
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tenantry.engines.jail.assembly import AARCH64, X86_64
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.gvisor.stepper import ADDRESS, GO_ON, IGNORE, REPORT, STOPPED, build_stepper
from tenantry.engines.jail.gvisor.steps import (
    AT_BARRIER,
    BEGUN,
    GAVE_UP,
    READ_BACK_BYTES,
    ReadBack,
    Steps,
    refusal_of,
    steps_of,
)
from tenantry.engines.jail.types import ImageRoot, Spec

SPEC = Spec(image=ImageRoot(path=Path("/"), digest=""), command=("true",), workdir="/")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "stepper"
    path.write_bytes(build_stepper())
    path.chmod(0o755)
    return path


@dataclass
class Stepped:
    """What it reported, in order, what the kernel said of it at the barrier, and how it ended."""

    reports: list[tuple[int, int]]
    read_back: ReadBack | None
    out: bytes
    code: int


def step(program: Path, steps: Steps, *, release: bool = True, sent: bytes | None = None) -> Stepped:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with ours, os.fdopen(reader, "rb") as out, subprocess.Popen([program], stdin=theirs.fileno()) as process:
        theirs.close()
        ours.settimeout(20)
        ours.sendall(steps.encoded() if sent is None else sent)
        if sent is None:
            socket.send_fds(ours, [b"+"], [writer, writer])
        else:
            ours.shutdown(socket.SHUT_WR)
        os.close(writer)
        reports, read_back = [], None
        while piece := received(ours, REPORT.size):
            reports.append(REPORT.unpack(piece))
            if reports[-1] == AT_BARRIER:
                read_back = ReadBack.parsed(received(ours, READ_BACK_BYTES))
                if release:
                    ours.sendall(b"+")
                else:
                    ours.shutdown(socket.SHUT_WR)
        return Stepped(reports, read_back, out.read(), process.wait(20))


def received(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (piece := link.recv(size - len(found))):
        found += piece
    return found


def way_in(*command: str, **fields: object) -> Steps:
    spec = replace(SPEC, command=command, **fields)  # type: ignore[arg-type]
    bounds = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_MSGQUEUE, 0)]
    return steps_of(spec, uid=os.geteuid(), rlimits=bounds, files=[(resource.RLIMIT_NOFILE, 16)])


def test_a_program_comes_of_it_with_one_uid_no_right_a_filter_and_three_descriptors(program: Path) -> None:
    script = "id -u; ulimit -Hn; umask; echo $A; for f in /proc/self/fd/*; do echo ${f##*/}; done; read x; echo $?"
    stepped = step(program, way_in("sh", "-c", script, env={"A": "b c"}))
    assert stepped.out.decode().split("\n") == ["1000", "16", "0022", "b c", "0", "1", "2", "3", "1", ""]
    assert stepped.code == 0
    told = stepped.read_back
    assert told is not None
    assert {told.status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert (told.status["Seccomp"], told.status["NoNewPrivs"]) == ("2", "1")
    assert told.uid_map == f"1000 {os.geteuid()} 1"
    assert (told.rlimits["core"], told.rlimits["nofile"]) == ("0", "16")
    assert stepped.reports[:2] == [AT_BARRIER, BEGUN]


def test_nothing_runs_until_it_is_released(program: Path) -> None:
    stepped = step(program, way_in("echo", "ran"), release=False)
    assert (stepped.out, stepped.code) == (b"", STOPPED)
    assert BEGUN not in stepped.reports


def test_a_program_that_is_nowhere_is_told_by_its_errno(program: Path) -> None:
    stepped = step(program, way_in("no-such-program"))
    assert stepped.reports[-1] == GAVE_UP
    answers = [-answer for address, answer in stepped.reports if address > GAVE_UP[0]]
    assert refusal_of(answers) == errno.ENOENT
    assert refusal_of([errno.ENOENT, errno.EACCES, errno.ENOENT]) == errno.EACCES


def test_a_step_that_is_answered_otherwise_than_wanted_ends_it_and_names_itself(program: Path) -> None:
    steps = way_in("true", workdir="/absent")
    stepped = step(program, steps)
    ((address, answer),) = stepped.reports
    assert (steps.told(address), answer, stepped.code) == ("/absent", -errno.ENOENT, STOPPED)


def test_it_goes_on_after_some_steps_and_does_not_look_at_others(program: Path) -> None:
    steps = Steps()
    steps.call("dup3", 0, 3, os.O_CLOEXEC, wanted=3)
    steps.call("close", 77, mode=IGNORE)
    steps.call("close", 78, mode=GO_ON)
    steps.call("exit_group", 9)
    stepped = step(program, steps, sent=steps.encoded())
    assert stepped.reports == [(ADDRESS + 2 * 64, -errno.EBADF)]
    assert stepped.code == 9


@pytest.mark.parametrize("sent", [b"", b"\1", (1 << 40).to_bytes(8, "little"), (64).to_bytes(8, "little") + b"x"])
def test_what_is_cut_short_ends_it(program: Path, sent: bytes) -> None:
    stepped = step(program, Steps(), sent=sent)
    assert (stepped.code, stepped.reports) == (STOPPED, [])
    assert stepped.code != -signal.SIGSEGV


def test_there_is_one_for_each_machine_that_has_a_filter() -> None:
    for name, number in (("x86_64", X86_64), ("aarch64", AARCH64)):
        made = build_stepper(name)
        assert made[:4] == b"\x7fELF"
        assert int.from_bytes(made[18:20], "little") == number
        assert Steps(name).encoded() == bytes(8)
    with pytest.raises(JailUnavailable):
        build_stepper("vax")


def test_the_one_for_arm_is_what_an_assembler_makes() -> None:
    """Words of `llvm-mc` for the same source: what it reads, and what it does with a step."""
    words = memoryview(build_stepper("aarch64")[176:]).cast("I").tolist()
    assert words[:9] == [0xD10043FF, 0xD2800000, 0x910003E1, 0xD2800102, 0xD28007E8, 0xD4000001, 0xF100201F,
                         0x540005A1, 0xF94003F4]  # fmt: skip
    assert words[32:43] == [0xB9400268, 0xB9400676, 0xA9408660, 0xA9418E62, 0xA9429664, 0xD4000001, 0x71000ADF,
                            0x54000160, 0xF9401E69, 0xEB09001F, 0x54000100]  # fmt: skip
    assert words[49:] == [0x34000076, 0x91010273, 0x17FFFFED, 0xD2800FA0, 0xD2800BC8, 0xD4000001]
