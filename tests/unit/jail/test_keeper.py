"""The keeper's bytes are golden for each machine, and those of this one are run."""

import hashlib
import os
import platform
import signal
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.keeper import CHANNEL_FD, HERE, build_keeper

#: Disassembled and reviewed.
GOLDEN = {
    "x86_64": "eab77cbb97f99e1be280b3d2b43af21c4854dc2318e281c4807df226d6293bfb",
    "aarch64": "5c7a744f034d35d4fac4c7bd79ea9e41a027c52e6a000e96b22d86baac76dbe6",
}
MACHINES = {"x86_64": 62, "aarch64": 183}


@pytest.fixture
def keeper(tmp_path: Path) -> Path:
    if platform.machine() not in GOLDEN:
        pytest.skip("no keeper for this machine")
    place = tmp_path / "keeper"
    place.write_bytes(build_keeper())
    place.chmod(0o555)
    return place


@pytest.mark.parametrize("machine", sorted(GOLDEN))
def test_the_bytes_are_the_reviewed_ones(machine: str) -> None:
    assert hashlib.sha256(build_keeper(machine)).hexdigest() == GOLDEN[machine]


@pytest.mark.parametrize("machine", sorted(GOLDEN))
def test_it_is_one_segment_that_nobody_writes(machine: str) -> None:
    code = build_keeper(machine)
    kind, number = struct.unpack_from("<HH", code, 16)
    assert (code[:5], kind, number) == (b"\x7fELF\x02", 2, MACHINES[machine])
    segments = [struct.unpack_from("<IIQQQQQQ", code, 64 + 56 * index) for index in range(2)]
    (load, flags, offset, address, _, size, in_memory, _), (_, stack, *_) = segments
    assert (load, flags, offset, size, in_memory) == (1, 5, 0, len(code), len(code))
    assert stack == 6
    (entry,) = struct.unpack_from("<Q", code, 24)
    assert address < entry < address + size


def test_other_machines_have_none() -> None:
    with pytest.raises(JailUnavailable):
        build_keeper("riscv64")


def test_alone_it_waits_and_leaves_no_zombies(keeper: Path) -> None:
    process = subprocess.Popen([keeper], env={})
    try:
        while "keeper" not in (words := Path(f"/proc/{process.pid}/status").read_text()) or "S (sl" not in words:
            assert process.poll() is None
        ignored = next(line for line in words.splitlines() if line.startswith("SigIgn"))
        assert int(ignored.split()[1], 16) & 1 << signal.SIGCHLD - 1
        process.send_signal(signal.SIGCONT)
        assert process.poll() is None
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL


def at_the_door(keeper: Path, *words: str, env: dict[str, str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def arrange() -> None:
        os.dup2(theirs.fileno(), CHANNEL_FD, inheritable=True)

    process = subprocess.Popen(
        [keeper, *words],
        env=env,
        stdout=subprocess.PIPE,
        preexec_fn=arrange,  # noqa: PLW1509 - one call, and none of its own locks
        close_fds=False,
    )
    theirs.close()
    return process, ours


def test_at_the_door_it_waits_to_be_let_in_and_becomes_the_program(keeper: Path) -> None:
    script = "echo $0 $1 $A; ls /proc/$$/fd | wc -l"
    process, channel = at_the_door(keeper, "/bin/sh", "name", "-c", script, "zero", "one", env={"A": "b"})
    with process, channel:
        assert channel.recv(10) == HERE
        assert process.poll() is None
        channel.send(b"\1")
        assert channel.recv(10) == b""  # closed by the exec
        out, _ = process.communicate()
        assert out.split()[:3] == [b"zero", b"one", b"b"]
        assert process.returncode == 0


def test_a_program_that_cannot_be_says_why_on_the_channel(keeper: Path) -> None:
    for place, number in (("/nowhere", 2), ("/etc/passwd", 13), ("/etc/passwd/x", 20)):
        process, channel = at_the_door(keeper, place, "x", env={})
        with process, channel:
            assert channel.recv(10) == HERE
            channel.send(b"\1")
            assert channel.recv(10) == bytes([number])
            assert process.wait() == 127


def test_whoever_is_not_let_in_leaves(keeper: Path) -> None:
    process, channel = at_the_door(keeper, "/bin/echo", "echo", "ran", env={})
    with process:
        assert channel.recv(10) == HERE
        channel.close()
        out, _ = process.communicate()
        assert (out, process.returncode) == (b"", 127)


def test_without_a_channel_it_leaves(keeper: Path) -> None:
    done = subprocess.run([keeper, "/bin/echo", "echo", "ran"], env={}, capture_output=True, check=False)
    assert (done.stdout, done.returncode) == (b"", 127)
