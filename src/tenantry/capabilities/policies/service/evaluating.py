"""What all layers say of something. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from tenantry.capabilities.policies.types import (
    EXEMPTIBLE,
    UNJUDGED,
    Exemption,
    Layer,
    Outcome,
    Placed,
    Reason,
)
from tenantry.engines.rules.documents import Bundle
from tenantry.engines.rules.types import Effect, Finding, JobFacts, Kind, Verdict

Ask = Callable[[Bundle], Verdict]

_NO_NETWORK: Final = Finding(
    "default deny",
    Effect.DENY,
    "No policy of any layer allows connections here.",
    "Have a network policy enforced that allows these hosts and ports.",
)

_UNUSABLE = Finding(
    "document",
    Effect.DENY,
    "What stands here cannot be compiled any more.",
    "Put it anew: the answer names what is wrong with it.",
)


def ask_all(work: Sequence[JobFacts]) -> Ask:
    """Ask about each program of a job; where there are several, what is found names the one it is of."""

    def ask(bundle: Bundle) -> Verdict:
        if len(work) == 1:
            return bundle.check_job(work[0])
        return Verdict(
            tuple(
                replace(finding, message=f"In the phase {facts.phase}: {finding.message}")
                for facts in work
                for finding in bundle.check_job(facts).findings
            )
        )

    return ask


def judge(
    placed: Iterable[Placed], ask: Ask, *, exemptions: Sequence[Exemption], now: datetime, network: bool = False
) -> Outcome:
    """Ask every layer; what one denies is denied unless an exemption lifts just that rule.

    `network` says that connections are asked for: denied as well where no layer has said anything of them.
    """
    reasons = []
    approval = False
    for place in placed:
        findings = (_UNUSABLE,) if place.bundle is None else ask(place.bundle).findings
        network = network and not (place.kind is Kind.NETWORK and findings)
        approval = approval or (place.bundle is not None and place.bundle.requires_approval)
        for finding in findings:
            if finding.effect is Effect.ALLOW:
                continue
            rule = place.prefix + finding.rule
            lifted_by = next((each for each in exemptions if _lifts(each, place, rule, finding, now)), None)
            reasons.append(
                Reason(
                    place.layer,
                    place.kind,
                    rule,
                    finding.effect,
                    finding.message,
                    finding.remedy,
                    lifted_by.exemption_id if lifted_by else None,
                )
            )
    if network:
        found = _NO_NETWORK
        reasons.append(Reason(Layer.PLATFORM, Kind.NETWORK, found.rule, found.effect, found.message, found.remedy))
    return Outcome(tuple(reasons), approval)


def _lifts(exemption: Exemption, place: Placed, rule: str, finding: Finding, now: datetime) -> bool:
    """Say whether it holds, and was made in a place at least as high as the layer whose rule it names."""
    own = (Layer.WORKSPACE,) if exemption.workspace_id is not None else (Layer.TENANT, Layer.WORKSPACE)
    return (
        place.layer in own
        and place.kind is exemption.kind
        and place.kind in EXEMPTIBLE
        and finding.rule not in UNJUDGED
        and rule.startswith(exemption.rule)
        and exemption.revoked_at is None
        and exemption.expires_at > now
    )
