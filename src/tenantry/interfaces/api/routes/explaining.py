"""Would it be allowed, by what, and what is missing: asked without doing it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.errors import permission_missing
from tenantry.capabilities.access.service import decide
from tenantry.capabilities.access.types import Access, Circumstances, Permission
from tenantry.foundation.errors import Invalid, TenantryError
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.interfaces.api.context import not_found
from tenantry.interfaces.api.routes.jobs import JobBody, rehearse_job
from tenantry.interfaces.api.routing import Mark, RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class Question(Body):
    permission: str | None = Field(default=None, description="of a `job` `job:create`, unless told")
    job: JobBody | None = Field(default=None, description="would it be accepted: by plan, limits, policies and quotas")
    workspace: str | None = None
    environment: str | None = Field(default=None, max_length=60)
    labels: dict[str, str] | None = Field(default=None, max_length=50)
    principal: str | None = Field(default=None, max_length=60, description="somebody else: asks for `role:read`")


class Explanation(Answer):
    decision: str
    reason: str
    layer: str = Field(default="access", description="what has decided: access, limits, policies, …")
    code: str | None = Field(default=None, description="of a refusal by another layer than access: that of its problem")
    rule: str | None = Field(default=None, description="of a policy")
    limit: Any = Field(default=None, description="which limit, and how much it is")
    current: Any = Field(default=None, description="the present value")
    by: str | None = Field(description="the binding, grant or key that decided")
    allow_with: list[str] = Field(description="roles that hold what is missing, smallest first")
    depends_on: list[str] = Field(description="what the question would have to name for another answer")


@routes.post("/explain", needs=Mark.AUTHENTICATED, replay=None)
async def explain(request: Request, body: Question) -> Explanation:
    """Tell whether a credential or principal may do something, by what, and what is missing; nothing is done."""
    asked = body.permission or (Permission.JOB_CREATE.value if body.job is not None else "")
    if asked not in Permission.__members__.values():
        raise Invalid("permission_unknown", "permission: is not one of the catalogue", layer="access")
    unit = unit_of(request)
    workspace_id = parse_id(Prefix.WORKSPACE, body.workspace) if body.workspace else unit.scope.workspace_id
    path = None if workspace_id is None else await _path_of(unit, workspace_id)
    environment = body.job.environment if body.job else body.environment
    labels = body.job.labels if body.job else body.labels
    told = environment is not None or labels is not None
    about = Circumstances(path=path, told=told, environment=environment, labels=labels or {})
    access = unit.caller.access if body.principal is None else await _access_of(unit, body.principal, workspace_id)
    decision = decide(access, Permission(asked), workspace_id, about)
    if body.job is not None and workspace_id is not None and decision.allowed:
        own = decide(unit.caller.access, Permission.JOB_CREATE, workspace_id, about)
        if not own.allowed:
            raise permission_missing(Permission.JOB_CREATE, own)
        if (refusal := await rehearse_job(unit, body.job, workspace_id=workspace_id)) is not None:
            return _refused(refusal, by=decision.source)
    return Explanation(
        decision=decision.outcome,
        reason=decision.reason,
        by=decision.source,
        allow_with=list(decision.allow_with),
        depends_on=["environment", "labels"] if decision.conditional else [],
    )


def _refused(error: TenantryError, *, by: str | None) -> Explanation:
    """Tell what a problem would tell."""
    fields: Mapping[str, Any] = error.fields
    return Explanation(
        decision="deny",
        reason=error.message,
        layer=error.layer,
        code=error.code,
        rule=fields.get("rule"),
        limit=fields.get("limit"),
        current=fields.get("current"),
        by=by,
        allow_with=list(fields.get("allow_with", ())),
        depends_on=[],
    )


async def _access_of(unit: Unit, principal: str, workspace_id: UUID | None) -> Access:
    """Tell what somebody else may do; raises Denied without `role:read` there, NotFound for who is nobody."""
    needs = Permission.ROLE_READ
    own = decide(unit.caller.access, needs, workspace_id)
    if not own.allowed:
        raise permission_missing(needs, own)
    await unit.access.require_principal(principal, workspace_id=workspace_id)
    return (await unit.rights_of(principal)).access


async def _path_of(unit: Unit, workspace_id: UUID) -> str:
    """Tell a workspace's path; raises NotFound where the guard would: it is not the caller's to know of."""
    caller = unit.caller
    state = None
    if caller.workspace_id in (None, workspace_id) and caller.access.knows(workspace_id):
        state = await unit.runtime.admission.workspace_state(caller, workspace_id)
    if state is None:
        raise not_found()
    return state.path
