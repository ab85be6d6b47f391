"""The escape suite: what somebody inside would try, tried on the installation it is on.

It starts real sandboxes of the `host` image with the interpreter that runs this program, a neighbour with a secret
beside them, and listeners on the host to be reached. Every case names one thing that must not be possible, or must be
bounded; `escape/` holds them. A case that was not tried has not held.
"""

import asyncio
import ctypes
import json
import math
import os
import platform
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tenantry.engines.jail import keeper, kernel, overheads
from tenantry.engines.jail.backend import Backend, Running
from tenantry.engines.jail.cgroups import OVERHEAD_NPROC, OVERHEAD_PIDS, Cgroup
from tenantry.engines.jail.escape import chain, sentry, surface, visits
from tenantry.engines.jail.escape.archives import try_archives
from tenantry.engines.jail.escape.cases import Case, Verdict
from tenantry.engines.jail.escape.catalogue import CASES, SENTRY, missing
from tenantry.engines.jail.escape.excesses import Excess
from tenantry.engines.jail.escape.leavings import try_files
from tenantry.engines.jail.host_image import PYTHON_PLACE
from tenantry.engines.jail.interpreter import answer
from tenantry.engines.jail.receipt import IsolationLevel
from tenantry.engines.jail.seccomp import build_filter
from tenantry.engines.jail.syscalls import MACHINES
from tenantry.engines.jail.types import MIB, Bind, Ending, ImageRoot, InputFile, Limits, Spec, Stream

_LIMITS: Final = Limits(
    cpus=2, memory_mib=256, pids=32, timeout_seconds=60, disk_mib=16, tmp_mib=8, shm_mib=8, open_files=128
)
_ROOM: Final = Path(__file__).parent
_PACKAGE: Final = "tenantry/engines/jail"
#: What the program inside is made of, below /inputs.
_MODULES: Final = (
    "syscalls.py",
    *(f"escape/{name}.py" for name in (
        "__init__", "cases", "identity", "rooms", "surroundings", "surface", "network", "floods", "guests",
        "program")),
)  # fmt: skip
_START: Final = "import sys; sys.path.insert(0, '/inputs'); from tenantry.engines.jail.escape.program import main; main"
#: What puts a sandbox together, by the name of the backend: some cases are of one of them.
BUILDERS: Final = {"jail": "bubblewrap", "docker": "engine", "gvisor": SENTRY}
#: What engines cover in /proc, or make read-only there.
_MASKS: Final = tuple(f"/proc/{name}" for name in (
    "acpi", "asound", "bus", "fs", "interrupts", "irq", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "sys",
    "sysrq-trigger", "timer_list", "timer_stats"))  # fmt: skip
_EXEC: Final = "exec"
_RUN_BYTES, _MOST_INPUT_BYTES = 8 * MIB, 32 * MIB
_IPC_CREAT, _IPC_RMID = 0o1000, 0


@dataclass(frozen=True, slots=True)
class SelftestResult:
    """`code` is stable: group and case. `detail` tells what was met; `skipped` what a case needs that is not here."""

    code: str
    ok: bool
    detail: str = ""
    group: str = ""
    case: str = ""
    expected: str = ""
    skipped: str = ""


def with_python(image: ImageRoot) -> tuple[ImageRoot, str, dict[str, str]]:
    """Show the interpreter that runs this program to a sandbox of the host image: image, program and environment."""
    prefix = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if prefix == Path("/usr"):
        return image, f"/usr/bin/{version}", {}
    place = f"/{PYTHON_PLACE}"
    shown = replace(image, binds=(*image.binds, Bind(prefix, place)))
    return shown, f"{place}/bin/{version}", {"PYTHONHOME": place, "LD_LIBRARY_PATH": f"{place}/lib"}


async def selftest(jail: Backend, image: ImageRoot, *, cases: tuple[Case, ...] = CASES) -> list[SelftestResult]:
    """Try every case, in a few seconds; `image` is `ImageStore.host()`. Raises JailUnavailable if nothing starts.

    `jail` is any backend: what a case needs of one and the other does not have is among its `needs`.

    Groups of which `cases` has none are not tried at all.
    """
    have = facts_of(jail)
    groups = {case.group for case in cases}
    found = dict(await _around_a_neighbour(jail, image, cases))
    shown, python, env = with_python(image)
    found |= dict(await Excess(jail, image, shown, python, env).try_all(groups, have=have))
    if "files" in groups:
        found |= dict(await try_files(jail, image))
    if "archives" in groups:
        found |= dict(await asyncio.to_thread(try_archives))
    for code, (held, detail) in _interpreted():
        ok, met = found.get(code, (True, ""))
        found[code] = (ok and held, met if held else f"{met} the filter says {detail}".strip())
    return [_result(case, found, have) for case in cases]


def facts_of(jail: Backend) -> frozenset[str]:
    """Tell what cases may need and is here."""
    level = "rlimits" if jail.isolation is IsolationLevel.RLIMIT else "cgroup"
    return frozenset({"root" if os.geteuid() == 0 else "user", level, platform.machine(), BUILDERS[jail.name]})


def _result(case: Case, found: dict[str, Verdict], have: frozenset[str]) -> SelftestResult:
    absent = missing(case, have)
    ok, detail = (True, "") if absent else found.get(case.code, (False, "it was not tried"))
    return SelftestResult(case.code, ok, detail, case.group, case.name, case.expected, absent)


async def _around_a_neighbour(jail: Backend, image: ImageRoot, cases: tuple[Case, ...]) -> list[tuple[str, Verdict]]:
    canary = f"canary-{secrets.token_hex(16)}"
    limits = replace(_LIMITS, memory_mib=32, cpus=1)
    command = ("sh", "-c", 'echo "$S" | tee /workspace/secret /tmp/secret /dev/shm/secret; exec sleep 60')
    spec = Spec(image=image, command=command, env={"S": canary}, limits=limits)
    async with await jail.start(spec, lambda *_: None) as neighbour:
        outside = _outside_of_sentry if jail.name == "gvisor" else _outside
        results = await asyncio.to_thread(outside, jail, neighbour, canary, limits)
        with _plan(image, canary, builder=BUILDERS[jail.name]) as plan:
            later = [case for case in cases if case.group == _EXEC and not missing(case, facts_of(jail))]
            results += await _inside(jail, image, plan, [case for case in cases if case.group != _EXEC])
            return results + (await _later(jail, image, plan, later) if later else [])


def _outside(jail: Backend, neighbour: Running, canary: str, limits: Limits) -> list[tuple[str, Verdict]]:
    receipt = neighbour.receipt
    if receipt is None:
        return []
    try:
        init = chain.find_init(receipt) if jail.name == "jail" else chain.find_program(receipt)
        launcher, monitor = chain.find_chain(init)
    except (LookupError, OSError):
        return []
    return list(chain.look(chain.View(launcher, monitor, init, receipt, limits, jail.hierarchy, canary)))


def _outside_of_sentry(jail: Backend, neighbour: Running, canary: str, limits: Limits) -> list[tuple[str, Verdict]]:
    """Look at a sandbox whose group has its kernel in it, and is as much larger."""
    if neighbour.receipt is None:
        return []
    group = Cgroup(jail.hierarchy, neighbour.id)
    try:
        view = sentry.find_sentry(neighbour.receipt, group.members(), canary=canary)
    except (LookupError, OSError):
        return []
    asked = replace(limits, memory_mib=overheads.memory_mib(limits), pids=overheads.tasks(limits) - OVERHEAD_PIDS)
    around = chain.View(view.gofer, view.sentry, view.sentry, neighbour.receipt, asked, jail.hierarchy, canary)
    return [*chain.look(around), *sentry.look(view)]


@contextmanager
def _plan(image: ImageRoot, canary: str, *, builder: str) -> Iterator[dict[str, Any]]:
    """Open on the host what no sandbox may reach, and tell what a case inside has to know."""
    shown, _, env = with_python(image)
    name = f"tenantry-selftest-{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local, _segment() as key:
        local.bind("\0" + name)
        local.listen()
        yield {
            "port": listener.getsockname()[1],
            "socket": name,
            "shared_memory_key": key,
            "canary": canary,
            "pids": _LIMITS.pids,
            "files": _LIMITS.open_files,
            "rlimits": _rlimits(),
            "sizes": {
                "/workspace": _LIMITS.disk_mib * MIB,
                "/tmp": _LIMITS.tmp_mib * MIB,  # noqa: S108 - the sandbox's
                "/dev/shm": _LIMITS.shm_mib * MIB,  # noqa: S108 - the same
                "/run": _RUN_BYTES,
                "/inputs": _MOST_INPUT_BYTES,
            },
            "builder": builder,
            "parent": 1 if builder == "bubblewrap" else 0,
            "masks": () if builder == "bubblewrap" else _MASKS,
            "binds": [bind.target if bind.target.startswith("/") else f"/{bind.target}" for bind in shown.binds],
            "host_namespaces": kernel.read_namespaces(os.getpid()),
            "host_pid": max(int(pid) for pid in os.listdir("/proc") if pid.isdecimal()),  # noqa: PTH208 - numbers
            "environment": {
                "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
                "HOME": "/workspace",
                "LANG": "C.UTF-8",
                "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's
                **image.env,
                **env,
            },
        }


@contextmanager
def _segment() -> Iterator[int]:
    """Make a System V segment on the host under a key that is told to the program inside."""
    libc, key = ctypes.CDLL(None, use_errno=True), 1 + secrets.randbelow(1 << 30)
    segment = libc.shmget(key, 4096, _IPC_CREAT | 0o666)
    try:
        yield key
    finally:
        libc.shmctl(segment, _IPC_RMID, None)


def _rlimits() -> dict[str, int]:
    return {
        "core": 0,
        "nofile": _LIMITS.open_files,
        "fsize": max(_LIMITS.disk_mib, _LIMITS.tmp_mib, _LIMITS.shm_mib) * MIB,
        "cpu": math.ceil(_LIMITS.timeout_seconds * _LIMITS.cpus) + 5,
        "memlock": 64 << 10,
        "msgqueue": 0,
        "nproc": _LIMITS.pids + OVERHEAD_NPROC,
        "as": _LIMITS.memory_mib * MIB,
    }


def _asked(jail: Backend, cases: Sequence[Case]) -> list[str]:
    """Name those that are tried inside: some of them wherever they are, to be judged on the host by what applies."""
    have = {platform.machine(), "rlimits", BUILDERS["jail"]}
    builder = BUILDERS[jail.name]
    return [
        case.code
        for case in cases
        if case.attempt and case.needs <= have and not (builder == SENTRY and missing(case, facts_of(jail)))
    ]


def _limits_of(jail: Backend) -> Limits:
    """Give more memory where each process inside is some of the host's as well."""
    return replace(_LIMITS, memory_mib=1024) if jail.name == "gvisor" else _LIMITS


def _spec(image: ImageRoot, plan: dict[str, Any], codes: list[str]) -> tuple[Spec, tuple[str, ...]]:
    """Make a sandbox that is shown the attempt program, its plan and an interpreter, and the command that runs it."""
    shown, python, env = with_python(image)
    modules = [InputFile(f"{_PACKAGE}/{name}", (_ROOM / name).read_bytes()) for name in _MODULES]
    told = InputFile("plan.json", json.dumps(plan | {"cases": codes}).encode())
    command = (python, "-I", "-S", "-B", "-c", f"{_START}('/inputs/plan.json')")
    return Spec(image=shown, keep=True, env=env, inputs=(*modules, told), limits=_LIMITS), command


async def _inside(
    jail: Backend, image: ImageRoot, plan: dict[str, Any], cases: Sequence[Case]
) -> list[tuple[str, Verdict]]:
    codes = _asked(jail, cases)
    spec, command = _spec(image, plan, codes)
    said, errors = bytearray(), bytearray()
    outcome, _ = await jail.run(
        replace(spec, keep=False, command=command, limits=_limits_of(jail)),
        lambda stream, text: (said if stream is Stream.STDOUT else errors).extend(text),
    )
    results = [(line["code"], (line["ok"], line["detail"])) for line in map(json.loads, said.decode().splitlines())]
    if outcome.ending is Ending.EXITED and outcome.exit_code == 0:
        return results
    told = f"{outcome.ending} {outcome.exit_code} {outcome.detail} {errors.decode(errors='replace')[-300:]}"
    tried = {code for code, _ in results}
    return results + [(code, (False, f"the program ended before it: {told}")) for code in codes if code not in tried]


async def _later(
    jail: Backend, image: ImageRoot, plan: dict[str, Any], cases: Sequence[Case]
) -> list[tuple[str, Verdict]]:
    """Try them by a program that is put into a living sandbox."""
    codes = _asked(jail, cases)
    spec, command = _spec(image, plan | {"binds": [*plan["binds"], keeper.PLACE]}, codes)
    async with await jail.start(replace(spec, limits=_limits_of(jail)), lambda *_: None) as sandbox:
        if not sandbox.verified:
            return []
        found = await visits.try_inside(sandbox, command, codes)
        return list((found | await visits.look(sandbox)).items())


def _interpreted() -> Iterator[tuple[str, Verdict]]:
    """Ask the filter's own bytes what each rule's call is answered."""
    machine = platform.machine()
    arch, program = MACHINES[machine].audit_arch, build_filter()
    for rule in surface.RULES:
        if rule.needs <= {machine}:
            said = answer(program, arch=rule.arch if rule.arch is not None else arch, number=rule.number(machine),
                          arguments=rule.arguments)  # fmt: skip
            yield f"kernel.{rule.name}", (said == rule.answer, said)
