"""The escape suite: what somebody inside would try, tried on the installation it is on.

It starts real sandboxes of the `host` image with the interpreter that runs this program, a neighbour with a secret
beside them, and listeners on the host to be reached. Every result names one thing that must not be possible, or must be
bounded.
"""

import asyncio
import errno
import json
import platform
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tenantry.engines.jail.host_image import PYTHON_PLACE
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.seccomp import NEXT_CALL
from tenantry.engines.jail.syscalls import JUDGED, MACHINES
from tenantry.engines.jail.types import Bind, Ending, ImageRoot, InputFile, Limits, Outcome, Spec, Stream

_LIMITS: Final = Limits(
    cpus=2, memory_mib=256, pids=32, timeout_seconds=60, disk_mib=16, tmp_mib=8, shm_mib=8, open_files=128
)
_PROGRAM: Final = Path(__file__).with_name("escape.py")
_CLONE_NEWUSER: Final = 0x10000000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_ADDR_NO_RANDOMIZE: Final = 0x0040000


@dataclass(frozen=True, slots=True)
class SelftestResult:
    """`code` is stable; `detail` tells what was met, for people."""

    code: str
    ok: bool
    detail: str = ""


def with_python(image: ImageRoot) -> tuple[ImageRoot, str, dict[str, str]]:
    """Show the interpreter that runs this program to a sandbox of the host image: image, program and environment."""
    prefix = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if prefix == Path("/usr"):
        return image, f"/usr/bin/{version}", {}
    place = f"/{PYTHON_PLACE}"
    shown = replace(image, binds=(*image.binds, Bind(prefix, place)))
    return shown, f"{place}/bin/{version}", {"PYTHONHOME": place, "LD_LIBRARY_PATH": f"{place}/lib"}


async def selftest(jail: Jail, image: ImageRoot) -> list[SelftestResult]:
    """Run every check, in a second or two; `image` is `ImageStore.host()`. Raises JailUnavailable if nothing starts."""
    shown, python, env = with_python(image)
    canary = f"canary-{secrets.token_hex(16)}"
    neighbour = await jail.start(
        Spec(
            image=image,
            command=("sh", "-c", 'echo "$S" | tee /workspace/secret /tmp/secret /dev/shm/secret; exec sleep 60'),
            env={"S": canary},
            limits=replace(_LIMITS, memory_mib=32),
        ),
        lambda *_: None,
    )
    with ExitStack() as stack:
        plan = _plan(stack, canary)
        try:
            results = await _inside(jail, shown, python, env, plan)
            results += await _bombs(jail, image, shown, python, env)
            results.append(await _leftovers(jail, image))
        finally:
            await neighbour.close()
    return results


def _plan(stack: ExitStack, canary: str) -> dict[str, Any]:
    """Open listeners on the host that no sandbox may reach, and list the calls to try."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    name = f"tenantry-selftest-{secrets.token_hex(8)}"
    local = stack.enter_context(socket.socket(socket.AF_UNIX))
    local.bind("\0" + name)
    local.listen()
    numbers = MACHINES[platform.machine()].numbers
    return {
        "calls": {call: [number, errno.EPERM] for call, number in numbers.items() if call not in JUDGED},
        "judged": [
            ["clone3", numbers["clone3"], [], errno.ENOSYS],
            ["a call from the future", NEXT_CALL, [], errno.ENOSYS],
            ["clone", numbers["clone"], [_CLONE_NEWUSER], errno.EPERM],
            ["ioctl", numbers["ioctl"], [0, _TIOCSTI], errno.EPERM],
            ["ioctl", numbers["ioctl"], [0, _TIOCLINUX], errno.EPERM],
            ["personality", numbers["personality"], [_ADDR_NO_RANDOMIZE], errno.EPERM],
            ["socketpair", numbers["socketpair"], [socket.AF_INET, socket.SOCK_STREAM], errno.EAFNOSUPPORT],
            ["socket", numbers["socket"], [40, socket.SOCK_STREAM], errno.EAFNOSUPPORT],
            ["socket", numbers["socket"], [17, socket.SOCK_RAW], errno.EAFNOSUPPORT],
            ["socket", numbers["socket"], [socket.AF_INET, socket.SOCK_RAW, 1], errno.EPERM],
            ["socket", numbers["socket"], [socket.AF_INET, socket.SOCK_STREAM, 262], errno.EPROTONOSUPPORT],
            ["socket", numbers["socket"], [socket.AF_NETLINK, socket.SOCK_RAW, 12], errno.EPROTONOSUPPORT],
        ],
        "port": listener.getsockname()[1],
        "socket": name,
        "canary": canary,
        "pids": _LIMITS.pids,
        "files": _LIMITS.open_files,
        "disk_mib": _LIMITS.disk_mib,
    }


async def _inside(
    jail: Jail, image: ImageRoot, python: str, env: dict[str, str], plan: dict[str, Any]
) -> list[SelftestResult]:
    inputs = (InputFile("escape.py", _PROGRAM.read_bytes()), InputFile("plan.json", json.dumps(plan).encode()))
    spec = Spec(
        image=image,
        command=(python, "-I", "-S", "-B", "/inputs/escape.py", "/inputs/plan.json"),
        env=env,
        inputs=inputs,
        limits=_LIMITS,
    )
    said = bytearray()
    errors = bytearray()
    outcome, _ = await jail.run(spec, lambda stream, text: (said if stream is Stream.STDOUT else errors).extend(text))
    results = [
        SelftestResult(line["code"], line["ok"], line["detail"]) for line in map(json.loads, said.decode().splitlines())
    ]
    ended = outcome.ending is Ending.EXITED and outcome.exit_code == 0
    detail = (
        ""
        if ended
        else f"{outcome.ending} {outcome.exit_code} {outcome.detail} {errors.decode(errors='replace')[-300:]}"
    )
    return [*results, SelftestResult("suite_completed", ended, detail)]


async def _bombs(
    jail: Jail, image: ImageRoot, shown: ImageRoot, python: str, env: dict[str, str]
) -> list[SelftestResult]:
    async def run(command: Sequence[str], limits: Limits, root: ImageRoot = image) -> Outcome:
        outcome, _ = await jail.run(Spec(image=root, command=tuple(command), limits=limits, env=env), lambda *_: None)
        return outcome

    small = replace(_LIMITS, memory_mib=48, timeout_seconds=20)
    hog = (python, "-I", "-S", "-c", "b = []\nwhile True: b.append(bytearray(1 << 20))")
    memory, output, patience, background = await asyncio.gather(
        run(hog, small, shown),
        run(("cat", "/dev/zero"), replace(small, output_bytes=1 << 16)),
        run(("sleep", "30"), replace(small, timeout_seconds=0.3)),
        run(("sh", "-c", "sleep 30 & exit 7"), small),
    )
    bounded = memory.ending is Ending.OUT_OF_MEMORY or (
        jail.isolation == "rlimit" and memory.exit_code not in {0, None}
    )
    return [
        SelftestResult("memory_bomb", bounded, f"{memory.ending} at {memory.usage.peak_memory_mib:.0f} MiB"),
        SelftestResult("output_bomb", output.ending is Ending.OUTPUT_LIMIT, f"{output.usage.output_bytes} bytes"),
        SelftestResult("endless_program", patience.ending is Ending.TIMED_OUT, f"{patience.usage.wall_seconds:.1f} s"),
        SelftestResult("background_process", background.exit_code == 7, f"{background.usage.wall_seconds:.1f} s"),  # noqa: PLR2004 - its own
    ]


async def _leftovers(jail: Jail, image: ImageRoot) -> SelftestResult:
    """See that a closed sandbox leaves no descriptor and no cgroup behind."""
    async with await jail.start(Spec(image=image, command=("true",), limits=_LIMITS), lambda *_: None) as warm:
        await warm.wait()
    before = _sandbox_descriptors()
    async with await jail.start(Spec(image=image, command=("true",), limits=_LIMITS), lambda *_: None) as sandbox:
        await sandbox.wait()
    after = _sandbox_descriptors()
    groups = [path for path in jail.hierarchy.directories if (path / sandbox.id).exists()]
    return SelftestResult(
        "leftovers", before == after and not groups, f"{after - before} descriptors, {len(groups)} groups"
    )


def _sandbox_descriptors() -> int:
    """Count what a sandbox is held by: pipes, files in memory, process handles and its directories."""
    kinds = ("pipe:", "/memfd:", "anon_inode:[pidfd]", "/workspace")
    held = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            held += str(entry.readlink()).startswith(kinds)
    return held
