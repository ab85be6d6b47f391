"""From a forked bwrap to a running program: open its door only when the room is ready and has been looked at.

bwrap is held at a barrier, a full pipe it has to drain (bubblewrap.build_arguments). There the supervisor takes hold
of /workspace by descriptor, which outlives the sandbox's mount namespace and is how artifacts are read after death, and
writes /inputs and /run/secrets as the sandbox's uid. Then the program is let go while bwrap's monitor is stopped:
process 1 cannot be reaped, so its last credentials can be read even when the program lasts a millisecond.
"""

import asyncio
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from posixpath import dirname
from typing import Any, Final

from tenantry.engines.jail import kernel
from tenantry.engines.jail.certificates import write_certificates
from tenantry.engines.jail.cgroups import OVERHEAD_NPROC, CgroupVersion
from tenantry.engines.jail.errors import TreeInvalid
from tenantry.engines.jail.identity import filesystem_identity
from tenantry.engines.jail.launch import Death, LauncherClient
from tenantry.engines.jail.listening import open_listeners
from tenantry.engines.jail.output import readable, writable
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.receipt import IsolationLevel, Receipt
from tenantry.engines.jail.sandbox import Sandbox, read_lines
from tenantry.engines.jail.seccomp import filter_sha256
from tenantry.engines.jail.trees import SavedTree
from tenantry.engines.jail.types import CERTIFICATES, MIB, Attach, Ending, InputFile, Listeners
from tenantry.foundation.threads import in_own_thread

_SETUP_SECONDS: Final = 60.0
_FILTER_SECONDS: Final = 10.0
_FILTERED: Final = "2"
_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def _below_newroot(parts: Parts, place: str) -> str:
    return f"/proc/{parts.init_pid}/root/newroot{place}"


class Furnisher:
    """`folder` says by which path of the host a place of the sandbox is reached at the barrier, to be written to."""

    def __init__(
        self,
        *,
        launcher: LauncherClient,
        backend: str,
        backend_version: str,
        folder: Callable[[Parts, str], str] = _below_newroot,
    ) -> None:
        self._launcher = launcher
        self._backend = backend
        self._backend_version = backend_version
        self._folder = folder

    async def bring_up(
        self, sandbox: Sandbox, parts: Parts, death: asyncio.Future[Death], attach: Attach | None
    ) -> None:
        """Furnish the sandbox, start its program and admit it by its receipt.

        What goes wrong inside ends the sandbox `not_started`; it raises only what the supervisor itself cannot do, and
        what `attach` raises.
        """
        if not await self._at_barrier(sandbox, parts, death):
            return
        try:
            await self._enter(parts)
            sandbox.filled = await self._fill(parts)
            listeners = await self._listen(parts)
            facts = _Facts.read(parts)
        except OSError as error:
            sandbox.end(Ending.NOT_STARTED, f"it could not be furnished: {error}")
            return
        except TreeInvalid as error:
            sandbox.end(Ending.NOT_STARTED, error.message)
            return
        if listeners and attach:
            try:
                await attach(listeners)
            except BaseException:
                listeners.close()
                raise
        os.close(parts.barrier)
        parts.barrier = -1
        sandbox.start_clock()
        self._launcher.release(sandbox.id, init=parts.init_pid)
        status = await _settled_status(parts, death)
        if status is None:
            self._launcher.resume(sandbox.id)
            return
        receipt = self._receipt(parts, facts.refreshed(parts.init_pid), status)
        sandbox.admit(receipt)
        if status.get("Seccomp") != _FILTERED and status.get("State", "Z").startswith("Z"):
            self._launcher.resume(sandbox.id)  # it never reached its program: bwrap has said why
            return
        faults = receipt.faults(supervisor_uid=os.geteuid())
        if faults:
            sandbox.end(Ending.NOT_STARTED, "this is no sandbox: " + "; ".join(faults))
            return
        sandbox.verified = True
        self._launcher.resume(sandbox.id)

    async def _at_barrier(self, sandbox: Sandbox, parts: Parts, death: asyncio.Future[Death]) -> bool:
        ready = asyncio.ensure_future(writable(asyncio.get_running_loop(), parts.barrier))
        try:
            await asyncio.wait(_either(ready, death), timeout=_SETUP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reached, late = ready.done(), not ready.done() and not death.done()
            ready.cancel()
        if late:
            sandbox.end(Ending.NOT_STARTED, f"it was not ready within {_SETUP_SECONDS:g} s")
        if reached:
            try:
                os.write(parts.barrier, b"\0")
            except (BrokenPipeError, BlockingIOError):
                reached = False
        for line in read_lines(parts.status_pipe):
            parts.init_report |= line
        if reached and "child-pid" not in parts.init_report:
            sandbox.end(Ending.NOT_STARTED, f"{self._backend} did not tell which process it had started")
        return reached and "child-pid" in parts.init_report

    async def _enter(self, parts: Parts) -> None:
        pid = parts.init_report["child-pid"]
        if not isinstance(pid, int):
            raise TypeError("bwrap names its child by number")
        parts.init_pid = pid
        parts.init = kernel.open_process(pid, pid_namespace=parts.init_report.get("pid-namespace"))
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        parts.workspace = os.open(self._folder(parts, "/workspace"), flags | os.O_NOFOLLOW)
        if parts.uid is None:
            # Counted in the sandbox's own user namespace, where the supervisor's other processes are not.
            tasks = parts.spec.limits.pids + OVERHEAD_NPROC
            resource.prlimit(pid, resource.RLIMIT_NPROC, (tasks, tasks))
        loop, spec = asyncio.get_running_loop(), parts.spec
        for place, files, private in (("/inputs", spec.inputs, False), ("/run/secrets", spec.secret_files, True)):
            if files:
                folder = os.open(self._folder(parts, place), flags)
                write = partial(write_files, folder, files, parts.uid, private=private)
                await loop.run_in_executor(parts.threads, write)
        if parts.spec.authority is not None:
            places = (self._folder(parts, "/"), self._folder(parts, dirname(CERTIFICATES)))
            certify = partial(write_certificates, *places, parts.spec.authority, uid=parts.uid)
            await loop.run_in_executor(parts.threads, certify)

    async def _fill(self, parts: Parts) -> SavedTree | None:
        spec = parts.spec
        if spec.workspace is None:
            return None
        work = spec.workspace.ready(parts.workspace, uid=parts.uid, max_bytes=spec.limits.disk_mib * MIB)
        # Shielded: once both ends are held, what holds them has to come to its end. It may wait for a store.
        return await asyncio.shield(in_own_thread(work))

    async def _listen(self, parts: Parts) -> Listeners | None:
        network, inode = parts.spec.network, parts.init_report.get("net-namespace")
        if network is None:
            return None
        if not isinstance(inode, int):
            raise ProcessLookupError(3, "bwrap does not name the sandbox's network namespace")
        return await open_listeners(self._launcher, network, pid=parts.init_pid, inode=inode)

    def _receipt(self, parts: Parts, facts: "_Facts", status: dict[str, str]) -> Receipt:
        image, version = parts.spec.image, parts.cgroup.version
        return Receipt(
            backend=self._backend,
            backend_version=self._backend_version,
            isolation=IsolationLevel.RLIMIT if version is CgroupVersion.NONE else IsolationLevel.CGROUP,
            uid=int(status["Uid"].split()[0]),
            gid=int(status["Gid"].split()[0]),
            uid_map=facts.uid_map,
            namespaces=facts.namespaces,
            unshared=tuple(sorted(k for k, inode in facts.namespaces.items() if inode != _OWN_NAMESPACES.get(k))),
            capabilities={name: status[name] for name in _CAPABILITIES},
            no_new_privs=status.get("NoNewPrivs") == "1",
            seccomp_mode=status.get("Seccomp", ""),
            seccomp_filters=int(status.get("Seccomp_filters", "0")),
            seccomp_sha256=filter_sha256(),
            cgroup_version=version.value,
            cgroup_paths=facts.cgroups,
            cgroup_values=facts.cgroup_values,
            rlimits=facts.rlimits,
            image_digest=image.digest,
            image_name=image.name,
            network="none" if parts.spec.network is None else "gateway",
            interfaces=facts.interfaces,
        )


@dataclass(slots=True)
class _Facts:
    """What a zombie no longer tells, so it is read at the barrier."""

    namespaces: dict[str, int]
    uid_map: str
    rlimits: dict[str, str]
    cgroups: tuple[str, ...]
    cgroup_values: dict[str, str]
    interfaces: tuple[str, ...]

    @classmethod
    def read(cls, parts: Parts) -> "_Facts":
        pid = parts.init_pid
        members = {path.name for path in parts.cgroup.directories}
        return cls(
            namespaces=kernel.read_namespaces(pid),
            uid_map=kernel.read_uid_map(pid),
            rlimits=kernel.read_limits(pid),
            cgroups=tuple(line for line in kernel.read_cgroups(pid) if line.rpartition("/")[2] in members),
            cgroup_values=parts.cgroup.values(),
            interfaces=kernel.read_interfaces(pid),
        )

    def refreshed(self, pid: int) -> "_Facts":
        """Read the namespaces again if it lives: bwrap enters one more user namespace after the barrier."""
        try:
            self.namespaces = kernel.read_namespaces(pid)
        except OSError:
            return self
        return self


_OWN_NAMESPACES: Final = kernel.read_namespaces(os.getpid())


def _either(*futures: "asyncio.Future[Any]") -> "set[asyncio.Future[Any]]":
    return set(futures)


async def _settled_status(parts: Parts, death: asyncio.Future[Death]) -> dict[str, str] | None:
    """Wait until process 1 runs under the filter or has ended, which the stopped monitor cannot hide.

    One that lives without a filter for longer than it could take is told as it is, and its receipt has a fault.
    """
    deadline = asyncio.get_running_loop().time() + _FILTER_SECONDS
    ended = asyncio.ensure_future(readable(asyncio.get_running_loop(), parts.init))
    pause = 0.002
    try:
        while not death.done():
            try:
                status = kernel.read_status(parts.init_pid)
            except OSError:
                return None
            late = asyncio.get_running_loop().time() > deadline
            if late or status.get("Seccomp") == _FILTERED or status["State"].startswith("Z"):
                return status
            await asyncio.wait(_either(ended, death), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            pause = min(pause * 1.3, 0.02)
    finally:
        ended.cancel()
    return None


def write_files(directory: int, files: Sequence[InputFile], uid: int | None, *, private: bool) -> None:
    """Write them below an open directory, as `uid`, and close that; raises OSError."""
    try:
        with filesystem_identity(uid):
            made: set[str] = set()
            for item in files:
                parents = item.path.split("/")[:-1]
                for depth in range(1, len(parents) + 1):
                    above = "/".join(parents[:depth])
                    if above not in made:
                        made.add(above)
                        os.mkdir(above, 0o700 if private else 0o755, dir_fd=directory)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                mode = 0o400 if private else 0o555 if item.executable else 0o444
                with os.fdopen(os.open(item.path, flags, mode, dir_fd=directory), "wb") as target:
                    target.write(item.content)
    finally:
        os.close(directory)
