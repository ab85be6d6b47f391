"""Programs put into a living sandbox: what they are, how they end, and that nothing leads out by them."""

import asyncio
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.integration.jail.living import Room, finished, heard, kept

from tenantry.engines.jail import kernel
from tenantry.engines.jail.cgroups import CgroupVersion
from tenantry.engines.jail.entrance import Ends, Guest, Place
from tenantry.engines.jail.errors import ExecsExhausted, SandboxEnded, SpecInvalid
from tenantry.engines.jail.exec_types import ExecSpec, TerminalSize
from tenantry.engines.jail.keeper import PLACE
from tenantry.engines.jail.sandbox import MOST_EXECS
from tenantry.engines.jail.types import Ending, InputFile, Limits

IDENTITY = ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters")


def fields_of(status: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}


async def test_its_program_only_waits(prison: Any) -> None:
    async with kept(prison) as room:
        done = await room.exec("cat", f"/proc/{room.first}/cmdline", f"/proc/{room.first}/status")
        assert done.out.startswith(f"{PLACE}\0")
        assert int(fields_of(done.out)["SigIgn"], 16) == 1 << signal.SIGCHLD - 1
        assert (await room.sh("ls /proc | grep -c '^[0-9]'")).out != "0\n"


async def test_output_errors_and_exit_code_are_its_own(prison: Any) -> None:
    async with kept(prison) as room:
        done = await room.sh("echo out; echo err >&2; exit 7")
        assert (done.out, done.err) == ("out\n", "err\n")
        assert (done.outcome.ending, done.outcome.exit_code) == (Ending.EXITED, 7)
        assert (await room.sh("kill -TERM $$")).outcome.exit_code == 128 + signal.SIGTERM


async def test_a_program_is_what_the_sandbox_is(prison: Any) -> None:
    async with kept(prison) as room:
        mine, keepers = [fields_of((await room.exec("cat", f"/proc/{who}/status")).out) for who in ("self", room.first)]
        assert {name: mine[name] for name in IDENTITY} == {name: keepers[name] for name in IDENTITY}
        look = "for n in user pid net ipc uts mnt cgroup; do readlink /proc/$1/ns/$n; done"
        ours, theirs = [(await room.exec("sh", "-c", look, "sh", str(who))).out for who in ("self", room.first)]
        assert ours == theirs
        assert len(ours.splitlines()) == 7
        limits = [(await room.exec("cat", f"/proc/{who}/limits")).out for who in ("self", room.first)]
        assert limits[0] == limits[1]


async def test_its_environment_is_the_sandboxs_with_its_own_over_it(prison: Any) -> None:
    async with kept(prison, env={"SECRET": "s3", "BOTH": "sandbox"}) as room:
        done = await room.exec("env", env={"BOTH": "exec", "MORE": "a b\nc"})
        found = dict(entry.split("=", 1) for entry in done.out.replace("b\nc", "b c").splitlines())
        assert found.pop("PATH").startswith("/usr/local/bin:")
        image = prison.host.env
        assert found == {
            "HOME": "/workspace", "LANG": "C.UTF-8", "TMPDIR": "/tmp", "SECRET": "s3", "BOTH": "exec", "MORE": "a b c",
            **image,
        }  # fmt: skip


async def test_it_starts_where_it_is_told(prison: Any) -> None:
    async with kept(prison, workdir="/tmp") as room:
        assert (await room.exec("pwd")).out == "/tmp\n"
        assert (await room.exec("pwd", workdir="/usr/bin")).out == "/usr/bin\n"
        nowhere = await room.exec("pwd", workdir="/nowhere")
        assert nowhere.outcome.ending is Ending.NOT_STARTED
        assert "/nowhere" in nowhere.outcome.detail


@pytest.mark.parametrize(
    ("command", "exit_code"), [("no-such-program", 127), ("/etc/passwd", 126), ("/etc", 127), ("/nowhere/x", 127)]
)
async def test_what_cannot_be_started_says_so_as_a_shell_would(prison: Any, command: str, exit_code: int) -> None:
    async with kept(prison) as room:
        outcome = (await room.exec(command)).outcome
        assert (outcome.ending, outcome.exit_code) == (Ending.NOT_STARTED, exit_code)


async def test_a_script_whose_interpreter_is_missing_is_not_found(prison: Any) -> None:
    async with kept(prison) as room:
        await room.sh("printf '#!/nowhere/sh\\n' > /workspace/x; chmod +x /workspace/x")
        outcome = (await room.exec("/workspace/x")).outcome
        assert (outcome.ending, outcome.exit_code) == (Ending.NOT_STARTED, 127)


async def test_input_is_carried_and_ended(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("wc -c")
        content = bytes(300_000)
        writing = asyncio.create_task(execution.write(content))
        await writing
        execution.close_stdin()
        execution.close_stdin()
        assert (await finished(execution)).out.strip() == str(len(content))
        with pytest.raises(BrokenPipeError):
            await execution.write(b"more")
        await execution.close()


async def test_a_program_that_reads_no_more_breaks_the_pipe(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("exec 0<&-; echo closed; sleep 60")
        await heard(execution, "closed")
        with pytest.raises(BrokenPipeError):
            await execution.write(bytes(1 << 20))
        await execution.close()
        assert (await execution.wait()).ending is Ending.KILLED


async def test_signals_reach_its_whole_group(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("trap 'echo caught; exit 5' USR1; echo ready; sleep 60 & wait")
        await heard(execution, "ready")
        execution.signal(signal.SIGUSR1)
        done = await finished(execution)
        assert (done.out, done.outcome.exit_code) == ("caught\n", 5)
        for wrong in (0, -1, 65):
            with pytest.raises(SpecInvalid):
                execution.signal(wrong)
        execution.signal(signal.SIGUSR1)
        await execution.close()


async def test_its_time_and_its_output_are_bounded(prison: Any) -> None:
    async with kept(prison) as room:
        late = await room.exec("sleep", "60", timeout_seconds=0.2)
        assert late.outcome.ending is Ending.TIMED_OUT
        loud = await room.exec("cat", "/dev/zero", output_bytes=100)
        assert loud.outcome.ending is Ending.OUTPUT_LIMIT
        assert len(loud.out) == 100


@pytest.mark.parametrize("how", ["exit", "close", "timeout"])
async def test_nothing_of_its_process_group_outlives_it(prison: Any, how: str) -> None:
    async with kept(prison) as room:
        seconds = 0.3 if how == "timeout" else None
        last = "exit 0" if how == "exit" else "wait"
        execution = await room.start(f"sleep 61 & sleep 61 & echo on; {last}", timeout_seconds=seconds)
        await heard(execution, "on")
        if how == "close":
            await execution.close()
        await execution.wait()
        await execution.close()
        for _ in range(50):  # killed by now, and then to be reaped by process 1
            if "sleep" not in (await room.sh("cat /proc/[0-9]*/comm")).out:
                return
        pytest.fail("it is still there")


async def test_a_daemon_of_it_does_not_hold_its_end_back_and_dies_with_the_sandbox(prison: Any) -> None:
    async with kept(prison) as room:
        done = await room.sh("setsid sh -c 'echo > /tmp/on; exec sleep 62' & while [ ! -e /tmp/on ]; do :; done")
        assert done.outcome.exit_code == 0
        assert "sleep" in (await room.sh("cat /proc/[0-9]*/comm")).out
        namespace = room.sandbox.receipt.namespaces["pid"]  # type: ignore[union-attr]
    assert inside(namespace) == []


def inside(namespace: int) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "ns/pid").stat().st_ino == namespace:
                found.append(place.name)
        except OSError:
            continue
    return found


async def test_none_outlives_the_sandbox(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("trap '' HUP TERM; echo on; setsid sleep 60 & sleep 60")
        await heard(execution, "on")
        room.sandbox.kill("enough")
        assert (await execution.wait()).ending is Ending.KILLED
        await room.sandbox.wait()
        with pytest.raises(SandboxEnded):
            await room.sandbox.exec(ExecSpec(command=("true",)))
    assert inside(room.sandbox.receipt.namespaces["pid"]) == []  # type: ignore[union-attr]


async def test_whoever_ends_the_keeper_ends_the_sandbox(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start(f"kill -9 {room.first}; sleep 60")
        assert (await execution.wait()).ending is Ending.KILLED
        assert (await room.sandbox.wait()).ending is Ending.EXITED


async def test_how_many_run_at_a_time_is_bounded(prison: Any) -> None:
    async with kept(prison) as room:
        running = await asyncio.gather(*(room.start("sleep 60") for _ in range(MOST_EXECS)))
        with pytest.raises(ExecsExhausted):
            await room.start("true")
        await running[0].close()
        assert (await room.sh("echo on")).out == "on\n"


async def test_what_is_not_kept_takes_none(prison: Any) -> None:
    async with await prison.jail.start(prison.spec("sleep", "60"), lambda *_: None) as sandbox:
        with pytest.raises(SpecInvalid):
            await sandbox.exec(ExecSpec(command=("true",)))


async def test_the_group_of_the_sandbox_bounds_it(prison: Any) -> None:
    if not prison.jail.hierarchy.directories:
        pytest.skip("no cgroup here")
    async with kept(prison, limits=Limits(memory_mib=64, pids=16, timeout_seconds=60)) as room:
        parts = room.sandbox._parts
        execution = await room.start("echo on; sleep 60")
        await heard(execution, "on")
        lines = kernel.read_cgroups(execution._guest.pid)
        assert lines == kernel.read_cgroups(parts.init_pid)
        groups = {path.name for path in parts.cgroup.directories}
        assert sum(line.rpartition("/")[2] in groups for line in lines) >= len(parts.cgroup.directories)
        await execution.close()
        # Last: what it leaves in memory may cost each later program its life.
        done = await room.sh("head -c 80M /dev/zero > /dev/shm/x; x=$(head -c 100M /dev/zero | tr '\\0' x)")
        assert done.outcome.exit_code != 0


async def test_secrets_files_and_inputs_are_there(prison: Any) -> None:
    fields = {"inputs": (InputFile("a", b"in"),), "secret_files": (InputFile("s", b"sec"),)}
    async with kept(prison, **fields) as room:
        assert (await room.exec("cat", "/inputs/a", "/run/secrets/s")).out == "insec"


# What others got wrong


SPY = """
while :; do for p in /proc/[0-9]*; do
    case $(cat $p/comm 2>/dev/null) in python*) ;; *) continue;; esac
    echo SEEN
    for n in exe cwd root fd/0 fd/3 ns/net; do readlink $p/$n >/dev/null 2>&1 && echo LOOKED $n; done
    for n in environ maps mem; do head -c 1 $p/$n >/dev/null 2>&1 && echo LOOKED $n; done
    ls $p/fd >/dev/null 2>&1 && echo LOOKED fd
done; done
"""


async def test_nobody_inside_looks_into_it_between_joining_and_exec(prison: Any) -> None:
    """CVE-2016-9962: on its way, which a long PATH makes long, a peer of its uid sees it and reads nothing of it."""
    async with kept(prison) as room:
        spy = await room.start(SPY)
        seen = asyncio.create_task(heard(spy, "SEEN"))
        async with asyncio.timeout(30):
            while not seen.done():
                done = await room.exec("nothing", env={"PATH": "x:" * 60_000})
                assert done.outcome.exit_code == 127
        spy.signal(signal.SIGKILL)
        assert "LOOKED" not in await seen + (await finished(spy)).out
        await spy.close()


async def test_its_own_executable_is_nothing_of_the_host(prison: Any) -> None:
    """CVE-2019-5736: what /proc/self/exe leads to at the last step lies inside, on a mount nobody writes."""
    async with kept(prison) as room:
        again = await room.exec("/proc/self/exe", "again")
        assert again.outcome.exit_code == 127  # the keeper itself, at whose door nobody stands
        await room.sh("printf '#!/proc/self/exe\\n' > /workspace/x; chmod +x /workspace/x")
        script = await room.exec("/workspace/x", timeout_seconds=5)
        assert "python" not in script.out + script.err
        tried = await room.sh(
            f"echo x > {PLACE}; echo x > /proc/{room.first}/exe; chmod 777 {PLACE}; rm -f {PLACE}; mv {PLACE} /run/x"
        )
        assert len(tried.err.splitlines()) == 5
        assert (await room.sh(f"head -c 4 {PLACE} | tail -c 3; echo; stat -c %a {PLACE}")).out == "ELF\n555\n"


@pytest.mark.parametrize("number", range(3, 12))
async def test_no_descriptor_leads_its_directory_out(prison: Any, number: int) -> None:
    """CVE-2024-21626: none of a directory of the host is held when it goes to where it starts."""
    async with kept(prison) as room:
        for place in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/../.."):
            done = await room.exec("ls", "-a", workdir=place)
            assert done.outcome.ending is Ending.NOT_STARTED


@pytest.mark.parametrize("place", ["/proc/self/cwd", "/proc/self/root", "/proc/1/root", "/proc/1/cwd"])
async def test_where_it_starts_is_inside(prison: Any, place: str) -> None:
    async with kept(prison) as room:
        done = await room.exec("ls", "/root", "/home", "/proc/self/cwd/../../../../root", workdir=place)
        assert done.out == ""


async def test_it_holds_three_descriptors_and_no_more(prison: Any) -> None:
    async with kept(prison) as room:
        for terminal in (None, TerminalSize(24, 80)):
            done = await room.exec("ls", "/proc/self/fd", terminal=terminal)
            assert done.out.split() == ["0", "1", "2", "3"]  # the last is of the directory it lists


async def test_one_that_is_not_in_its_sandbox_does_not_run(prison: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kept(prison) as room:
        receipt = room.sandbox.receipt
        wrong = dict(receipt.namespaces) | {"net": os.stat("/proc/self/ns/net").st_ino}  # type: ignore[union-attr]
        monkeypatch.setattr(kernel, "read_namespaces", lambda _: wrong)
        done = await room.sh("echo ran | tee /workspace/ran")
        monkeypatch.undo()
        assert done.out == ""
        assert done.outcome.ending is Ending.NOT_STARTED
        assert "another namespace" in done.outcome.detail
        assert (await room.sh("ls /workspace")).out == "outputs\n"


async def test_a_namespace_that_is_not_the_sandboxs_is_not_entered(prison: Any) -> None:
    async with kept(prison) as room:
        receipt = room.sandbox.receipt
        receipt.namespaces["net"] += 1  # type: ignore[union-attr, index]
        done = await room.sh("echo ran")
        assert done.outcome.ending is Ending.NOT_STARTED
        assert "another net namespace" in done.outcome.detail


@pytest.mark.parametrize("said", [b'{"pid": 1}', b'{"terminal": true}', b"+\0", b"", b"\xff" * 70_000, b"2"])
async def test_whoever_is_at_the_door_is_believed_nothing_but_that_it_is_there(prison: Any, said: bytes) -> None:
    """The memory of what stands there can be written by its peers: no number, no descriptor is taken from it."""
    async with kept(prison) as room:
        with ExitStack() as stack:
            ends = Ends.open(stack)
            channel, door = (socket.socket(fileno=os.dup(end)) for end in ends.theirs)
            with channel, door, open(os.devnull) as something:  # noqa: ASYNC230 - nobody waits for it
                before = len(os.listdir("/proc/self/fd"))
                socket.send_fds(door, [said], [something.fileno()])
                channel.close()
                stack.close()
                guest = Guest(place_of(room), ExecSpec(command=("true",)), ends, 0, asyncio.Future())
                guest.pid = room.sandbox._parts.init_pid
                await guest.come_in()
                assert guest.refusal is not None
                assert guest.refusal.ending is Ending.NOT_STARTED
                assert (guest.pid, guest.terminal) == (room.sandbox._parts.init_pid, -1)
                assert len(os.listdir("/proc/self/fd")) <= before
        assert (await room.sh("echo on")).out == "on\n"


def place_of(room: Room) -> Place:
    parts, receipt = room.sandbox._parts, room.sandbox.receipt
    assert receipt is not None
    return Place(
        sandbox_id=room.sandbox.id, spec=parts.spec, uid=parts.uid, cgroup=parts.cgroup, join=parts.join,
        in_container=parts.in_container, rlimits=parts.rlimits, init=parts.init, init_pid=parts.init_pid,
        receipt=receipt, launcher=room.sandbox._launcher,
    )  # fmt: skip


async def test_what_the_kernel_kills_for_its_memory_says_so(prison: Any) -> None:
    if prison.jail.hierarchy.version is not CgroupVersion.V1:
        pytest.skip("here the kernel kills all of the sandbox, or bounds no memory")
    async with kept(prison, limits=Limits(memory_mib=48, timeout_seconds=60)) as room:
        done = await room.exec("tail", "/dev/zero")
        assert (done.outcome.ending, done.outcome.exit_code) == (Ending.OUT_OF_MEMORY, 137)
        assert (await room.sh("echo on")).out == "on\n"


async def test_a_launcher_that_dies_ends_them_all(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("echo on; sleep 60")
        await heard(execution, "on")
        os.kill(prison.jail._launcher.pid, signal.SIGKILL)
        assert (await execution.wait()).ending is Ending.KILLED
        await execution.close()
        assert (await room.sandbox.wait()).ending is Ending.KILLED
