"""Scenes of the demo about limits: a rate that is used up, and who does not feel it."""

from typing import Final

from tenantry.entrypoints.demo_cast import Cast, refusal_of
from tenantry.entrypoints.demo_stage import Stage

_FEW: Final = 5
_HOUR_MS: Final = 3_600_000


def rates(stage: Stage, cast: Cast) -> None:
    """Narrow a workspace to five requests an hour, use them up, and look who notices."""
    acme, globex = cast.acme, cast.globex
    stage.scene("Five requests an hour: refused with the reason, charged to nobody else")
    acme.owner.limits.replace({"api_requests": {"max_requests": _FEW, "window_ms": _HOUR_MS}}, workspace=acme.workspace)
    try:
        passed = 0
        while (refused := refusal_of(lambda: acme.owner.workspaces.get(acme.workspace))) is None and passed <= _FEW:
            passed += 1
        stage.expect("no more than five pass", held=passed <= _FEW, seen=passed)
        stage.expect_refusal("one more", refused, status=429, code="rate_limited")
        rates_left = acme.owner.limits.standing(tenant=acme.slug)["rates"]
        left = {rate["name"]: rate["remaining"] for rate in rates_left}
        stage.expect("the tenant has many left", held=left.get("api_requests", 0) > _FEW, seen=left)
        unharmed = refusal_of(lambda: globex.owner.workspaces.get(globex.workspace)) is None
        stage.expect("globex does not feel it", held=unharmed)
    finally:
        # Whoever may change limits can always take them back: that is counted apart.
        acme.owner.limits.replace({}, workspace=acme.workspace)
    again = refusal_of(lambda: acme.owner.workspaces.get(acme.workspace)) is None
    stage.expect("taken back, the workspace answers again", held=again)
