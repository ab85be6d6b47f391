"""What evidence refuses."""

from collections.abc import Sequence

from tenantry.capabilities.evidence.types import State
from tenantry.foundation.errors import Conflict, Invalid, NotFound

_LAYER = "evidence"
_SEALED_AFTER_SECONDS = 2


class EvidenceRefused(Invalid):
    """An evidence bundle is not what was signed. `code` says which part does not hold."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, layer=_LAYER)


def evidence_not_found() -> NotFound:
    return NotFound("not_found", "no such evidence", layer=_LAYER)


def hold_not_found() -> NotFound:
    return NotFound("not_found", "no such hold", layer=_LAYER)


def subject_open(kind: str) -> Conflict:
    return Conflict(
        "evidence_open",
        f"this {kind} has not ended: wait for its end, or end it; its evidence is then locked by itself",
        layer=_LAYER,
    )


def events_unsigned() -> Conflict:
    return Conflict(
        "evidence_unsigned",
        "no signed checkpoint covers the end yet: one does within two seconds, and it is then locked by itself",
        layer=_LAYER,
        retry_after=_SEALED_AFTER_SECONDS,
    )


def not_lockable(state: State) -> Conflict:
    return Conflict(
        "evidence_tampered", f"this evidence is {state}: what it was cannot be proved any more", layer=_LAYER
    )


def hold_released() -> Conflict:
    return Conflict("hold_released", "this hold was released already; place another for the same case", layer=_LAYER)


def too_many_holds(most: int) -> Conflict:
    return Conflict("hold_limit", f"a workspace has at most {most} active holds: release one", layer=_LAYER)


def legal_hold(cases: Sequence[str], *, then: str) -> Conflict:
    return Conflict(
        "legal_hold",
        f"legal holds keep what this tenant has: have each released (tenantry evidence hold release), then {then}",
        layer=_LAYER,
        cases=tuple(cases),
    )
