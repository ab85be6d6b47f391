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


class WitnessSilent(Unavailable):
    """No checkpoint is signed while the witness cannot be told of it; what waits is signed once it can."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__("witness_silent", f"checkpoints cannot be appended to {place}: {reason}", layer="audit")
