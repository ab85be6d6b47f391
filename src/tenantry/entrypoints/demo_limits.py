"""Scenes of the demo about limits: a rate and a quota that are used up, an image that a policy denies."""

from datetime import UTC, datetime, timedelta
from typing import Final

from tenantry.client.types import JobLimits
from tenantry.entrypoints.demo_cast import Cast, refusal_of
from tenantry.entrypoints.demo_stage import Stage

_FEW: Final = 5
_HOUR_MS: Final = 3_600_000
_SMALL: Final[JobLimits] = {"cpus": 0.5, "memory_mib": 64}


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


def quotas(stage: Stage, cast: Cast) -> None:
    """Let a workspace run one job at a time, submit two, and look what the second is told."""
    acme, globex = cast.acme, cast.globex
    stage.scene("One job at a time: the second is told which limit, whose it is, and what would help")
    limits = acme.owner.limits
    limits.change({"max_concurrent_jobs": 1, "on_limit": "reject"}, workspace=acme.workspace)
    try:
        first = acme.owner.jobs.create(acme.workspace, command=["sleep", "60"], limits=_SMALL)
        refused = refusal_of(lambda: acme.owner.jobs.create(acme.workspace, command=["true"], limits=_SMALL))
        stage.expect_refusal("a second job", refused, status=429, code="quota_exceeded")
        own = globex.owner.jobs.create(globex.workspace, command=["true"], limits=_SMALL, wait_seconds=30)
        stage.expect("globex runs its own meanwhile", held=own["status"] == "succeeded", seen=own["status"])
        acme.owner.jobs.cancel(acme.workspace, first["id"])
        acme.ended(first, seconds=20)
        second = acme.owner.jobs.create(acme.workspace, command=["true"], limits=_SMALL, wait_seconds=30)
        stage.expect(
            "once it has ended, the next one runs", held=second["status"] == "succeeded", seen=second["status"]
        )
    finally:
        limits.change({"max_concurrent_jobs": None, "on_limit": "queue"}, workspace=acme.workspace)
    found = limits.get(workspace=acme.workspace)
    seen = f"{found['max_concurrent_jobs']} by {found['sources']['max_concurrent_jobs']['layer']}"
    stage.expect("taken back, the installation's own limit holds", held=seen == "10 by platform", seen=seen)


def denied_image(stage: Stage, cast: Cast) -> None:
    """Have a tenant block every `:latest`, submit a job with such an image, and lift the rule for its workspace."""
    acme, globex = cast.acme, cast.globex
    stage.scene("Nothing unpinned: a denied image names layer and rule, and an exemption lifts it for a time")
    policies, exemptions = acme.owner.policies, acme.owner.exemptions
    made = policies.put("image", 'blocked_images: ["*:latest"]', state="enforced", tenant=acme.slug)
    try:
        refused = refusal_of(lambda: acme.owner.jobs.create(acme.workspace, command=["true"], image="host:latest"))
        stage.expect_refusal("a job with host:latest", refused, status=403, code="policy_denied")
        told = refused.members if refused is not None else {}
        seen = f"{told.get('denied_by')}: {told.get('rule')}"
        stage.expect("it names layer and rule", held=seen == "tenant: blocked_images[0]: *:latest", seen=seen)
        own = globex.owner.jobs.create(globex.workspace, command=["true"], limits=_SMALL, wait_seconds=30)
        stage.expect("globex's image is its own affair", held=own["status"] == "succeeded", seen=own["status"])
        end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        rule = "blocked_images[0]: *:latest"
        exempt = {"kind": "image", "rule": rule, "owner": "ops", "reason": "demo", "expires_at": end}
        exemption = exemptions.create(tenant=acme.slug, **exempt)
        job = acme.owner.jobs.create(acme.workspace, command=["true"], limits=_SMALL, wait_seconds=30)
        stage.expect("exempted, it runs", held=job["status"] == "succeeded", seen=job["status"])
        exemptions.revoke(exemption["id"], tenant=acme.slug)
    finally:
        policies.promote("image", made["version"], "retired", tenant=acme.slug)
