"""Sandboxes that are bombs as a whole, and what is left when they are gone: tried each in one of its own."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.escape.cases import Case, Verdict
from tenantry.engines.jail.receipt import IsolationLevel
from tenantry.engines.jail.types import Ending, ImageRoot, Limits, Outcome, Spec, Stream

_LIMITS: Final = Limits(memory_mib=48, pids=32, timeout_seconds=20, disk_mib=16, tmp_mib=4, shm_mib=4)
_CGROUP: Final = frozenset({"cgroup"})
_PATIENCE_SECONDS: Final = 10.0
_MOUNTS: Final = Path("/proc/self/mountinfo")
_OF_ENGINES: Final = ("/overlay2/", "/overlay/", "/netns/", "/containers/", "/vfs-containers/", "/overlay-containers/")
_LOOKS, _FEWEST_STEADY, _LOOK_SECONDS = 100, 5, 0.05
#: Of a backend whose rooms take longer to make ready.
_STEADY: Final = {"gvisor": 30}
_HOG: Final = "b = []\nwhile True: b.append(bytearray(1 << 20))"
_HIDDEN_HOG: Final = (
    "import os\nif os.fork() == 0:\n    b = []\n    while True: b.append(bytearray(1 << 20))\nos.wait()"
)
_MEMORY_FILE: Final = "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, bytes(1 << 20)); os.lseek(f, 0, 2)"
_INODES: Final = "import os\nfor n in range(1 << 20): os.close(os.open(f'/workspace/{n}', os.O_CREAT))"
_FORKS: Final = "f() { f | f & }; f; exec sleep 30"
_ENVIRONMENT: Final = {
    "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "HOME=/workspace", "LANG=C.UTF-8",
    "TMPDIR=/tmp", "PWD=/workspace",
}  # fmt: skip
CASES: Final = (
    Case("bombs", "memory", "out of memory, at its bound"),
    Case("bombs", "memory_of_a_child", "out of memory, behind exit code 0 too", needs=_CGROUP),
    Case("bombs", "memory_file", "out of memory, or a file's bound", needs=_CGROUP),
    Case("bombs", "inodes", "out of memory, or ENOSPC", needs=_CGROUP),
    Case("bombs", "output", "ended at its bound"),
    Case("bombs", "errors", "ended at its bound: both streams count"),
    Case("bombs", "endless_program", "ended at its time"),
    Case("bombs", "deaf_program", "ended at its time whatever it ignores"),
    Case("bombs", "neighbour_of_a_fork_bomb", "starts and ends meanwhile"),
    Case("secrets", "bare_environment", "five variables and no more"),
    Case("ends", "background_process", "dies with its program"),
    Case("ends", "daemon", "dies with its program, in a session of its own too"),
    Case("ends", "descriptors", "as many as before"),
    Case("ends", "groups", "none left", needs=_CGROUP),
    Case("ends", "mounts", "as many as before"),
    Case("ends", "processes", "none left"),
)


@dataclass(slots=True)
class Excess:
    """`image` is the plain one; `shown`, `python` and `env` are how an interpreter is had inside."""

    jail: Backend
    image: ImageRoot
    shown: ImageRoot
    python: str
    env: dict[str, str]

    async def run(self, command: Sequence[str], **limits: float) -> Outcome:
        spec = Spec(image=self.image, command=tuple(command), limits=replace(_LIMITS, **limits))  # type: ignore[arg-type]
        return (await self.jail.run(spec, lambda *_: None))[0]

    async def python_run(self, script: str, **limits: float) -> Outcome:
        bounds = replace(_LIMITS, **limits)  # type: ignore[arg-type]
        spec = Spec(image=self.shown, command=(self.python, "-I", "-S", "-c", script), env=self.env, limits=bounds)
        return (await self.jail.run(spec, lambda *_: None))[0]

    async def try_all(self, groups: set[str], *, have: frozenset[str]) -> list[tuple[str, Verdict]]:
        """Try what can be tried here, at the same time; what is left is counted when all are gone."""
        tries = [self._environment()] if "secrets" in groups else []
        if "bombs" in groups:
            tries += [self._streams(), self._memory(), self._neighbour()]
        if "bombs" in groups and "cgroup" in have:
            tries.append(self._hidden_memory())
        if groups & {"bombs", "ends"}:
            tries.append(self._time())
        results = [result for group in await asyncio.gather(*tries) for result in group]
        return results + (await self._leftovers() if "ends" in groups else [])

    async def _streams(self) -> list[tuple[str, Verdict]]:
        results = []
        for name, command in (("output", "exec cat /dev/zero"), ("errors", "exec cat /dev/zero >&2")):
            ended = await self.run(("sh", "-c", command), output_bytes=1 << 16)
            held = ended.ending is Ending.OUTPUT_LIMIT and ended.usage.output_bytes == 1 << 16
            results.append((f"bombs.{name}", (held, f"{ended.ending} at {ended.usage.output_bytes} bytes")))
        return results

    async def _time(self) -> list[tuple[str, Verdict]]:
        deaf = "trap '' TERM INT HUP; setsid sleep 30 & while :; do sleep 30; done"
        endless, stubborn, background, daemon = await asyncio.gather(
            self.run(("sleep", "30"), timeout_seconds=0.3),
            self.run(("sh", "-c", deaf), timeout_seconds=0.3),
            self.run(("sh", "-c", "sleep 30 & exit 7")),
            self.run(("sh", "-c", "(setsid sleep 30 </dev/null >/dev/null 2>&1 &); exit 8")),
        )
        wall = [f"{one.ending} after {one.usage.wall_seconds:.1f} s" for one in (endless, stubborn, background, daemon)]
        return [
            ("bombs.endless_program", (endless.ending is Ending.TIMED_OUT, wall[0])),
            ("bombs.deaf_program", (stubborn.ending is Ending.TIMED_OUT, wall[1])),
            ("ends.background_process", (background.exit_code == 7, wall[2])),  # noqa: PLR2004 - its own
            ("ends.daemon", (daemon.exit_code == 8, wall[3])),  # noqa: PLR2004 - its own
        ]

    async def _memory(self) -> list[tuple[str, Verdict]]:
        ended = await self.python_run(_HOG)
        # Without a cgroup the allocation is refused, and the interpreter ends by an error of its own.
        alone = self.jail.isolation is IsolationLevel.RLIMIT and ended.exit_code not in {0, None}
        held = ended.ending is Ending.OUT_OF_MEMORY or alone
        return [("bombs.memory", (held, f"{ended.ending} at {ended.usage.peak_memory_mib:.0f} MiB"))]

    async def _hidden_memory(self) -> list[tuple[str, Verdict]]:
        child, file, inodes = await asyncio.gather(
            self.python_run(_HIDDEN_HOG),
            self.python_run(_MEMORY_FILE, disk_mib=192),
            self.python_run(_INODES, memory_mib=24, cpus=2),
        )
        told = [f"{one.ending} {one.exit_code} at {one.usage.peak_memory_mib:.0f} MiB" for one in (child, file, inodes)]
        over = Ending.OUT_OF_MEMORY
        return [
            ("bombs.memory_of_a_child", (child.ending is over, told[0])),
            ("bombs.memory_file", (file.ending is over, told[1])),
            ("bombs.inodes", (inodes.ending is over or inodes.exit_code == 1, told[2])),
        ]

    async def _environment(self) -> list[tuple[str, Verdict]]:
        said = bytearray()
        spec = Spec(image=self.image, command=("cat", "/proc/self/environ"), limits=_LIMITS)
        await self.jail.run(spec, lambda stream, text: said.extend(text) if stream is Stream.STDOUT else None)
        found = {entry for entry in said.decode(errors="replace").split("\0") if entry}
        wanted = _ENVIRONMENT | {f"{name}={value}" for name, value in self.image.env.items()}
        return [("secrets.bare_environment", (found == wanted, " ".join(sorted(found ^ wanted))))]

    async def _neighbour(self) -> list[tuple[str, Verdict]]:
        limits = replace(_LIMITS, cpus=0.5, timeout_seconds=20)
        bomb = Spec(image=self.image, command=("sh", "-c", _FORKS), limits=limits)
        async with await self.jail.start(bomb, lambda *_: None):
            began = time.monotonic()
            beside = await self.run(("true",))
            took = time.monotonic() - began
        held = beside.exit_code == 0 and took < _PATIENCE_SECONDS
        return [("bombs.neighbour_of_a_fork_bomb", (held, f"{beside.ending} after {took:.2f} s"))]

    async def _leftovers(self) -> list[tuple[str, Verdict]]:
        """Run two more, since the first leave what later ones share and what waits for them; count before and after."""
        for _ in range(2):
            await self.run(("true",))
        steady = _STEADY.get(self.jail.name, _FEWEST_STEADY)
        before = await _at_rest(steady)
        spec = Spec(image=self.image, command=("sh", "-c", "sleep 30 & sleep 30"), limits=_LIMITS)
        with ExitStack() as held:
            async with await self.jail.start(spec, lambda *_: None) as sandbox:
                receipt = sandbox.receipt
                if receipt:
                    _hold(receipt.namespaces["pid"], held)
            after = await _at_rest(steady, before)
            left = _inside(receipt.namespaces["pid"]) if receipt else ["?"]
        groups = [path for path in self.jail.hierarchy.directories if (path / sandbox.id).exists()]
        return [
            ("ends.descriptors", (after[0] == before[0], f"{before[0]} before, {after[0]} after")),
            ("ends.mounts", (after[1] == before[1], f"{before[1]} before, {after[1]} after")),
            ("ends.groups", (not groups, f"{len(groups)}")),
            ("ends.processes", (not left, " ".join(left))),
        ]


async def _at_rest(steady: int, bound: tuple[int, int] | None = None) -> tuple[int, int]:
    """Count once the backend has made ready what waits, and no more is left than `bound`, or after some seconds.

    It has when `steady` looks after each other find the same.
    """
    known: list[tuple[int, int]] = []
    for _ in range(_LOOKS):
        known.append((_descriptors(), mounts_counted(_MOUNTS.read_text())))
        last = known[-steady:]
        if len(last) == steady and len(set(last)) == 1 and (bound is None or last[0] == bound):
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return known[-1]


def _descriptors() -> int:
    """Count what a sandbox is held by: pipes, files in memory, process handles and its directories."""
    kinds = ("pipe:", "/memfd:", "anon_inode:[pidfd]", "/workspace")
    held = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            held += str(entry.readlink()).startswith(kinds)
    return held


def mounts_counted(mountinfo: str) -> int:
    """Count mounts (proc_pid_mountinfo(5)), but for those of container engines, which come and go with any container.

    An engine also mounts its own folder upon itself, to set how mounts below it spread; no sandbox does.
    """
    lines = [line.split() for line in mountinfo.splitlines()]
    by_id = {fields[0]: fields for fields in lines}
    return sum(
        not _upon_itself(fields, by_id.get(fields[1])) and not any(part in fields[4] for part in _OF_ENGINES)
        for fields in lines
    )


def _upon_itself(fields: list[str], below: list[str] | None) -> bool:
    """Tell whether a mount shows what was at its place before."""
    if below is None or below[2] != fields[2]:
        return False
    place, root = PurePosixPath(fields[4]), PurePosixPath(fields[3])
    return place.is_relative_to(below[4]) and PurePosixPath(below[3]) / place.relative_to(below[4]) == root


def _hold(namespace: int, held: ExitStack) -> None:
    """Keep the number of a namespace from the next one, which another program's sandbox may have made meanwhile."""
    with suppress(OSError, IndexError):
        held.callback(os.close, os.open(f"/proc/{_inside(namespace)[0]}/ns/pid", os.O_RDONLY | os.O_CLOEXEC))


def _inside(namespace: int) -> list[str]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - numbers alone
        if name.isdecimal():
            with suppress(OSError):
                if Path(f"/proc/{name}/ns/pid").stat().st_ino == namespace:
                    found.append(name)
    return found
