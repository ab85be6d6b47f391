"""Which backend of sandboxes this installation is set to; there is no other if that one cannot be had."""

from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.probe import ProbeResult, probe
from tenantry.foundation.settings import Settings

_RUNSC = "runsc"


async def open_backend(settings: Settings) -> Backend:
    """Open it; raises JailUnavailable with a remedy when it cannot hold a sandbox."""
    chosen = settings.sandboxes
    if chosen.backend == "jail":
        return await Jail.open(settings.home)
    if chosen.backend == "gvisor":
        from tenantry.engines.jail.gvisor.backend import GvisorBackend

        return await GvisorBackend.open(
            settings.home,
            socket=chosen.docker_socket,
            runtime=chosen.docker_runtime or _RUNSC,
            network_runtime=chosen.docker_network_runtime,
        )
    from tenantry.engines.jail.docker.backend import DockerBackend

    return await DockerBackend.open(settings.home, socket=chosen.docker_socket, runtime=chosen.docker_runtime)


async def probe_backend(settings: Settings) -> list[ProbeResult]:
    """Tell every fault of it; raises nothing."""
    chosen = settings.sandboxes
    if chosen.backend == "jail":
        return await probe(settings.home)
    if chosen.backend == "gvisor":
        from tenantry.engines.jail.gvisor.probe import probe_gvisor

        return await probe_gvisor(
            settings.home,
            socket=chosen.docker_socket,
            runtime=chosen.docker_runtime or _RUNSC,
            network_runtime=chosen.docker_network_runtime,
        )
    from tenantry.engines.jail.docker.probe import probe_docker

    return await probe_docker(settings.home, socket=chosen.docker_socket, runtime=chosen.docker_runtime)
