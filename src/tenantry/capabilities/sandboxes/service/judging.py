"""A job in the words of policies, and what they say of it in the words of jobs."""

from collections.abc import Mapping, Sequence
from typing import Final

from tenantry.capabilities.policies.errors import policy_denied
from tenantry.capabilities.policies.types import Layer, Outcome, Reason
from tenantry.capabilities.sandboxes.types import Job
from tenantry.engines.rules.types import Effect, JobFacts, Kind
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id

DENIED_BY_POLICY: Final = "policy_denied"
_MOST_DETAIL: Final = 500


def facts_of(job: Job, *, env_names: Sequence[str]) -> JobFacts:
    """Tell what policies may look at; of variables, those that hold secrets too, their names alone."""
    names = {*env_names, *(each.env for each in job.secrets if each.env is not None)}
    return JobFacts(
        image=job.image,
        command=job.command,
        environment=job.environment,
        labels=job.labels,
        env_names=tuple(sorted(names)),
        cpus=job.limits.cpus,
        memory_mib=job.limits.memory_mib,
        timeout_seconds=job.limits.timeout_seconds,
        network=job.network,
        image_digest=job.image_digest,
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
