"""A job in the words of policies, and what they say of it in the words of jobs."""

from collections.abc import Mapping, Sequence
from typing import Final

from tenantry.capabilities.policies.errors import policy_denied
from tenantry.capabilities.policies.types import Layer, Outcome, Reason
from tenantry.capabilities.sandboxes.types import Job, JobPhase
from tenantry.engines.rules.types import Effect, JobFacts, Kind, Phase
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id

DENIED_BY_POLICY: Final = "policy_denied"
_MOST_DETAIL: Final = 500


def facts_of(job: Job, *, env_names: Mapping[Phase, Sequence[str]]) -> tuple[JobFacts, ...]:
    """Tell what policies may look at, program by program; of variables, also those of secrets, the names alone."""
    return tuple(_facts(job, program, env_names.get(program.phase, ())) for program in job.programs)


def _facts(job: Job, program: JobPhase, env_names: Sequence[str]) -> JobFacts:
    held = {each.env for each in job.secrets if each.env is not None and each.phase is program.phase}
    return JobFacts(
        image=program.image,
        command=program.command,
        environment=job.environment,
        labels=job.labels,
        env_names=tuple(sorted({*env_names, *held})),
        cpus=job.limits.cpus,
        memory_mib=job.limits.memory_mib,
        timeout_seconds=job.limits.timeout_seconds,
        network=tuple(each for each in job.network if each.phase is program.phase),
        image_digest=program.image_digest,
        phase=program.phase,
    )


def detail_of(outcome: Outcome) -> str:
    """Say for people which layer and rule denied, why, and what would help."""
    reason = outcome.decisive
    if reason is None:
        return ""
    text = f"{reason.kind} policy of the {reason.layer}, {reason.rule}: {reason.message} {reason.remedy}"
    return text.strip()[:_MOST_DETAIL]


def refusal_of(job: Job, reason: Reason | None) -> Denied:
    """Make the answer to whoever asked for a job that was denied and recorded."""
    current = job.image if reason is not None and reason.kind is Kind.IMAGE else None
    return policy_denied(
        job.detail or "denied by policy", job=format_id(Prefix.JOB, job.job_id), reason=reason, current=current
    )


def reason_of(told: Mapping[str, str]) -> Reason:
    """Read a reason that was remembered, of which the words of the message are not kept."""
    return Reason(Layer(told["layer"]), Kind(told["kind"]), told["rule"], Effect(told["effect"]), "", told["remedy"])
