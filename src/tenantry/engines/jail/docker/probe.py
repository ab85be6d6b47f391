"""Whether the engine at a socket can hold a sandbox: each fault with its code and what mends it."""

import platform
import stat
from pathlib import Path

from tenantry.engines.jail.docker.backend import DockerBackend, check_engine
from tenantry.engines.jail.docker.engine import Engine, EngineRefusedError
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.probe import ProbeResult, look_at_watches, look_inside, told
from tenantry.engines.jail.syscalls import MACHINES
from tenantry.foundation.errors import TenantryError


async def probe_docker(home: Path, *, socket: Path, runtime: str | None = None) -> list[ProbeResult]:
    """Look at the engine, then put a program into a container of it and read back what it is. Raises nothing."""
    results = await look_at_engine(socket, runtime)
    if any(result.fault for result in results):
        return results
    try:
        async with await DockerBackend.open(home, socket=socket, runtime=runtime, trial=False, spare=0) as backend:
            return results + await look_inside(backend, home)
    except (TenantryError, OSError) as error:
        return [*results, told(error, home)]


async def look_at_engine(socket: Path, runtime: str | None) -> list[ProbeResult]:
    """Look at the machine and at who answers there, without a container. Raises nothing."""
    name = platform.machine()
    results = [
        ProbeResult("architecture", name in MACHINES, name, f"there are tables for {', '.join(MACHINES)} only"),
        look_at_watches(),
        _socket(socket),
    ]
    return results + await _engine(socket, runtime) if results[-1].ok else results


def _socket(path: Path) -> ProbeResult:
    remedy = "start the engine (systemctl start docker), or set sandboxes.docker_socket to where it listens"
    try:
        there = stat.S_ISSOCK(path.stat().st_mode)
    except OSError as error:
        return ProbeResult("docker_socket", ok=False, detail=f"{path}: {error.strerror}", remedy=remedy)
    return ProbeResult("docker_socket", there, f"{path}" if there else f"{path} is no socket", remedy)


async def _engine(socket: Path, runtime: str | None) -> list[ProbeResult]:
    try:
        engine = await Engine.connect(socket)
        try:
            info = await engine.info()
        finally:
            await engine.close()
        check_engine(info, runtime=runtime)
    except JailUnavailable as error:
        return [ProbeResult(error.code, ok=False, detail=error.message, remedy=str(error.fields["remedy"]))]
    except EngineRefusedError as error:
        return [ProbeResult("docker_refused", ok=False, detail=str(error), remedy="see the engine's log")]
    swap = info.get("SwapLimit") is not False
    return [
        ProbeResult("docker_engine", ok=True, detail=f"{engine.kind} {engine.version}"),
        ProbeResult(
            "docker_swap_unbounded",
            swap,
            remedy="boot with swapaccount=1, or without swap: memory is bounded, swap is not",
            required=False,
        ),
    ]
