"""What every backend of sandboxes does: the jail with each bubblewrap there is, as root or not, and the engine's."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.prisons import KINDS, Prison, not_under_gvisor, opened_prison

from tenantry.engines.jail import overheads
from tenantry.engines.jail.errors import JailUnavailable, SandboxBusy
from tenantry.engines.jail.types import CERTIFICATES, Ending, InputFile, Limits, Listeners, Network, Stream

AT_ONCE = {"jail": 100, "docker": 12, "gvisor": 6}
#: Descriptors of what waits for the next sandbox, which come and go.
WAITING = {"jail": 0, "docker": 5, "gvisor": 12}
#: What a group has beside the memory of its programs.
OVERHEAD_MIB = {"gvisor": overheads.OVERHEAD_MIB}
NO_NETWORK = "which has none here: tests/integration/gvisor/test_network.py"
SMALL = Limits(memory_mib=64, pids=16, timeout_seconds=30, disk_mib=8, tmp_mib=4, shm_mib=4)


@pytest.fixture(scope="module", params=KINDS)
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison(request.param, tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


async def test_a_program_runs_and_its_end_is_told(prison: Any) -> None:
    ran = await prison.sh("echo out; echo err >&2; exit 3")
    assert (ran.outcome.ending, ran.outcome.exit_code) == (Ending.EXITED, 3)
    assert (ran.out, ran.err) == ("out\n", "err\n")
    usage = ran.outcome.usage
    assert usage.output_bytes == 8
    assert 0 < usage.wall_seconds < 30
    assert usage.peak_memory_mib > 0


async def test_a_signal_is_told_as_a_shell_would(prison: Any) -> None:
    assert (await prison.sh("kill -TERM $$")).outcome.exit_code == 143


async def test_output_comes_while_it_runs_and_waits_for_a_slow_receiver(prison: Any) -> None:
    heard = asyncio.Event()
    gate = asyncio.Event()
    chunks: list[bytes] = []

    async def hear(_: Stream, text: bytes) -> None:
        heard.set()
        await gate.wait()
        chunks.append(text)

    async with await prison.jail.start(prison.spec("sh", "-c", "echo first; sleep 0.2; echo second"), hear) as sandbox:
        await asyncio.wait_for(heard.wait(), 10)
        assert chunks == []
        gate.set()
        await sandbox.wait()
    assert b"".join(chunks) == b"first\nsecond\n"


async def test_a_receiver_that_fails_ends_the_sandbox_and_wait_raises_its_error(prison: Any) -> None:
    def fail(_: Stream, __: bytes) -> None:
        raise LookupError("mine")

    async with await prison.jail.start(prison.spec("sh", "-c", "echo x; sleep 60"), fail) as sandbox:
        with pytest.raises(LookupError, match="mine"):
            await sandbox.wait()


@pytest.mark.parametrize(
    ("command", "code", "word"),
    [
        (("no-such-program",), 127, "not found"),
        (("/no/such/program",), 127, "not found"),
        (("/etc/passwd",), 126, "cannot be executed"),
        (("/usr",), 126, "cannot be executed"),
    ],
)
async def test_a_program_that_cannot_start_says_so(prison: Any, command: tuple[str, ...], code: int, word: str) -> None:
    outcome = (await prison.run(*command)).outcome
    assert (outcome.ending, outcome.exit_code) == (Ending.NOT_STARTED, code)
    assert word in outcome.detail
    assert command[0] in outcome.detail


async def test_a_program_that_says_what_bwrap_would_say_is_not_believed(prison: Any) -> None:
    ran = await prison.sh("echo 'bwrap: execvp x: No such file or directory' >&2; exit 1")
    assert (ran.outcome.ending, ran.outcome.exit_code) == (Ending.EXITED, 1)


async def test_a_working_directory_that_is_absent_is_not_started(prison: Any) -> None:
    outcome = (await prison.run("true", workdir="/absent")).outcome
    assert outcome.ending is Ending.NOT_STARTED
    assert "/absent" in outcome.detail


async def test_time_runs_out(prison: Any) -> None:
    ran = await prison.sh("trap '' TERM INT; setsid sleep 100 & sleep 100", limits=Limits(timeout_seconds=0.3))
    assert (ran.outcome.ending, ran.outcome.exit_code) == (Ending.TIMED_OUT, None)
    assert ran.outcome.usage.wall_seconds < 10


async def test_output_is_cut_at_its_limit(prison: Any) -> None:
    ran = await prison.run("cat", "/dev/zero", limits=Limits(output_bytes=100_000, timeout_seconds=30))
    assert ran.outcome.ending is Ending.OUTPUT_LIMIT
    assert len(ran.out) == ran.outcome.usage.output_bytes == 100_000


async def test_output_of_exactly_the_limit_is_no_excess(prison: Any) -> None:
    ran = await prison.sh("printf 1234567890", limits=Limits(output_bytes=10, timeout_seconds=30))
    assert ran.outcome.ending is Ending.EXITED


@pytest.mark.parametrize("networked", [False, True])
async def test_the_fewest_open_files_suffice_to_start(prison: Any, networked: bool) -> None:
    if networked:
        not_under_gvisor(prison, NO_NETWORK)
    said: list[bytes] = []
    files = (InputFile("a", b"x"),)
    spec = prison.spec(
        *("sh", "-c", "ulimit -Hn"),
        limits=Limits(open_files=16),
        inputs=files,
        secret_files=files,
        network=Network() if networked else None,
    )

    async def attach(listeners: Listeners) -> None:
        listeners.close()

    started = await prison.jail.start(spec, lambda _, text: said.append(text), attach=attach if networked else None)
    async with started as sandbox:
        assert (await sandbox.wait()).exit_code == 0
    assert b"".join(said) == b"16\n"


async def test_a_killed_child_behind_exit_0_is_still_out_of_memory(prison: Any) -> None:
    if prison.jail.isolation == "rlimit":
        pytest.skip("no cgroup here")
    script = "(head -c 300m /dev/zero | tail -c 290m >/dev/null) 2>/dev/null; exit 0"
    outcome = (await prison.sh(script, limits=SMALL)).outcome
    assert outcome.ending is Ending.OUT_OF_MEMORY
    assert outcome.usage.peak_memory_mib <= 64.1 + OVERHEAD_MIB.get(prison.jail.name, 0)


async def test_kill_ends_everything_and_tells_why(prison: Any) -> None:
    async with await prison.jail.start(
        prison.spec("sh", "-c", "sleep 100 & setsid sleep 100"), lambda *_: None
    ) as sandbox:
        sandbox.kill("an operator said so")
        sandbox.kill("twice")
        outcome = await sandbox.wait()
        assert (outcome.ending, outcome.detail) == (Ending.KILLED, "an operator said so")
        assert await sandbox.wait() == outcome


def alive(words: str) -> bool:
    return bool(subprocess.run(["pgrep", "-f", words], check=False, capture_output=True).stdout)


def command_lines() -> bytes:
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += path.read_bytes()
    return found


async def test_words_of_any_alphabet_reach_the_program(prison: Any) -> None:
    ran = await prison.run("printf", "%s|", "ünï", "日本", "a\\nb", "", "\udcff", env={"E": "é"})
    assert ran.said[Stream.STDOUT] == "ünï|日本|".encode() + b"a\\nb||\xff|"


async def test_what_it_left_in_the_background_dies_with_it(prison: Any) -> None:
    ran = await prison.sh("(setsid sleep 987 </dev/null >/dev/null 2>&1 &) ; exit 4")
    assert ran.outcome.exit_code == 4
    assert not alive("sleep 987")


async def test_inputs_are_read_only_and_outputs_are_collected_after_death(prison: Any) -> None:
    inputs = (InputFile("a/b/data", b"in"), InputFile("a/run.sh", b"#!/bin/sh\necho ran\n", executable=True))
    script = (
        "cat /inputs/a/b/data; /inputs/a/run.sh; (echo x > /inputs/x && echo wrote) 2>&-;"
        "rm -f /inputs/a/run.sh 2>&- && echo gone;"
        "echo out > /outputs/o; echo w > w"
    )
    spec = prison.spec("sh", "-c", script, inputs=inputs)
    heard = bytearray()
    async with await prison.jail.start(spec, lambda s, t: heard.extend(t) if s is Stream.STDOUT else None) as sandbox:
        with pytest.raises(SandboxBusy):
            await sandbox.artifacts(["**"])
        await sandbox.wait()
        files = await sandbox.artifacts(["outputs/**", "w"])
        assert {item.path: item.read() for item in files} == {"outputs/o": b"out\n", "w": b"w\n"}
        assert await sandbox.artifacts(["absent"]) == []
    assert heard == b"inran\n"


async def test_secret_files_are_the_programs_alone_read_only_and_in_memory(prison: Any) -> None:
    files = (InputFile("key", b"one"), InputFile("deep/er/key", b"two"))
    script = (
        "cd /run/secrets; cat key deep/er/key; find . -printf '%p %m %U\\n' | sort; stat -f -c %T .;"
        "(echo x > x && echo wrote) 2>&-; (echo x > key && echo wrote) 2>&-; rm -rf deep 2>&- && echo gone;"
        "chmod 777 key 2>&- && echo opened; echo x > /run/x && echo open"
    )
    ran = await prison.sh(script, secret_files=files)
    found = ["onetwo. 700 1000", "./deep 700 1000", "./deep/er 700 1000", "./deep/er/key 400 1000", "./key 400 1000"]
    kind = "v9fs" if prison.jail.name == "gvisor" else "tmpfs"  # which serves one in memory of the host's
    assert ran.out.splitlines() == [*found, kind, "open"], ran.out + ran.err
    without = await prison.sh("find /run -mindepth 1")
    assert (without.out, without.outcome.exit_code) == ("", 0)


async def test_hostile_artifacts_are_skipped(prison: Any) -> None:
    script = (
        "cd /outputs; echo ok > ok; ln -s /etc/passwd l; ln -s / d; mkfifo p; truncate -s 200M sparse 2>/dev/null;"
        "mkdir -p t; cd t; i=0; while [ $i -lt 50 ]; do : > f$i; i=$((i+1)); done; ln -s /outputs /workspace/x"
    )
    async with await prison.jail.start(prison.spec("sh", "-c", script), lambda *_: None) as sandbox:
        await sandbox.wait()
        files = await sandbox.artifacts(["**"], max_files=11, max_bytes=1 << 20)
        assert len(files) == 11
        assert files[0].path == "outputs/ok"
        skipped = {item.path: item.reason for item in files.skipped}
        assert skipped["outputs/l"] == skipped["outputs/d"] == "not_regular"
        if prison.jail.name != "gvisor":  # which makes no pipe there
            assert skipped["outputs/p"] == "not_regular"
        assert skipped["outputs/sparse"] in {"too_large", "too_many"}


async def test_artifacts_of_a_program_that_replaced_its_outputs_by_a_link_are_none(prison: Any) -> None:
    script = "rmdir /workspace/outputs; ln -s /etc /workspace/outputs"
    async with await prison.jail.start(prison.spec("sh", "-c", script), lambda *_: None) as sandbox:
        await sandbox.wait()
        assert await sandbox.artifacts(["outputs/**", "outputs/passwd"]) == []


async def test_secrets_are_on_no_command_line(prison: Any) -> None:
    canary = "canary-5f2c"
    given = InputFile("t", canary.encode())
    spec = prison.spec("sleep", "60", env={"TOKEN": canary}, inputs=(given,), secret_files=(given,))
    async with await prison.jail.start(spec, lambda *_: None) as sandbox:
        assert canary.encode() not in command_lines()
        assert canary not in repr(sandbox.receipt)
        assert canary not in str(sandbox.receipt.as_record())


async def test_only_the_named_environment_and_three_descriptors_reach_it(prison: Any) -> None:
    os.environ["HOST_CANARY"] = "leaked"
    try:
        ran = await prison.sh(
            "env; for f in /proc/self/fd/*; do echo $f; done; read x; echo eof=$?", env={"A": "b c\nd"}
        )
    finally:
        del os.environ["HOST_CANARY"]
    assert "HOST_CANARY" not in ran.out
    assert "A=b c\nd\n" in ran.out
    assert "eof=1" in ran.out
    descriptors = [line.rpartition("/")[2] for line in ran.out.splitlines() if line.startswith("/proc/self/fd/")]
    assert set(descriptors) - {"3"} == {"0", "1", "2"}  # 3 is the directory being read


async def test_the_receipt_is_what_the_kernel_says(prison: Any) -> None:
    for command in (("true",), ("sleep", "0.2")):
        receipt = (await prison.run(*command, limits=SMALL)).receipt
        assert receipt.seccomp_mode == "2"
        assert receipt.no_new_privs
        assert receipt.uid != 0
        assert int(receipt.capabilities["CapEff"], 16) == int(receipt.capabilities["CapPrm"], 16) == 0
        assert {"mnt", "net", "user", "ipc", "uts"} <= set(receipt.unshared)
        assert "pid" in receipt.unshared or receipt.sentry["platform"] in {"ptrace", "systrap"}
        assert receipt.interfaces == ("lo",)
        assert receipt.rlimits["core"] == "0"
        assert receipt.image_digest == prison.host.digest
        if prison.jail.isolation != "rlimit":
            assert len(receipt.cgroup_paths) >= 1
            assert str(64 + OVERHEAD_MIB.get(prison.jail.name, 0) << 20) in receipt.cgroup_values.values()
        assert len(receipt.digest()) == 64


async def test_limits_are_those_asked_for(prison: Any) -> None:
    ran = await prison.sh("df -k /workspace /tmp /dev/shm | awk 'NR>1 {print $2}'; ulimit -n; ulimit -c", limits=SMALL)
    assert ran.out.split() == ["8192", "4096", "4096", "1024", "0"]


async def test_a_million_small_files_end_at_a_bound(prison: Any) -> None:
    if prison.jail.isolation == "rlimit":
        pytest.skip("inodes are counted to the cgroup's memory")
    script = "cd /workspace; i=0; while [ $i -lt 200000 ]; do : > f$i || exit 5; i=$((i+1)); done"
    outcome = (await prison.sh(script, limits=Limits(memory_mib=16, disk_mib=8, timeout_seconds=20))).outcome
    assert outcome.ending in {Ending.OUT_OF_MEMORY, Ending.TIMED_OUT} or outcome.exit_code == 5


async def test_a_neighbour_goes_on_beside_a_fork_bomb(prison: Any) -> None:
    bomb = "(f() { f | f & }; f) & exec sleep 20"
    limits = Limits(memory_mib=64, pids=32, timeout_seconds=3, cpus=0.5)
    async with await prison.jail.start(prison.spec("sh", "-c", bomb, limits=limits), lambda *_: None) as sandbox:
        started = time.monotonic()
        assert (await prison.sh("exit 0")).outcome.exit_code == 0
        assert time.monotonic() - started < 3
        sandbox.kill()
        assert (await sandbox.wait()).ending in {Ending.KILLED, Ending.OUT_OF_MEMORY}


async def test_many_at_once(prison: Any) -> None:
    many = AT_ONCE[prison.jail.name]
    rans = await asyncio.gather(*(prison.sh(f"echo {number}") for number in range(many)))
    assert [ran.out for ran in rans] == [f"{number}\n" for number in range(many)]
    assert {ran.outcome.ending for ran in rans} == {Ending.EXITED}


async def test_sandboxes_that_live_together_have_different_uids_and_namespaces(prison: Any) -> None:
    held = [await prison.jail.start(prison.spec("sleep", "60"), lambda *_: None) for _ in range(5)]
    try:
        for kind in ("net", "mnt", "user", "ipc", "uts"):
            assert len({sandbox.receipt.namespaces[kind] for sandbox in held}) == 5
        assert len({sandbox.receipt.uid_map for sandbox in held}) == (5 if os.geteuid() == 0 else 1)
        not_under_gvisor(prison, "whose kernels are nobody's, and may be in one pid namespace")
        assert len({sandbox.receipt.namespaces["pid"] for sandbox in held}) == 5
        if os.geteuid() == 0:
            assert len({sandbox.receipt.uid for sandbox in held}) == 5
    finally:
        await asyncio.gather(*(sandbox.close() for sandbox in held))


async def test_closing_gives_everything_back(prison: Any) -> None:
    def held() -> int:
        return sum("uids" not in os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())

    await prison.sh("true")
    before = held()
    for _ in range(6):
        sandbox = await prison.jail.start(
            prison.spec("sh", "-c", "head -c 1m /dev/zero > x; sleep 60"), lambda *_: None
        )
        await asyncio.gather(sandbox.close(), sandbox.close())
        assert not any((parent / sandbox.id).exists() for parent in prison.jail.hierarchy.directories)
        with pytest.raises(SandboxBusy):
            await sandbox.artifacts(["**"])
    assert held() <= before + WAITING[prison.jail.name]


async def test_a_cancelled_start_leaves_nothing(prison: Any) -> None:
    for delay in (0.0, 0.002, 0.005, 0.01):
        task = asyncio.create_task(prison.jail.start(prison.spec("sleep", "876"), lambda *_: None))
        await asyncio.sleep(delay)
        task.cancel()
        try:
            sandbox = await task
        except asyncio.CancelledError:
            continue
        await sandbox.close()
    assert not alive("sleep 876")
    assert prison.jail._sandboxes == {}


async def test_nothing_blocks_the_loop_for_long(prison: Any) -> None:
    """The longest the loop was away while sandboxes with work in them were started and cleared away."""
    longest = 0.0
    done = False

    async def watch() -> None:
        nonlocal longest
        while not done:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(
        *(prison.sh("head -c 20m /dev/zero > /workspace/x") for _ in range(AT_ONCE[prison.jail.name] // 4))
    )
    done = True
    await watcher
    assert longest < 1.0


async def test_what_its_host_listens_on_is_its_only_network(prison: Any) -> None:
    """The program reaches the host's listeners at any address of 127/8."""
    not_under_gvisor(prison, NO_NETWORK)
    held: list[Listeners] = []

    async def attach(listeners: Listeners) -> None:
        held.append(listeners)

    script = (
        "import socket; print(open('/etc/resolv.conf').read().split()[1])\n"
        "for port in (80, 8443):\n"
        "    with socket.create_connection(('127.9.9.9', port), 20) as link: print(link.recv(9).decode())\n"
        "print([name for _, name in socket.if_nameindex()])\n"
    )
    heard = bytearray()
    spec = prison.spec("/usr/bin/python3", "-I", "-S", "-c", script, network=Network(tcp_ports=frozenset({8443})))
    async with await prison.jail.start(spec, lambda _, text: heard.extend(text), attach=attach) as sandbox:
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(30):
                for port in (80, 8443):
                    link, _ = await loop.sock_accept(held[0].tcp[port])
                    with link:
                        await loop.sock_sendall(link, b"from host")
                assert (await sandbox.wait()).exit_code == 0, heard
            assert sandbox.receipt.network == "gateway"
        finally:
            held[0].close()
    assert heard.decode().splitlines() == ["127.0.0.1", "from host", "from host", "['lo']"]


async def test_what_attach_raises_is_raised_and_no_program_has_run(prison: Any) -> None:
    not_under_gvisor(prison, NO_NETWORK)

    async def attach(_: Listeners) -> None:
        raise LookupError("mine")

    spec = prison.spec("sleep", "765", network=Network())
    with pytest.raises(LookupError, match="mine"):
        await prison.jail.start(spec, lambda *_: None, attach=attach)
    assert not alive("sleep 765")


async def test_a_closed_backend_starts_nothing(prison: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    async with opened_prison(request.node.callspec.params["prison"], tmp_path, request) as other:
        sandbox = await other.jail.start(prison.spec("sleep", "60"), lambda *_: None)
        await other.jail.close()
        await other.jail.close()
        assert (await sandbox.wait()).ending is Ending.KILLED
        with pytest.raises(JailUnavailable):
            await other.jail.start(prison.spec("true"), lambda *_: None)


async def test_an_authority_is_trusted_beside_those_of_the_image_and_stays(prison: Any) -> None:
    script = f"""
    cat {CERTIFICATES} > /tmp/all; tail -n 1 /tmp/all; find {CERTIFICATES} -printf "%m\\n"
    for own in /etc/ssl/certs/ca-certificates.crt /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem; do
        if [ -f $own ]; then cmp -n $(wc -c < $own) $own /tmp/all; break; fi
    done
    rm -f {CERTIFICATES} || : > /run/tenantry/more
    """
    ran = await prison.sh(script, authority=b"ours\n")
    assert ran.out == "ours\n444\n"
    assert ran.err.count("Read-only file system") == 2
