"""Whether a signed call is new: asked once for each, after its signature was verified."""

from tenantry.capabilities.access.types import Caller
from tenantry.foundation.caches.ports import ReplayOutcome
from tenantry.foundation.errors import Conflict, Unauthenticated
from tenantry.interfaces.api.runtime import Runtime


async def require_fresh(runtime: Runtime, caller: Caller, *, nonce: str, timestamp_ms: int) -> None:
    """Let a signed call of the caller's tenant pass once; `timestamp_ms` is Unix time, as it was signed.

    The window is the installation's `caches.replay_window_ms`, the tenant's `clock_skew_ms` ahead of it. Raises
    Conflict `replayed` (409), Unauthenticated `timestamp_out_of_window` (401), Invalid for a nonce or number that
    cannot be one, Unavailable (503) when the store cannot tell: nothing passes then. Whoever was told 503 signs anew.
    """
    verdict = await runtime.caches[caller.region].replays.allow_once(
        nonce, timestamp_ms, tenant=caller.tenant_id, clock_skew_ms=caller.clock_skew_ms
    )
    if verdict.outcome is ReplayOutcome.REPLAYED:
        raise Conflict(
            "replayed", "this signed call was made before: sign each call with a nonce of its own", layer="guard"
        )
    if not verdict:
        ahead = verdict.outcome is ReplayOutcome.IN_FUTURE
        raise Unauthenticated(
            "timestamp_out_of_window",
            f"the call was signed too far {'ahead' if ahead else 'back'}: set the clock right and sign again",
            layer="guard",
        )
