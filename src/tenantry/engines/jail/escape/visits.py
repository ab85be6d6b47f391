"""Programs put into a living sandbox: tried from inside, and looked at from the host."""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tenantry.engines.jail import kernel
from tenantry.engines.jail.backend import Running
from tenantry.engines.jail.escape.cases import Case, Verdict
from tenantry.engines.jail.exec_types import ExecOutcome, ExecSpec, TerminalSize
from tenantry.engines.jail.receipt import IsolationLevel
from tenantry.engines.jail.types import Ending, Stream

_ORDINARY: Final = ("pipe:", "/dev/pts/", "/dev/ptmx")
_SIZE: Final = TerminalSize(rows=21, columns=87)
_DESCRIPTORS: Final = range(3, 24)
_PATIENCE: Final = 100
_STREAMS: Final = 3
CASES: Final = (
    Case("exec", "directory_of_a_descriptor", "refused: none of the host is held"),
    Case("exec", "descriptors", "three pipes, as the host sees it"),
    Case("exec", "inheritance", "no signal ignored or blocked, as the host sees it"),
    Case("exec", "cgroup", "its sandbox's, in every hierarchy", needs=frozenset({"cgroup"})),
    Case("exec", "bounds", "those of process 1"),
    Case("exec", "terminal", "one of its own, as large as asked, that controls it"),
    Case("exec", "end_of_its_group", "whatever it has started in it goes with it"),
    Case("exec", "end_of_the_sandbox", "it goes too, and whatever it has started"),
)


async def said_by(sandbox: Running, wanted: ExecSpec) -> tuple[ExecOutcome, str, str]:
    """Run a program there, without input, to its end."""
    execution = await sandbox.exec(wanted)
    said = {stream: bytearray() for stream in Stream}
    try:
        if wanted.terminal is None:
            execution.close_stdin()
        while (piece := await execution.read()) is not None:
            said[piece[0]].extend(piece[1])
        out, errors = (said[stream].decode(errors="replace") for stream in Stream)
        return await execution.wait(), out, errors
    finally:
        await execution.close()


async def try_inside(sandbox: Running, command: Sequence[str], codes: Sequence[str]) -> dict[str, Verdict]:
    """Have the attempt program tried there (program.py); what it does not come to has not held."""
    outcome, out, errors = await said_by(sandbox, ExecSpec(command=tuple(command)))
    found: dict[str, Verdict] = {}
    for line in out.splitlines():
        with suppress(ValueError):
            told: dict[str, Any] = json.loads(line)
            found[told["code"]] = (told["ok"], told["detail"])
    if outcome.ending is Ending.EXITED and outcome.exit_code == 0:
        return found
    told_end = f"the program ended before it: {outcome.ending} {outcome.exit_code} {outcome.detail} {errors[-300:]}"
    return dict.fromkeys(codes, (False, told_end)) | found


async def look(sandbox: Running) -> dict[str, Verdict]:
    """Judge the cases of this module; the last of them ends the sandbox."""
    if sandbox.receipt is not None and sandbox.receipt.isolation is IsolationLevel.GVISOR:
        return await _look_from_inside(sandbox)
    found = await _seen_from_the_host(sandbox)
    found["exec.directory_of_a_descriptor"] = await _directories(sandbox)
    found["exec.terminal"] = await _terminal(sandbox)
    found["exec.end_of_its_group"] = await _group(sandbox)
    found["exec.end_of_the_sandbox"] = await _end(sandbox)
    return found


async def _look_from_inside(sandbox: Running) -> dict[str, Verdict]:
    """Judge those of whose processes the host sees nothing: other programs inside are asked."""
    found = {"exec.directory_of_a_descriptor": await _directories(sandbox)}
    await said_by(sandbox, ExecSpec(command=("sh", "-c", "sleep 61 & sleep 61 & exit 0")))
    _, out, _ = await said_by(sandbox, ExecSpec(command=("sh", "-c", "cat /proc/[0-9]*/cmdline")))
    found["exec.end_of_its_group"] = ("sleep" not in out, out.replace("\0", " "))
    execution = await sandbox.exec(ExecSpec(command=("sh", "-c", "trap '' HUP TERM; setsid sleep 62 & sleep 62")))
    sandbox.kill()
    await sandbox.wait()
    outcome = await execution.wait()
    await execution.close()
    found["exec.end_of_the_sandbox"] = (outcome.ending is Ending.KILLED, f"{outcome.ending}")
    return found


async def _seen_from_the_host(sandbox: Running) -> dict[str, Verdict]:
    execution = await sandbox.exec(ExecSpec(command=("sleep", "60")))
    try:
        return await asyncio.to_thread(_seen, sandbox, execution.pid)
    except (OSError, LookupError):
        return {}  # it never ran: none of this was tried
    finally:
        await execution.close()


def _seen(sandbox: Running, pid: int) -> dict[str, Verdict]:
    receipt, status = sandbox.receipt, kernel.read_status(pid)
    if receipt is None:
        return {}
    blocked, ignored = status["SigBlk"], status["SigIgn"]
    groups, bounds = kernel.read_cgroups(pid), kernel.read_limits(pid)
    held = _held_by(pid)
    strange = [name for name in held if not name.startswith(_ORDINARY)]
    joined = [line for line in receipt.cgroup_paths if line not in groups]
    return {
        "exec.descriptors": (len(held) == _STREAMS and not strange, " ".join(held)),
        "exec.inheritance": (not int(blocked, 16) and not int(ignored, 16), f"{blocked} {ignored}"),
        "exec.cgroup": (bool(receipt.cgroup_paths) and not joined, " ".join(joined)),
        "exec.bounds": (bounds == dict(receipt.rlimits), str(bounds)),
    }


def _held_by(pid: int) -> list[str]:
    """Tell what it holds once it has loaded its libraries."""
    held: list[str] = []
    for _ in range(_PATIENCE):
        with suppress(FileNotFoundError):
            held = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        if len(held) == _STREAMS:
            break
        time.sleep(0.01)
    return held


async def _directories(sandbox: Running) -> Verdict:
    """Start at each number a descriptor of the host's could have: see CVE-2024-21626."""
    led = []
    for number in _DESCRIPTORS:
        outcome, out, _ = await said_by(sandbox, ExecSpec(command=("pwd",), workdir=f"/proc/self/fd/{number}"))
        if outcome.ending is not Ending.NOT_STARTED:
            led.append(f"{number} {out.strip()}")
    return not led, " ".join(led)


async def _terminal(sandbox: Running) -> Verdict:
    script = "tty; stty size < /dev/tty"
    _, out, _ = await said_by(sandbox, ExecSpec(command=("sh", "-c", script), terminal=_SIZE, timeout_seconds=10))
    return out.split() == ["/dev/pts/0", "21", "87"], " ".join(out.split())


async def _group(sandbox: Running) -> Verdict:
    before = set(await asyncio.to_thread(_inside, sandbox))
    await said_by(sandbox, ExecSpec(command=("sh", "-c", "sleep 61 & sleep 61 & exit 0")))
    return await _gone(sandbox, beside=before)


async def _end(sandbox: Running) -> Verdict:
    execution = await sandbox.exec(ExecSpec(command=("sh", "-c", "trap '' HUP TERM; setsid sleep 62 & sleep 62")))
    sandbox.kill()
    await sandbox.wait()
    outcome = await execution.wait()
    of_the_engine = {1} if sandbox.receipt and sandbox.receipt.backend == "docker" else set()
    gone, detail = await _gone(sandbox, beside=of_the_engine)
    return gone and outcome.ending is Ending.KILLED, f"{outcome.ending} {detail}"


async def _gone(sandbox: Running, *, beside: set[int]) -> Verdict:
    """Wait until none is left in its process namespace but those numbers: what is killed has yet to be reaped."""
    left: list[str] = []
    for _ in range(_PATIENCE):
        found = await asyncio.to_thread(_inside, sandbox)
        left = [name for number, name in found.items() if number not in beside]
        if not left:
            break
        await asyncio.sleep(0.02)
    return not left, " ".join(left)


def _inside(sandbox: Running) -> dict[int, str]:
    """Name the processes of its process namespace by their numbers there."""
    receipt, found = sandbox.receipt, dict[int, str]()
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 - numbers alone
        with suppress(OSError, LookupError):
            if receipt and kernel.read_namespaces(int(name))["pid"] == receipt.namespaces["pid"]:
                status = kernel.read_status(int(name))
                found[int(status["NSpid"].split()[-1])] = status["Name"]
    return found
