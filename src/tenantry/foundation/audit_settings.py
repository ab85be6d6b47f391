"""Settings of the audit trail."""

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from tenantry.foundation.limit_settings import Frozen


def _directories(named: dict[str, Path]) -> dict[str, Path]:
    for name in named:
        if not re.fullmatch("[a-z][a-z0-9-]{0,39}", name):
            raise ValueError(f"{name!r} is no name of a directory: small letters, digits and hyphens, at most 40")
    return {name: path.expanduser().absolute() for name, path in named.items()}


LEAST_RETENTION_DAYS: Final = 30


def _retention(days: int) -> int:
    if 0 < days < LEAST_RETENTION_DAYS:
        raise ValueError(f"events are kept for {LEAST_RETENTION_DAYS} days at least; 0: for ever")
    return days


class AuditSettings(Frozen):
    """The audit trail."""

    sample_reads: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of allowed reads that is recorded; below 1 is this installation's explicit choice. Writes: always all."""
    flush_seconds: float = Field(default=0.02, ge=0.0, le=1.0)
    """Group commit of reads and refusals; a crash loses at most this much of them, never of an effect."""
    buffer_events: int = Field(default=20_000, ge=100)
    """Events of one tenant that may wait; beyond it its requests are refused with 503 rather than go unrecorded."""
    origin: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9./-]{0,199}$")
    """What checkpoints call this installation, a name of yours for good: `log.acme.example`; none: by its own key."""
    witness_dir: Path | None = None
    """Where checkpoints are appended to, out of the database owner's reach; none: `REGION/checkpoints` in the home."""
    stream_directories: Annotated[dict[str, Path], AfterValidator(_directories)] = Field(default={})
    """Directories by names, of which tenants' streams of kind `file` choose one; each exists, for a collector."""
    stream_patience_days: float = Field(default=3.0, gt=0.0, le=365.0)
    """How long a stream may fail before it is paused."""
    personal_days: int = Field(default=0, ge=0, le=36_500)
    """After so many days what events say about persons is forgotten, for good; the events stay. 0: with the tenant."""
    retention_days: Annotated[int, AfterValidator(_retention)] = Field(default=0, ge=0, le=36_500)
    """After so many days events leave each log whole, signed for before; 30 at least. 0: they stay. No proof goes."""
    day_seconds: float = Field(default=60.0, ge=1.0, le=86_400.0)
    """How long a day's file of the trail waits for more events before it is written anew; bigger files wait longer."""
