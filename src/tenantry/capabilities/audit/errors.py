"""What the audit trail refuses."""

from typing import Final

from tenantry.capabilities.audit.types.streams import MAX_STREAMS
from tenantry.foundation.errors import Conflict, Exhausted, Gone, Invalid, NotFound, Precondition, Unavailable

_LAYER: Final = "audit"


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


class NotGrown(Exception):
    """The database takes no places for some of these events; it says so by this SQLSTATE."""


class BundleRefused(Invalid):
    """An audit bundle is not what the log has signed.

    Where it is known, `fields` has `sequence` (from 1) and `event`, the id of the first bad event; else, where
    something narrows it, `first` and `last`: it is one of the events from `first` to `last`.
    """

    def __init__(self, code: str, message: str, *, event: str | None = None, **fields: int) -> None:
        told: dict[str, int | str] = {**fields, "event": event} if event else {**fields}
        super().__init__(code, f"{message} ({event})" if event else message, layer="audit", **told)


class NotTakenError(Exception):
    """A sink has not taken a batch, or it is not known whether. `code` says why, in our words.

    `lasting`: another attempt would end the same, until the stream is changed.
    """

    def __init__(self, code: str, *, lasting: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.lasting = lasting


def forgetting_not_found() -> NotFound:
    return NotFound("not_found", "no such request to forget somebody", layer=_LAYER)


def not_nameable(why: str) -> Invalid:
    return Invalid("principal_invalid", f"principal: {why}", layer=_LAYER, field="principal")


def too_many_forgettings(limit: int) -> Conflict:
    return Conflict(
        "forgetting_limit",
        f"{limit} requests to forget somebody are open: ask again when one is done",
        layer=_LAYER,
        limit=limit,
    )


def event_erased(sequence: int, leaf: str) -> Gone:
    """Tell its place, and its leaf hash in base64: that it was there can still be proved."""
    return Gone(
        "event_erased",
        "the event has left the log after its time: its place and leaf hash remain, and GET /audit/proof proves them",
        layer=_LAYER,
        sequence=sequence,
        leaf=leaf,
    )


def log_erased() -> Unavailable:
    return Unavailable("log_erased", "a part of the log has left it meanwhile: ask anew", layer=_LAYER, retry_after=1)


def stream_not_found() -> NotFound:
    return NotFound("not_found", "no such audit stream", layer=_LAYER)


def day_not_found() -> NotFound:
    return NotFound("not_found", "no event of the tenant is of this day", layer=_LAYER)


def stream_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"a stream named {name!r} exists here", layer=_LAYER, field="name")


def stream_version_mismatch(current: int) -> Precondition:
    return Precondition(
        "version_mismatch",
        "the stream has changed since it was read: read it again and repeat",
        layer=_LAYER,
        current=f'"{current}"',
    )


def too_many_streams(current: int) -> Exhausted:
    return Exhausted(
        "stream_limit",
        f"a tenant has at most {MAX_STREAMS} streams: remove one",
        layer=_LAYER,
        limit=MAX_STREAMS,
        current=current,
    )


def stream_field(field: str, why: str) -> Invalid:
    """Say what is wrong without repeating an address: it may hold a secret."""
    return Invalid("stream_invalid", f"{field}: {why}", layer=_LAYER, field=field)
