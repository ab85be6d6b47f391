"""What a sandbox is asked for and what came of it. Sizes in MiB or bytes, times in seconds, as the names say."""

import math
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.trees import Fill

MIB: Final = 1 << 20
_MAX_COMMAND_BYTES: Final = 128 << 10  # one argument of execve is at most 128 KiB, so is our sum
_MAX_COMMAND_PARTS: Final = 4096
_MAX_ENV: Final = 1024  # three bwrap options each, of the 9000 it takes
_MAX_ENV_BYTES: Final = 1 << 20
_MAX_PATH: Final = 1024
_MAX_NAME: Final = 255
MOST_PORT: Final = 65535
_MAX_PORTS: Final = 64
CERTIFICATES: Final = "/run/tenantry/ca.pem"
WEB_PORTS: Final = frozenset({80, 443})
#: At 127.0.0.1 inside, of a sandbox with a network: names and the proxy.
HOST_PORTS: Final = frozenset({53, 3128})


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


OnOutput = Callable[[Stream, bytes], Awaitable[None] | None]


class Ending(StrEnum):
    """How a sandbox ended.

    `exited` alone says the program came to its own end; `out_of_memory` is read from the kernel's counters, so it may
    come with any exit code, 0 too; `not_started` means no instruction of the program ran.
    """

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"
    NOT_STARTED = "not_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one sandbox, held by the kernel.

    `memory_mib` covers processes, swap, and every file the sandbox writes: its writable places are memory. `disk_mib`
    bounds /workspace with /outputs inside it, `tmp_mib` bounds /tmp, `shm_mib` /dev/shm. `output_bytes` is stdout and
    stderr together. `pids` counts tasks (threads too).
    """

    cpus: float = 1.0
    memory_mib: int = 512
    pids: int = 128
    timeout_seconds: float = 600.0
    output_bytes: int = MIB
    disk_mib: int = 256
    tmp_mib: int = 64
    shm_mib: int = 32
    open_files: int = 1024

    def __post_init__(self) -> None:
        _within("cpus", self.cpus, 0.01, 1024)
        _within("memory_mib", self.memory_mib, 16, 1 << 24)
        _within("pids", self.pids, 1, 1 << 20)
        _within("timeout_seconds", self.timeout_seconds, 0.001, 30 * 86400)
        _within("output_bytes", self.output_bytes, 0, 1 << 40)
        _within("disk_mib", self.disk_mib, 1, 1 << 24)
        _within("tmp_mib", self.tmp_mib, 1, 1 << 24)
        _within("shm_mib", self.shm_mib, 1, 1 << 24)
        _within("open_files", self.open_files, 16, 1 << 20)


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file below /inputs, read-only inside; `path` is relative, `/`-separated, without `.` or `..`."""

    path: str
    content: bytes = field(repr=False)
    executable: bool = False

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if not self.path or len(self.path) > _MAX_PATH or "\0" in self.path or self.path.startswith("/"):
            raise SpecInvalid("inputs.path", f"a relative path of 1 to {_MAX_PATH} characters without NUL")
        if any(part in {"", ".", ".."} or len(os_bytes(part)) > _MAX_NAME for part in parts):
            raise SpecInvalid("inputs.path", "no empty, `.`, `..` or over-long component")


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path shown read-only at `target`, where the image has a mount point for it."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """A read-only root file system; `digest` is `sha256:<hex>` and names its content (for `host`: its manifest)."""

    path: Path
    digest: str
    name: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    binds: tuple[Bind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A way out of the sandbox by listeners of its host: `tcp_ports` beside 80 and 443, which there always are."""

    tcp_ports: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if any(isinstance(port, bool) or not 1 <= port <= MOST_PORT for port in self.tcp_ports):
            raise SpecInvalid("network.tcp_ports", f"ports from 1 to {MOST_PORT}")
        if len(self.tcp_ports) > _MAX_PORTS:
            raise SpecInvalid("network.tcp_ports", f"at most {_MAX_PORTS}")

    @property
    def listened(self) -> frozenset[int]:
        """Every port at which any address of 127/8 answers inside."""
        return self.tcp_ports | WEB_PORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Sockets bound inside the sandbox's network namespace, non-blocking, and whoever got them is to close them.

    `dns` (datagrams) and `dns_tcp` are port 53 of 127.0.0.1, `proxy` is its port 3128; those of `tcp`, by port, listen
    at every address. Where 53 or 3128 are asked for too, `tcp` has the very socket of `dns_tcp` or `proxy`.
    """

    dns: socket.socket
    dns_tcp: socket.socket
    proxy: socket.socket
    tcp: Mapping[int, socket.socket]

    def close(self) -> None:
        for one in (self.dns, self.dns_tcp, self.proxy, *self.tcp.values()):
            one.close()


Attach = Callable[[Listeners], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One program to run. `env` values are taken for secrets: they travel by descriptor and are not in `repr`.

    `secret_files` lie below /run/secrets, read-only, for the program's user alone. `workdir` is where it starts,
    /workspace unless told; `env` lies over the image's own. Without `network` nothing answers it but itself.
    `workspace` is what lies in /workspace at its start, and takes of `disk_mib`; without `workspace_writable` it can
    neither change that nor leave anything.
    `authority` is a certificate (PEM) that lies, behind those the image trusts, in the file CERTIFICATES.
    With `keep` its program only waits, for what `Sandbox.exec` puts beside it, and `command` is empty.
    """

    image: ImageRoot
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    inputs: tuple[InputFile, ...] = field(default=(), repr=False)
    secret_files: tuple[InputFile, ...] = field(default=(), repr=False)
    limits: Limits = field(default_factory=Limits)
    workdir: str = "/workspace"
    network: Network | None = None
    workspace: Fill | None = field(default=None, repr=False)
    workspace_writable: bool = True
    authority: bytes | None = field(default=None, repr=False)
    keep: bool = False

    def __post_init__(self) -> None:
        if not self.keep:
            check_command(self.command)
        elif self.command:
            raise SpecInvalid("command", "none, when it is kept: its program only waits")
        check_env(self.env)
        if not self.workdir.startswith("/") or "\0" in self.workdir:
            raise SpecInvalid("workdir", "an absolute path without NUL")
        for name, files in (("inputs", self.inputs), ("secret_files", self.secret_files)):
            if len({item.path for item in files}) != len(files):
                raise SpecInvalid(name, "no two have one path")
        if sum(len(item.content) for item in (*self.inputs, *self.secret_files)) > self.limits.memory_mib * MIB:
            raise SpecInvalid("inputs", "together no larger than memory_mib, which they count to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What it took: CPU of every process together, the highest memory, wall time from launch to death, and its limits.

    With a cgroup all but the bytes are the kernel's own sums, whoever died of what. `read_bytes` and `written_bytes`
    are what read(2), write(2) and their like moved to and from files, pipes and terminals, a few KiB of bwrap's among
    them; None when the kernel does not tell. They are never too high: not in them are mapped memory, send(2), recv(2),
    what a process read whose parent ignores SIGCHLD, and what processes still alive when the sandbox ended have read
    since the jail last looked, which it does before it kills.

    `oom_kills` are processes killed at `memory_mib`, `memory_limit_hits` how often at least it was run into (caches
    that were dropped in time too), `pids_refused` forks refused at `pids`, `throttled_seconds` how long tasks waited
    for the next period of `cpus`, summed over processors. Without a cgroup these are 0, and the CPU of what was killed
    is missing.
    """

    cpu_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    wall_seconds: float = 0.0
    output_bytes: int = 0
    read_bytes: int | None = None
    written_bytes: int | None = None
    oom_kills: int = 0
    memory_limit_hits: int = 0
    pids_refused: int = 0
    throttled_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`exit_code` is the program's own (128 + n when signal n ended it); None when the jail ended it.

    For a program that was not found it is 127 and for one that may not be executed 126, as a shell would say, with
    ending `not_started`.
    """

    ending: Ending
    exit_code: int | None
    usage: Usage
    detail: str = ""


def check_command(command: tuple[str, ...]) -> None:
    """Raise SpecInvalid for one that execve would not take."""
    if not command or not command[0]:
        raise SpecInvalid("command", "at least a program")
    if any("\0" in part for part in command):
        raise SpecInvalid("command", "no NUL")
    if len(command) > _MAX_COMMAND_PARTS or sum(len(os_bytes(p)) for p in command) > _MAX_COMMAND_BYTES:
        raise SpecInvalid("command", f"at most {_MAX_COMMAND_PARTS} parts and {_MAX_COMMAND_BYTES} bytes")


def check_env(env: Mapping[str, str]) -> None:
    """Raise SpecInvalid for names or values that no environment holds."""
    if len(env) > _MAX_ENV or sum(len(os_bytes(v)) for v in env.values()) > _MAX_ENV_BYTES:
        raise SpecInvalid("env", f"at most {_MAX_ENV} variables and {_MAX_ENV_BYTES} bytes")
    for name, value in env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise SpecInvalid("env", "names without `=`, and no NUL anywhere")


def os_bytes(text: str) -> bytes:
    """Encode as the kernel will see it; a lone surrogate that is no escaped byte is refused."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise SpecInvalid("text", "encodable as UTF-8") from None


def _within(name: str, value: float, least: float, most: float) -> None:
    if isinstance(value, bool) or not math.isfinite(value) or not least <= value <= most:
        raise SpecInvalid(f"limits.{name}", f"a number from {least:g} to {most:g}")
