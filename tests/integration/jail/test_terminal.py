"""Terminals of a living sandbox: one of its own for a program that asks, and nothing typed into any other."""

from typing import Any

import pytest
from tests.integration.jail.living import finished, heard, kept

from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.exec_types import TerminalSize
from tenantry.engines.jail.selftest import with_python
from tenantry.engines.jail.types import Ending, Stream

SIZE = TerminalSize(rows=33, columns=101)
#: TIOCSTI of one byte, then TIOCLINUX, at its own terminal and at whatever /dev/tty is.
TYPE = """
import errno, fcntl
for place in ("/dev/tty", "/dev/pts/0"):
    for call, argument in ((0x5412, b"x"), (0x541C, b"\\3")):
        try:
            fcntl.ioctl(open(place), call, argument)
            print("typed")
        except OSError as error:
            print(errno.errorcode[error.errno])
"""


async def test_it_is_the_controlling_terminal_of_a_session_of_its_own(prison: Any) -> None:
    async with kept(prison) as room:
        done = await room.sh("tty; stty size; echo err >&2; echo on > /dev/tty; ls /dev/pts", terminal=SIZE)
        assert done.out.split() == ["/dev/pts/0", "33", "101", "err", "on", "0", "ptmx"]
        assert done.err == ""
        stat = (await room.exec("cat", "/proc/self/stat", terminal=SIZE)).out.split()
        pid, _, _, _, group, session, device, foreground = stat[:8]
        assert pid == group == session == foreground
        assert int(device) >> 8 == 136
        assert (await room.sh("ls /dev/pts; tty")).out.split() == ["ptmx", "not", "a", "tty"]


async def test_its_size_changes_and_its_foreground_is_told(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start(
            "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done", terminal=SIZE
        )
        await heard(execution, "ready")
        execution.resize(TerminalSize(rows=7, columns=9))
        assert "7 9" in await heard(execution, "7 9")
        await execution.close()
        plain = await room.start("true")
        with pytest.raises(SpecInvalid):
            plain.resize(SIZE)
        await plain.close()


async def test_what_is_typed_is_read_and_keys_are_signals(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("read line; echo got $line; exec sleep 60", terminal=SIZE)
        await execution.write(b"hello\r")
        await heard(execution, "got hello")
        await execution.write(b"\x03")
        outcome = await execution.wait()
        assert (outcome.ending, outcome.exit_code) == (Ending.EXITED, 130)
        await execution.close()


async def test_the_end_of_its_input_is_a_key(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("cat; echo over", terminal=SIZE)
        execution.close_stdin()
        assert "over" in (await finished(execution)).out
        await execution.close()


async def test_a_shell_has_job_control(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("exec sh -i 2>&1", terminal=SIZE, env={"PS1": "> "})
        await heard(execution, "> ")
        await execution.write(b"set -m; sleep 60 & jobs; echo e''nd\r")
        said = await heard(execution, "end")
        assert "Running" in said
        assert "can't access tty" not in said
        await execution.close()


async def test_closing_hangs_up(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("echo on; exec sleep 60", terminal=SIZE)
        await heard(execution, "on")
        await execution.close()
        assert (await execution.wait()).ending is Ending.KILLED
        for _ in range(50):
            if "sleep" not in (await room.sh("cat /proc/[0-9]*/comm")).out:
                break
        else:
            pytest.fail("it is still there")
        assert (await room.exec("ls", "/dev/pts")).out == "ptmx\n"


async def test_nothing_is_typed_into_a_terminal_from_inside(prison: Any) -> None:
    image, python, env = with_python(prison.host)
    async with kept(prison, image=image, env=env) as room:
        done = await room.exec(python, "-I", "-S", "-c", TYPE, terminal=SIZE)
        assert done.out.split() == ["EPERM"] * 4


async def test_terminals_are_the_sandboxs_own(prison: Any) -> None:
    async with kept(prison) as one, kept(prison) as other:
        execution = await one.start("echo on; exec sleep 60", terminal=SIZE)
        await heard(execution, "on")
        assert (await other.exec("ls", "/dev/pts")).out == "ptmx\n"
        assert (await other.sh("tty", terminal=SIZE)).out.strip() == "/dev/pts/0"
        await execution.close()


async def test_its_output_is_bounded_and_all_of_it_stdout(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("cat /dev/zero >&2", terminal=SIZE, output_bytes=10)
        piece = await execution.read()
        assert piece is not None
        assert piece[0] is Stream.STDOUT
        assert len((await finished(execution)).out) + len(piece[1]) == 10
        assert (await execution.wait()).ending is Ending.OUTPUT_LIMIT
        await execution.close()


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (10_001, 1), (1, 10_001)])
def test_a_size_is_a_sensible_one(size: tuple[int, int]) -> None:
    with pytest.raises(SpecInvalid):
        TerminalSize(*size)
