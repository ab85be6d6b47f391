"""Settings of who makes sandboxes."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from tenantry.foundation.limit_settings import Frozen


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class SandboxSettings(Frozen):
    """Who makes the sandboxes that jobs run in, and those that live."""

    backend: str = Field(default="jail", pattern="^(jail|docker|gvisor)$")
    """`jail` needs no daemon; `docker`, an engine of this machine or Podman's, and `gvisor`, with runsc, root."""
    docker_socket: Annotated[Path, AfterValidator(_absolute)] = Path("/run/docker.sock")
    """Unix socket of that engine; Podman's is `/run/podman/podman.sock`."""
    docker_runtime: Annotated[str | None, Field(pattern="^[A-Za-z0-9._-]{1,64}$")] = None
    """One of the engine's runtimes: runc's or crun's, none is the engine's own; with `gvisor` runsc's, or `runsc`."""
    docker_network_runtime: Annotated[str | None, Field(pattern="^[A-Za-z0-9._-]{1,64}$")] = None
    """With `gvisor`, that of sandboxes with a network: a runsc with `--network=host`; none: they are refused."""
    slots: int = Field(default=64, ge=0, le=10_000)
    """How many of them one worker lets live at once, beside its jobs; 0: it takes none."""
