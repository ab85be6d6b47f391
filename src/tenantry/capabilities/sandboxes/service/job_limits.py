"""What one job, or one sandbox, may use: what is asked for within the ceilings of every layer."""

import dataclasses
from collections.abc import Mapping
from math import inf
from typing import Final

from tenantry.capabilities.limits.service import PlaceLimits
from tenantry.capabilities.limits.types import Layer
from tenantry.capabilities.limits.types.quotas import Ceiling
from tenantry.capabilities.sandboxes.errors import limit_exceeded
from tenantry.capabilities.sandboxes.types import MOST_OUTPUT_BYTES, MOST_PIDS, JobLimits
from tenantry.capabilities.sandboxes.types.living import DEFAULT_TTL_SECONDS, MOST_LIFE_SECONDS
from tenantry.capabilities.tenants.types import WorkspaceSettings

_PLATFORM: Final = Layer.PLATFORM.value
_CEILINGS: Final = {
    "cpus": Ceiling.JOB_CPUS,
    "memory_mib": Ceiling.JOB_MEMORY,
    "timeout_seconds": Ceiling.JOB_SECONDS,
    "artifacts_mib": Ceiling.JOB_ARTIFACTS,
}


def limits_of(wanted: Mapping[str, float], held: PlaceLimits, settings: WorkspaceSettings) -> JobLimits:
    """Complete what is asked by the defaults; what is asked beyond a ceiling is refused, a default gives way to it."""
    ceilings = ceilings_of(held, settings)
    for name, value in wanted.items():
        most, layer = ceilings[name]
        if value > most:
            raise limit_exceeded(name, limit=most, wanted=value, layer=layer)
    values = {
        name: min(default, type(default)(ceilings[name][0])) if ceilings[name][0] != inf else default
        for name, default in dataclasses.asdict(JobLimits()).items()
    }
    return JobLimits(**{**values, **wanted})  # whole numbers where the edge asks for them


def ceilings_of(held: PlaceLimits, settings: WorkspaceSettings) -> dict[str, tuple[float, str]]:
    """Tell the most of each limit of a job, and whose word it is."""
    found: dict[str, tuple[float, str]] = {
        "pids": (MOST_PIDS, _PLATFORM),
        "output_bytes": (MOST_OUTPUT_BYTES, _PLATFORM),
    }
    for name, ceiling in _CEILINGS.items():
        effective = held.ceilings[ceiling]
        found[name] = (
            (inf, _PLATFORM)
            if effective.most is None or effective.layer is None
            else (effective.most, effective.layer.value)
        )
    longest = float(settings.max_job_timeout_seconds)
    if longest < found["timeout_seconds"][0]:
        found["timeout_seconds"] = (longest, Layer.WORKSPACE.value)
    return found


def disk_mib_of(limits: JobLimits) -> int:
    """Tell how much /workspace holds: half of the memory, which it is part of."""
    return max(1, limits.memory_mib // 2)


def most_kept_bytes(limits: JobLimits) -> int:
    """Tell how large an archive of /workspace may be: its disk, and an eighth for what describes the files."""
    disk = disk_mib_of(limits) << 20
    return disk + disk // 8


def life_of(held: PlaceLimits, settings: WorkspaceSettings) -> float:
    """Tell how many seconds a sandbox may live from a start on: as long as a job may run."""
    return min(ceilings_of(held, settings)["timeout_seconds"][0], MOST_LIFE_SECONDS)


def lives(wanted: int | None, held: PlaceLimits, settings: WorkspaceSettings) -> int:
    """Complete `ttl_seconds`; raises Invalid `limit_exceeded` for more than the ceiling."""
    most, layer = ceilings_of(held, settings)["timeout_seconds"]
    most = min(most, MOST_LIFE_SECONDS)
    if wanted is None:
        return max(1, min(DEFAULT_TTL_SECONDS, int(most)))
    if wanted > most:
        raise limit_exceeded("ttl_seconds", limit=most, wanted=wanted, layer=layer)
    return wanted
