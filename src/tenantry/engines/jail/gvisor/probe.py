"""Whether an engine can hold sandboxes under gVisor: each fault with its code and what mends it."""

from pathlib import Path
from typing import Final

from tenantry.engines.jail.backend import try_one
from tenantry.engines.jail.docker.probe import look_at_engine
from tenantry.engines.jail.gvisor.backend import RUNTIME, GvisorBackend
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.probe import ProbeResult, look_inside, told
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import Ending, ImageRoot, Limits, Listeners, Network, Spec
from tenantry.foundation.errors import TenantryError

_LIMITS: Final = Limits(memory_mib=64, pids=8, timeout_seconds=30, disk_mib=1, tmp_mib=1, shm_mib=1)


async def probe_gvisor(
    home: Path, *, socket: Path, runtime: str = RUNTIME, network_runtime: str | None = None
) -> list[ProbeResult]:
    """Look at the engine, then put a program into a container under gVisor and read back what both are.

    Raises nothing.
    """
    results = await look_at_engine(socket, runtime)
    if any(result.fault for result in results):
        return results
    try:
        async with await GvisorBackend.open(
            home, socket=socket, runtime=runtime, network_runtime=network_runtime, trial=False, spare=0
        ) as backend:
            image = ImageStore(home / "images").host()
            results += _of_sentry(await try_one(backend, image))
            results += await look_inside(backend, home)
            if network_runtime is not None:
                results.append(await _network(backend, image))
            return results
    except (TenantryError, OSError) as error:
        return [*results, told(error, home)]


def _of_sentry(receipt: Receipt) -> list[ProbeResult]:
    seen = f"runsc {receipt.sentry['version']}, platform {receipt.sentry['platform']}"
    return [
        ProbeResult("gvisor_runtime", ok=True, detail=seen),
        ProbeResult(
            "gvisor_shares_pids",
            "pid" in receipt.unshared,
            seen,
            "have the runtime use platform kvm, or systrap of a recent release: as it is, its kernels are one user's "
            "in the host's pid namespace",
            required=False,
        ),
    ]


async def _network(backend: GvisorBackend, image: ImageRoot) -> ProbeResult:
    async def attach(listeners: Listeners) -> None:
        listeners.close()

    spec = Spec(image=image, command=("true",), limits=_LIMITS, network=Network())
    async with await backend.start(spec, lambda *_: None, attach=attach) as sandbox:
        outcome = await sandbox.wait()
    held = outcome.ending is Ending.EXITED and outcome.exit_code == 0
    return ProbeResult(
        "gvisor_network",
        held,
        "listeners of the host" if held else outcome.detail,
        "have that runtime use platform kvm, or systrap of a recent release, whose kernels have a pid namespace of "
        "their own; or leave sandboxes.docker_network_runtime out: then jobs that ask for a network are refused",
    )
