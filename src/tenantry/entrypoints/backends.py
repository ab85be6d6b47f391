"""Which backend of sandboxes this installation is set to; there is no other if that one cannot be had."""

from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.probe import ProbeResult, probe
from tenantry.foundation.settings import Settings


async def open_backend(settings: Settings) -> Backend:
    """Open it; raises JailUnavailable with a remedy when it cannot hold a sandbox."""
    if settings.sandboxes.backend == "jail":
        return await Jail.open(settings.home)
    from tenantry.engines.jail.docker.backend import DockerBackend

    chosen = settings.sandboxes
    return await DockerBackend.open(settings.home, socket=chosen.docker_socket, runtime=chosen.docker_runtime)


async def probe_backend(settings: Settings) -> list[ProbeResult]:
    """Tell every fault of it; raises nothing."""
    if settings.sandboxes.backend == "jail":
        return await probe(settings.home)
    from tenantry.engines.jail.docker.probe import probe_docker

    chosen = settings.sandboxes
    return await probe_docker(settings.home, socket=chosen.docker_socket, runtime=chosen.docker_runtime)
