"""What a backend of sandboxes is, whoever makes them: the jail (jail.py), or a container engine (docker/)."""

import socket
from collections.abc import Sequence
from typing import BinaryIO, Protocol, Self

from tenantry.engines.jail.artifacts import Artifacts
from tenantry.engines.jail.cgroups import Hierarchy
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.exec_types import ExecSpec
from tenantry.engines.jail.execution import Execution
from tenantry.engines.jail.files import SandboxFiles
from tenantry.engines.jail.receipt import IsolationLevel, Receipt
from tenantry.engines.jail.trees import SavedTree
from tenantry.engines.jail.types import Attach, Ending, ImageRoot, Limits, OnOutput, Outcome, Spec


class Running(Protocol):
    """One sandbox that has been started. Await `wait`, then perhaps `artifacts`, then always `close`."""

    id: str

    @property
    def receipt(self) -> Receipt | None:
        """What the kernel said of it; None when it died before there was anything to read."""

    async def wait(self) -> Outcome:
        """Wait for its death: every process of it is gone and all output delivered. May be awaited again.

        Raises what `on_output` raised, once it is dead. Cancelling the wait leaves the sandbox running.
        """

    def kill(self, reason: str = "") -> None:
        """Kill all of it at once; `reason` becomes the outcome's detail. Without effect on a dead one."""

    async def artifacts(self, globs: Sequence[str], *, max_files: int = 1000, max_bytes: int = 256 << 20) -> Artifacts:
        """Find what it left in /workspace that matches; raises SandboxBusy while it lives, SpecInvalid for a pattern.

        Patterns are relative to /workspace, and /outputs is its `outputs`: `outputs/**`, `report.json`, `**/*.log`.
        The files can be read until `close`.
        """

    @property
    def verified(self) -> bool:
        """Whether its receipt has been found without a fault, so that its program has begun."""

    @property
    def filled(self) -> SavedTree | None:
        """What was carried into its /workspace, if anything was to be."""

    def remains(self) -> tuple[int, int | None] | None:
        """Give what it left in /workspace, by a new descriptor that is the taker's to close, and the uid to read it as.

        None when it never had a /workspace. Raises SandboxBusy while it lives and once it is closed.
        """

    async def exec(self, wanted: ExecSpec) -> Execution:
        """Start one more program in it, which is verified before it runs; only in a sandbox that is kept.

        One that cannot be started is an Execution too, whose outcome is `not_started`. Raises SandboxEnded,
        ExecsExhausted above 32 at a time, SpecInvalid when the sandbox is not kept, JailUnavailable (retry is safe).
        """

    async def dial(self, port: int) -> socket.socket:
        """Connect to 127.0.0.1:`port` inside; non-blocking, the caller's to close.

        Raises OSError when refused, SandboxEnded.
        """

    @property
    def files(self) -> SandboxFiles:
        """Its /workspace, while it lives and after, until `close`; raises SandboxEnded when it never began."""

    async def save(self, target: BinaryIO, *, max_bytes: int) -> SavedTree:
        """Write an archive of /workspace that a `Fill` takes, while it lives or after; see sandbox.py.

        Raises SandboxEnded once closed, OSError where `target` does.
        """

    async def close(self) -> None:
        """Kill it if need be and give back everything it held; idempotent, and finished even when cancelled.

        Raises OSError when something of it stays; its uid then stays taken.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class Backend(Protocol):
    """Starts sandboxes; long-lived, bound to the loop it was opened on, ended by `close`.

    Invariants of every one: a sandbox is admitted by a receipt read from the kernel, or killed; no instruction of its
    program runs before; nothing of it outlives the process that started it; whatever cannot be confined is not started.
    """

    @property
    def name(self) -> str:
        """`jail` or `docker`."""

    @property
    def isolation(self) -> IsolationLevel: ...

    @property
    def hierarchy(self) -> Hierarchy:
        """Where the cgroups of its sandboxes are, each named by `Running.id`."""

    async def start(self, spec: Spec, on_output: OnOutput, *, attach: Attach | None = None) -> Running:
        """Start a program; returns when it runs, or has failed to, which `wait` then tells.

        `on_output(stream, data)` is called on the event loop, in order within a stream; when it returns an awaitable,
        that stream waits for it. A spec with a network needs `attach`, which is given the sandbox's listeners before
        its program may run, and owns them once it has returned, whatever comes of the start; what it raises is raised
        here, with the listeners closed, and no program has run.
        Raises JailUnavailable when nothing can be started now (retry is safe).
        """

    async def run(self, spec: Spec, on_output: OnOutput) -> tuple[Outcome, Receipt | None]:
        """Start, wait and close; for programs whose files nobody wants."""

    async def close(self) -> None:
        """Kill and clear away every sandbox; idempotent."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


async def run_one(backend: Backend, spec: Spec, on_output: OnOutput) -> tuple[Outcome, Receipt | None]:
    async with await backend.start(spec, on_output) as sandbox:
        return await sandbox.wait(), sandbox.receipt


async def try_one(backend: Backend, image: ImageRoot) -> Receipt:
    """Run `true` and check its receipt; raises JailUnavailable `sandbox_refused` with what the chain said."""
    said: list[bytes] = []
    limits = Limits(memory_mib=64, pids=8, timeout_seconds=30, disk_mib=1, tmp_mib=1, shm_mib=1)
    outcome, receipt = await backend.run(
        Spec(image=image, command=("true",), limits=limits), lambda _, data: said.append(data)
    )
    if outcome.ending is Ending.EXITED and outcome.exit_code == 0 and receipt is not None:
        return receipt
    words = b"".join(said).decode("utf-8", "replace").strip()
    raise JailUnavailable(
        "sandbox_refused",
        f"a sandbox of `true` ended {outcome.ending} ({outcome.detail or words or outcome.exit_code})",
        remedy="run the probe: it tells each fault with its remedy",
    )
