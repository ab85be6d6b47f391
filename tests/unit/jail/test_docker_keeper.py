"""The keeper of containers: a program that waits for the end of its input, and leaves no zombie."""

import os
import platform
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.ending import ended

from tenantry.engines.jail.docker.keeper import keeper
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.kernel import read_status


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "keeper"
    path.write_bytes(keeper())
    path.chmod(0o755)
    return path


def test_it_waits_until_its_input_ends(program: Path) -> None:
    process = subprocess.Popen([program], stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(b"x" * 1000)
    process.stdin.flush()
    os.kill(process.pid, signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.stdin.close()
    assert ended(process) == 0


def test_it_ignores_the_death_of_children_and_nothing_else(program: Path) -> None:
    died = 1 << signal.SIGCHLD - 1
    with subprocess.Popen(["sh", "-c", "read line"], stdin=subprocess.PIPE) as process:
        inherited = int(read_status(process.pid)["SigIgn"], 16)  # what this machine has its programs begin with
        process.communicate(b"\n")
    deadline = time.monotonic() + 10
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        while not (ignored := int(read_status(process.pid)["SigIgn"], 16)) & died:
            assert time.monotonic() < deadline, "it does not ignore the death of its children"
        process.communicate(b"")
    assert ignored == inherited | died


def test_there_is_one_for_each_machine_that_has_a_filter() -> None:
    assert keeper("x86_64")[:4] == keeper("aarch64")[:4] == b"\x7fELF"
    assert keeper(platform.machine()) == keeper()
    with pytest.raises(JailUnavailable):
        keeper("vax")


def test_the_one_for_arm_is_what_its_assembler_makes() -> None:
    """Words of `as` for the same source: adr and both branches are counted by hand elsewhere."""
    words = memoryview(keeper("aarch64")[120:-32]).cast("I").tolist()
    assert words[:6] == [0xD28010C8, 0xD2800220, 0x10000221, 0xD2800002, 0xD2800103, 0xD4000001]
    assert words[6:12] == [0xD10103FF, 0xD28007E8, 0xD2800000, 0x910003E1, 0xD2800802, 0xD4000001]
    assert words[12:] == [0xF100001F, 0x54FFFF4C, 0xB100101F, 0x54FFFF00, 0xD2800BC8, 0xD2800000, 0xD4000001]
