"""Policies as work meets them: asked of every layer, told, and remembered where there is something to tell."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.policies import repository
from tenantry.capabilities.policies.ports import PastWork
from tenantry.capabilities.policies.service.book import PolicyBook
from tenantry.capabilities.policies.service.compiling import settings_placed
from tenantry.capabilities.policies.service.evaluating import Ask, ask_all, judge
from tenantry.capabilities.policies.types import (
    MOST_DECISIONS,
    Checked,
    Decision,
    Difference,
    Layer,
    Outcome,
    Past,
    Placed,
    ShadowDiff,
)
from tenantry.capabilities.tenants.types import WorkspaceSettings
from tenantry.engines.rules.types import DeploymentFacts, JobFacts, Phase
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import new_id
from tenantry.foundation.telemetry import POLICY_DENIALS, POLICY_SHADOW_DIFFERENCES

_WIDEST_FIRST: Final = tuple(Layer)


class PolicyService:
    """Policies of the session's tenant. A check changes nothing and, while the book knows the tenant, asks nobody."""

    def __init__(self, *, session: TenantSession, book: PolicyBook, past: PastWork, clock: Clock) -> None:
        self._session = session
        self._book = book
        self._past = past
        self._clock = clock

    async def check_job(self, work: Sequence[JobFacts], *, workspace_id: UUID, settings: WorkspaceSettings) -> Checked:
        """Judge all programs of a job together."""
        network = any(facts.network for facts in work)
        return await self._check(ask_all(work), workspace_id, settings, network=network)

    async def check_image(
        self, image: str, *, workspace_id: UUID, settings: WorkspaceSettings, digest: str | None = None
    ) -> Checked:
        """Judge an image by itself, as for a job that every `applies_to` selects."""
        return await self._check(lambda bundle: bundle.check_image(image, digest=digest), workspace_id, settings)

    async def check_command(self, argv: Sequence[str], *, workspace_id: UUID, settings: WorkspaceSettings) -> Checked:
        """Judge a command by itself, as for a job that every `applies_to` selects."""
        return await self._check(lambda bundle: bundle.check_command(argv), workspace_id, settings)

    async def check_deployment(
        self, facts: DeploymentFacts, *, workspace_id: UUID, settings: WorkspaceSettings
    ) -> Checked:
        return await self._check(lambda bundle: bundle.check_deployment(facts), workspace_id, settings)

    async def _check(
        self, ask: Ask, workspace_id: UUID, settings: WorkspaceSettings, *, network: bool = False
    ) -> Checked:
        scope, now = self._session.scope, self._clock.now()
        known = await self._book.of(scope.tenant_id, region=scope.region)
        exemptions, own = known.exemptions_in(workspace_id), settings_placed(settings)
        enforced = known.enforced_in(workspace_id)
        outcome = judge((*enforced, *own), ask, exemptions=exemptions, now=now, network=network)
        asked = tuple((each.name, each.bundle.digest if each.bundle else "") for each in (*enforced, *own))
        shadow = known.shadow_in(workspace_id)
        if not shadow:
            return Checked(outcome, asked=asked)
        instead = (*replaced(enforced, shadow), *own)
        would = judge(instead, ask, exemptions=exemptions, now=now, network=network)
        return Checked(outcome, would, tuple(placed.name for placed in shadow), asked)

    async def note(
        self,
        checked: Checked,
        *,
        workspace_id: UUID,
        principal: str,
        job: str,
        facts: Sequence[JobFacts],
        content_kept: bool,
    ) -> None:
        """Count and remember what was decided, in the session's transaction; what is simply allowed needs neither."""
        outcome, shadow = checked.outcome, checked.shadow
        decisive = outcome.decisive
        if decisive is not None and outcome.denied:
            POLICY_DENIALS.labels(decisive.kind.value, decisive.layer.value).inc()
        if shadow is not None and shadow.decision is not outcome.decision:
            POLICY_SHADOW_DIFFERENCES.labels(shadow.decision.value).inc()
        if not outcome.reasons and shadow is None:
            return
        shadow_decisive = shadow.decisive if shadow is not None else None
        decision = Decision(
            decision_id=new_id(),
            workspace_id=workspace_id,
            at=self._clock.now(),
            principal=principal,
            subject={"job": job, **_subject(facts, content_kept=content_kept)},
            verdict=outcome.decision,
            layer=decisive.layer.value if decisive else None,
            rule=decisive.rule if decisive else None,
            reasons=[_told(outcome, at) for at in range(len(outcome.reasons))],
            shadow_verdict=shadow.decision if shadow is not None else None,
            shadow_rule=shadow_decisive.rule if shadow_decisive else None,
            shadow_of=_key(checked.shadow_of) if shadow is not None else None,
        )
        await repository.insert_decision(self._session, decision)

    async def decision_of(self, job: str, *, workspace_id: UUID) -> Decision | None:
        """Find what was decided of a job, while it is among the last."""
        return await repository.find_decision_of(self._session, workspace_id, job)

    async def shadow_diff(self, workspace_id: UUID, *, settings: WorkspaceSettings) -> ShadowDiff:
        """Tell which of the last decisions would be others, were enforced what is in shadow now.

        What was decided while it was in shadow was asked then; what came before is asked now, without the names of
        variables.
        """
        scope = self._session.scope
        known = await self._book.of(scope.tenant_id, region=scope.region)
        names = tuple(placed.name for placed in known.shadow_in(workspace_id))
        if not names:
            return ShadowDiff((), 0, ())
        noted = await repository.list_shadowed(self._session, workspace_id, _key(names))
        past = await self._past.recent(self._session, workspace_id, limit=MOST_DECISIONS)
        jobs = {each.subject["job"] for each in noted}
        before = [each for each in past if each.job not in jobs][: max(0, MOST_DECISIONS - len(noted))]
        found = [_noted_difference(each) for each in noted]
        found += [await self._difference(each, workspace_id, settings) for each in before]
        changed = tuple(each for each in found if each.shadow_verdict is not each.verdict)
        return ShadowDiff(names, len(found), changed)

    async def _difference(self, past: Past, workspace_id: UUID, settings: WorkspaceSettings) -> Difference:
        checked = await self.check_job(past.facts, workspace_id=workspace_id, settings=settings)
        outcome, shadow = checked.outcome, checked.shadow or checked.outcome
        decisive, would = outcome.decisive, shadow.decisive
        return Difference(
            decision_id=None,
            at=past.at,
            principal=past.principal,
            subject={"job": past.job, **_subject(past.facts, content_kept=past.content_kept)},
            verdict=outcome.decision,
            layer=decisive.layer.value if decisive else None,
            rule=decisive.rule if decisive else None,
            shadow_verdict=shadow.decision,
            shadow_rule=would.rule if would else None,
        )


def _noted_difference(decision: Decision) -> Difference:
    return Difference(
        decision_id=decision.decision_id,
        at=decision.at,
        principal=decision.principal,
        subject=decision.subject,
        verdict=decision.verdict,
        layer=decision.layer,
        rule=decision.rule,
        shadow_verdict=decision.shadow_verdict or decision.verdict,
        shadow_rule=decision.shadow_rule,
    )


def replaced(enforced: Sequence[Placed], shadow: Sequence[Placed]) -> list[Placed]:
    """Give what would decide if what is in shadow were enforced: it takes the place of its own layer and kind."""
    instead = {(placed.layer, placed.kind) for placed in shadow}
    kept = [placed for placed in enforced if (placed.layer, placed.kind) not in instead]
    return sorted([*kept, *shadow], key=lambda placed: _WIDEST_FIRST.index(placed.layer))


def _told(outcome: Outcome, at: int) -> dict[str, str]:
    reason = outcome.reasons[at]
    return reason.summary() | ({"exempted_by": reason.exempted_by.hex} if reason.exempted_by else {})


def _subject(work: Sequence[JobFacts], *, content_kept: bool) -> dict[str, Any]:
    """Tell what was judged, of several programs that of `run`, the others beside it."""
    facts = next((each for each in work if each.phase is Phase.RUN), work[0])
    said: dict[str, Any] = {
        **_program(facts, content_kept=content_kept),
        "environment": facts.environment,
        "labels": dict(facts.labels),
        "cpus": facts.cpus,
        "memory_mib": facts.memory_mib,
        "timeout_seconds": facts.timeout_seconds,
        "network": [f"{asked.host}:{asked.port}/{asked.phase}" for each in work for asked in each.network],
    }
    if len(work) > 1:
        said["phases"] = {each.phase.value: _program(each, content_kept=content_kept) for each in work}
    return said


def _program(facts: JobFacts, *, content_kept: bool) -> dict[str, Any]:
    """Tell image and command, which is content: where that is not kept, its digest alone stays."""
    said: dict[str, Any] = {"image": facts.image, "image_digest": facts.image_digest}
    if content_kept:
        return said | {"command": list(facts.command)}
    return said | {"command_sha256": hashlib.sha256("\0".join(facts.command).encode()).hexdigest()}


def _key(names: Sequence[str]) -> str:
    return " ".join(names)
