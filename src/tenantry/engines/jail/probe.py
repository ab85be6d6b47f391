"""Whether this machine can hold a sandbox: every fault at once, each with its code and what mends it."""

import asyncio
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.engines.jail.backend import Backend, try_one
from tenantry.engines.jail.bubblewrap import find_bubblewrap
from tenantry.engines.jail.cgroups import CgroupVersion, find_hierarchy
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.selftest import with_python
from tenantry.engines.jail.syscalls import MACHINES
from tenantry.engines.jail.types import Limits, Spec, Stream
from tenantry.foundation.errors import TenantryError

_SYSCTL: Final = Path("/proc/sys")
_FEW_WATCHES: Final = 128
_LOOK: Final = """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
print(",".join(n for _, n in socket.if_nameindex()), int(libc.unshare(0x10000000) == -1))
"""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`code` is stable. `required` faults mean no sandbox at all; the others a weaker one, as its receipt will say."""

    code: str
    ok: bool
    detail: str = ""
    remedy: str = ""
    required: bool = True

    @property
    def fault(self) -> bool:
        """Say whether sandboxes cannot be had, not merely weaker ones."""
        return self.required and not self.ok


async def probe(home: Path, *, bubblewrap: Path | None = None, sysctl: Path = _SYSCTL) -> list[ProbeResult]:
    """Look at the machine, then run the real chain below `home` and read back what it made. Raises nothing."""
    results = [_platform(), _machine(), await asyncio.to_thread(_bubblewrap, bubblewrap)]
    results += _user_namespaces(sysctl)
    results.append(look_at_watches(sysctl))
    results.append(await asyncio.to_thread(_cgroups))
    return results + await _chain(home, bubblewrap)


def _platform() -> ProbeResult:
    return ProbeResult(
        "linux",
        sys.platform == "linux",
        platform.release(),
        "the jail needs Linux 5.10 or newer: use a container backend",
    )


def _machine() -> ProbeResult:
    name = platform.machine()
    return ProbeResult(
        "architecture", name in MACHINES, name, f"there are system call tables for {', '.join(MACHINES)} only"
    )


def _bubblewrap(path: Path | None) -> ProbeResult:
    try:
        found = find_bubblewrap(path)
    except JailUnavailable as error:
        return ProbeResult(error.code, ok=False, detail=error.message, remedy=str(error.fields["remedy"]))
    return ProbeResult("bubblewrap", ok=True, detail=f"{found.path} {found.version_text}")


def _user_namespaces(sysctl: Path) -> list[ProbeResult]:
    """Look at each switch that distributions use to forbid what an ordinary uid needs to build a sandbox."""
    switches = (
        (
            "user_namespaces_off",
            "kernel/unprivileged_userns_clone",
            "1",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "user_namespaces_apparmor",
            "kernel/apparmor_restrict_unprivileged_userns",
            "0",
            "give bwrap an AppArmor profile with `userns,`, or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    )
    results = []
    for code, name, wanted, remedy in switches:
        value = _read(sysctl / name)
        results.append(ProbeResult(code, value in {"", wanted}, f"{name}={value or 'absent'}", remedy, required=False))
    most = _read(sysctl / "user/max_user_namespaces")
    results.append(
        ProbeResult(
            "user_namespaces_limit",
            most != "0",
            f"user/max_user_namespaces={most}",
            "sysctl -w user.max_user_namespaces=15000",
        )
    )
    return results


def look_at_watches(sysctl: Path = _SYSCTL) -> ProbeResult:
    """Look at how many inotify instances the kernel gives one user: each watch of a sandbox's files is one."""
    name = "fs/inotify/max_user_instances"
    value = _read(sysctl / name)
    enough = not value.isdecimal() or int(value) >= _FEW_WATCHES
    detail = f"{name}={value or 'absent'}, a quarter of it for one tenant's watches of files"
    return ProbeResult("watches_few", enough, detail, f"sysctl -w {name.replace('/', '.')}=1024", required=False)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cgroups() -> ProbeResult:
    found = find_hierarchy()
    none = found.version is CgroupVersion.NONE
    return ProbeResult(
        "cgroup",
        ok=not none,
        detail=found.reason if none else f"{found.version} at {found.directories[0]}",
        remedy="run as a systemd service (a user's will do) with Delegate=yes, or as root; else only each process "
        "is bounded, not the sandbox as a whole",
        required=False,
    )


async def _chain(home: Path, bubblewrap: Path | None) -> list[ProbeResult]:
    try:
        async with await Jail.open(home, bubblewrap=bubblewrap, trial=False) as jail:
            return await look_inside(jail, home)
    except (TenantryError, OSError) as error:
        return [told(error, home)]


async def look_inside(backend: Backend, home: Path) -> list[ProbeResult]:
    """Run a sandbox of that backend, and judge its receipt and what a program saw; raises TenantryError, OSError."""
    image = await asyncio.to_thread(ImageStore(home / "images").host)
    receipt = await try_one(backend, image)
    shown, python, env = with_python(image)
    said = bytearray()
    spec = Spec(
        image=shown,
        command=(python, "-I", "-S", "-B", "-c", _LOOK),
        env=env,
        limits=Limits(memory_mib=128, pids=8, timeout_seconds=30),
    )
    await backend.run(spec, lambda stream, text: said.extend(text) if stream is Stream.STDOUT else None)
    return _verdicts(receipt, said.decode().split())


def told(error: TenantryError | OSError, home: Path) -> ProbeResult:
    """Tell what stood in the way of a sandbox."""
    code = error.code if isinstance(error, TenantryError) else "home_unusable"
    remedy = str(error.fields.get("remedy", "")) if isinstance(error, TenantryError) else f"make {home} writable"
    return ProbeResult(code, ok=False, detail=str(error), remedy=remedy or "mend the faults above first")


def _verdicts(receipt: Receipt, seen: list[str]) -> list[ProbeResult]:
    """Judge what the kernel answered about a real sandbox, and what a program in it saw."""
    interfaces, nested = seen if len(seen) == 2 else ("?", "?")  # noqa: PLR2004 - the two it prints
    remedy = "this machine's kernel or a security module interferes: report it with the output of the probe"
    masks = " ".join(receipt.capabilities.values())
    return [
        ProbeResult("sandbox_started", ok=True, detail=f"{receipt.backend} {receipt.backend_version}"),
        ProbeResult("sandbox_uid", receipt.uid != 0, f"{receipt.uid}", remedy),
        ProbeResult(
            "sandbox_capabilities", all(int(mask, 16) == 0 for mask in receipt.capabilities.values()), masks, remedy
        ),
        ProbeResult("sandbox_no_new_privs", receipt.no_new_privs, remedy=remedy),
        ProbeResult("sandbox_seccomp", receipt.seccomp_mode == "2", f"mode {receipt.seccomp_mode}", remedy),
        ProbeResult("sandbox_nested_namespaces_refused", nested == "1", remedy=remedy),
        ProbeResult("sandbox_loopback_only", interfaces == "lo", interfaces, remedy),
    ]
