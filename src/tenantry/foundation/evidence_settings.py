"""Settings of evidence."""

from pydantic import Field

from tenantry.foundation.limit_settings import Frozen


class EvidenceSettings(Frozen):
    """How long evidence is kept at least, and how often it is examined."""

    floor_days: int = Field(default=30, ge=0, le=36_500)
    """No workspace keeps it shorter, whatever its `retention_days`; of a tenant more: `limits.evidence_floor_days`."""
    check_hours: float = Field(default=24.0, ge=0.001, le=8784.0)
    """How often each piece is held against its signature, its rows and the trail."""
