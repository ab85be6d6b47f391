"""What the audit trail refuses."""

from tenantry.foundation.errors import Invalid, Unavailable


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


class BundleRefused(Invalid):
    """An audit bundle is not what the log has signed.

    Where it is known, `fields` has `sequence` (from 1) and `event`, the id of the first bad event; else, where
    something narrows it, `first` and `last`: it is one of the events from `first` to `last`.
    """

    def __init__(self, code: str, message: str, *, event: str | None = None, **fields: int) -> None:
        told: dict[str, int | str] = {**fields, "event": event} if event else {**fields}
        super().__init__(code, f"{message} ({event})" if event else message, layer="audit", **told)
