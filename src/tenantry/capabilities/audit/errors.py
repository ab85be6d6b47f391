"""What the audit trail refuses."""

from tenantry.foundation.errors import Unavailable


class TrailFull(Unavailable):
    """Events of reads or refusals cannot be recorded right now; retrying later is safe."""

    def __init__(self) -> None:
        super().__init__(
            "audit_unavailable",
            "the audit trail cannot take more events right now, retry",
            layer="audit",
            retry_after=1,
        )
