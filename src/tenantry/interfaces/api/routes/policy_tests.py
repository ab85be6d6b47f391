"""What policies would say of a job or deployment, and what those in shadow would have said of the last jobs."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import Request
from pydantic import BeforeValidator, Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.policies.types import Checked, Difference, Outcome, Reason
from tenantry.engines.rules.types import DeploymentFacts, JobFacts, Phase
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.job_forms import ConnectionBody, Slug, Text, VariableName
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, Moment
from tenantry.interfaces.api.unit import unit_of

routes = RouteRegistry()

_Labels = Annotated[dict[str, Annotated[str, Field(max_length=200)]], Field(max_length=50)]


def _number(value: object) -> object:
    """Whole numbers are fine where decimals are; booleans are not."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


_Amount = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e15, allow_inf_nan=False)]
_Types = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=1000)]


class JobSpec(Body):
    """As a job is asked for; what decides nothing is left out, and of variables the names are enough."""

    command: list[Text] = Field(min_length=1, max_length=1000)
    image: str = Field(default="host", min_length=1, max_length=500)
    image_digest: str | None = Field(default=None, max_length=200)
    env: dict[VariableName, Text] | list[VariableName] = Field(default=[], max_length=200)
    environment: Slug | None = None
    workflow: str | None = Field(default=None, max_length=200)
    labels: _Labels = Field(default={})
    network: list[ConnectionBody] = Field(default=[], max_length=64)
    phase: Annotated[Phase, Field(strict=False, description="which of a job's programs it is")] = Phase.RUN
    cpus: _Amount = 1.0
    memory_mib: int = Field(default=512, ge=0, le=1 << 40)
    timeout_seconds: _Amount = 600.0


class DeploymentSpec(Body):
    """What there would be after a deployment, in sum."""

    resource_types: _Types = Field(default=[])
    instance_types: _Types = Field(default=[])
    instances: int = Field(default=0, ge=0, le=10**9)
    disk_size_gb: _Amount = 0.0
    monthly_cost_usd: _Amount = 0.0
    engine: str = Field(default="terraform", max_length=100)
    action: str = Field(default="apply", max_length=100)
    environment: Slug | None = None
    workflow: str | None = Field(default=None, max_length=200)
    labels: _Labels = Field(default={})


class TestBody(Body):
    """Exactly one of the two."""

    job: JobSpec | None = None
    deployment: DeploymentSpec | None = None


class ReasonAnswer(Answer):
    layer: str
    kind: str
    rule: str
    effect: str = Field(description="deny or warn")
    message: str
    allow_with: str
    exempted_by: str | None = Field(description="the exemption that lifts it")


class OutcomeAnswer(Answer):
    decision: str = Field(description="allow, warn or deny")
    layer: str | None = Field(description="whose rule decided: platform, tenant or workspace")
    rule: str | None
    reasons: list[ReasonAnswer]
    requires_approval: bool


class TestAnswer(OutcomeAnswer):
    shadow: OutcomeAnswer | None = Field(description="what it would be with what is in shadow; null: nothing is")


class DifferenceAnswer(Answer):
    id: str | None = Field(description="of the decision that was remembered; null: asked anew now")
    at: Moment
    principal: str
    subject: dict[str, Any] = Field(description="where content is not kept, of a command its digest alone")
    decision: str
    layer: str | None
    rule: str | None
    shadow_decision: str
    shadow_rule: str | None


class ShadowDiffAnswer(Answer):
    shadow: list[str] = Field(description="what is in shadow: layer/kind@version")
    decisions: int = Field(description="so many of the last were looked at, 200 at most")
    changed: list[DifferenceAnswer] = Field(description="those that would be others")


@routes.post("/workspaces/{ws}/policies/test", needs=Permission.POLICY_READ, replay=None)
async def test_policies(request: Request, ws: str, body: TestBody) -> TestAnswer:
    """What all layers would say of a job or of a deployment; nothing is made or remembered."""
    unit = unit_of(request)
    if (body.job is None) == (body.deployment is None):
        raise Invalid("spec_ambiguous", "body: give exactly one of job and deployment", layer="api", field="body")
    settings = (await unit.workspaces.get(unit.workspace_id)).settings
    if body.job is not None:
        checked = await unit.policies.check_job(
            (_job_facts(body.job),), workspace_id=unit.workspace_id, settings=settings
        )
    elif body.deployment is not None:
        facts = _deployment_facts(body.deployment)
        checked = await unit.policies.check_deployment(facts, workspace_id=unit.workspace_id, settings=settings)
    return _shown(checked)


@routes.get("/workspaces/{ws}/policies/shadow-diff", needs=Permission.POLICY_READ)
async def get_shadow_diff(request: Request, ws: str) -> ShadowDiffAnswer:
    """Which of the last decisions would be others, were enforced what is in shadow now.

    What was decided before it came into shadow is asked anew, without the names of variables.
    """
    unit = unit_of(request)
    settings = (await unit.workspaces.get(unit.workspace_id)).settings
    found = await unit.policies.shadow_diff(unit.workspace_id, settings=settings)
    return ShadowDiffAnswer(
        shadow=list(found.shadow_of), decisions=found.decisions, changed=[_difference(each) for each in found.changed]
    )


def _job_facts(spec: JobSpec) -> JobFacts:
    return JobFacts(
        image=spec.image,
        command=tuple(spec.command),
        environment=spec.environment,
        workflow=spec.workflow,
        labels=spec.labels,
        env_names=tuple(sorted(spec.env)),
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        timeout_seconds=spec.timeout_seconds,
        network=tuple(each.connection for each in spec.network),
        image_digest=spec.image_digest,
        phase=spec.phase,
    )


def _deployment_facts(spec: DeploymentSpec) -> DeploymentFacts:
    return DeploymentFacts(
        resource_types=tuple(spec.resource_types),
        instance_types=tuple(spec.instance_types),
        instances=spec.instances,
        disk_size_gb=spec.disk_size_gb,
        monthly_cost_usd=Decimal(str(spec.monthly_cost_usd)),
        engine=spec.engine,
        action=spec.action,
        environment=spec.environment,
        workflow=spec.workflow,
        labels=spec.labels,
    )


def _shown(checked: Checked) -> TestAnswer:
    shadow = _outcome(checked.shadow) if checked.shadow is not None else None
    return TestAnswer(**_outcome(checked.outcome).model_dump(), shadow=shadow)


def _outcome(outcome: Outcome) -> OutcomeAnswer:
    decisive = outcome.decisive
    return OutcomeAnswer(
        decision=outcome.decision,
        layer=decisive.layer if decisive else None,
        rule=decisive.rule if decisive else None,
        reasons=[_reason(each) for each in outcome.reasons],
        requires_approval=outcome.requires_approval,
    )


def _reason(reason: Reason) -> ReasonAnswer:
    return ReasonAnswer(
        layer=reason.layer,
        kind=reason.kind,
        rule=reason.rule,
        effect=reason.effect,
        message=reason.message,
        allow_with=reason.remedy,
        exempted_by=format_id(Prefix.EXEMPTION, reason.exempted_by) if reason.exempted_by else None,
    )


def _difference(decision: Difference) -> DifferenceAnswer:
    return DifferenceAnswer(
        id=format_id(Prefix.DECISION, decision.decision_id) if decision.decision_id is not None else None,
        at=decision.at,
        principal=decision.principal,
        subject=dict(decision.subject),
        decision=decision.verdict,
        layer=decision.layer,
        rule=decision.rule,
        shadow_decision=decision.shadow_verdict,
        shadow_rule=decision.shadow_rule,
    )
