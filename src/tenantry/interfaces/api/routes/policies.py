"""Policies: versions of documents in a place, tried in shadow, enforced; exemptions from them; proofs."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import Response

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.policies.errors import policy_not_found
from tenantry.capabilities.policies.service import find_widening
from tenantry.capabilities.policies.types import Exemption, Policy, State
from tenantry.engines.rules.proof import Counterexample
from tenantry.engines.rules.types import Kind
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Instant, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

StateQuery = Annotated[Literal["draft", "shadow", "enforced"], Query(description="what it is to be at once")]
VersionQuery = Annotated[
    int | None, Query(ge=1, le=2**53, description="else that in force, else that in shadow, else the newest")
]
KindQuery = Annotated[Kind, Query(description="image or network")]
Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


class PromotionBody(Body):
    version: int = Field(ge=1, le=2**53)
    state: Literal["shadow", "enforced", "retired"]


class ExemptionBody(Body):
    kind: Annotated[Kind, Field(strict=False)]
    rule: Line = Field(description="how the names of the rules begin that it lifts: `blocked_images[0]: *:latest`")
    owner: Line = Field(description="who answers for it")
    reason: Line
    expires_at: Instant


class PolicyAnswer(Answer):
    id: str
    kind: str
    workspace: str | None = Field(description="null: of the tenant as a whole")
    version: int
    state: str
    digest: str = Field(description="SHA-256 of its value in RFC 8785, in hex")
    document: dict[str, Any]
    source: str = Field(description="as it was written")
    created_at: Moment
    created_by: str
    changed_at: Moment


class ExemptionAnswer(Answer):
    id: str
    workspace: str | None = Field(description="null: of the tenant as a whole, and so of all below it")
    kind: str
    rule: str
    owner: str
    reason: str
    expires_at: Moment
    created_at: Moment
    created_by: str
    revoked_at: Moment | None


class ProofAnswer(Answer):
    wider: bool = Field(description="false: proven for everything there is, not for samples")
    counterexample: dict[str, Any] | None = Field(description="what is allowed with it, and what denies it now")


def kind_of(text: str) -> Kind:
    """Read the kind that a path names; raises NotFound for what is none."""
    try:
        return Kind(text)
    except ValueError:
        raise policy_not_found() from None


@routes.get("/tenants/{tenant}/policies/versions", needs=Permission.POLICY_READ)
async def list_tenant_versions(
    request: Request, tenant: str, kind: Kind | None = None, limit: Limit = 50, cursor: CursorText = None
) -> Page[PolicyAnswer]:
    """Every version of the tenant's own policies, newest first."""
    return await _versions(unit_of(request), kind, limit, cursor)


@routes.get("/workspaces/{ws}/policies/versions", needs=Permission.POLICY_READ)
async def list_workspace_versions(
    request: Request, ws: str, kind: Kind | None = None, limit: Limit = 50, cursor: CursorText = None
) -> Page[PolicyAnswer]:
    """Every version of the workspace's own policies, newest first."""
    return await _versions(unit_of(request), kind, limit, cursor)


@routes.get("/tenants/{tenant}/policies/{kind}", needs=Permission.POLICY_READ)
async def get_tenant_policy(request: Request, tenant: str, kind: str, version: VersionQuery = None) -> PolicyAnswer:
    """A policy of the tenant as a whole."""
    return await _policy(unit_of(request), kind, version)


@routes.get("/workspaces/{ws}/policies/{kind}", needs=Permission.POLICY_READ)
async def get_workspace_policy(request: Request, ws: str, kind: str, version: VersionQuery = None) -> PolicyAnswer:
    """A policy of the workspace itself; those of the tenant and the installation hold there as well."""
    return await _policy(unit_of(request), kind, version)


@routes.put("/tenants/{tenant}/policies/{kind}", needs=Permission.POLICY_CREATE, document=True)
async def put_tenant_policy(request: Request, tenant: str, kind: str, state: StateQuery = "draft") -> PolicyAnswer:
    """Make a new version of YAML or JSON; to enforce it takes policy:admin. A bad one leaves all as it is."""
    return await _put(unit_of(request), kind, state)


@routes.put("/workspaces/{ws}/policies/{kind}", needs=Permission.POLICY_CREATE, document=True)
async def put_workspace_policy(request: Request, ws: str, kind: str, state: StateQuery = "draft") -> PolicyAnswer:
    """Make a new version of YAML or JSON; to enforce it takes policy:admin. A bad one leaves all as it is."""
    return await _put(unit_of(request), kind, state)


async def _promoted(unit: Unit, resource_id: str) -> PolicyAnswer:
    kind, _, version = resource_id.partition("/")
    found = await unit.bundles.get(unit.scope.workspace_id, kind_of(kind), version=int(version))
    return _shown_policy(found)


@routes.post("/tenants/{tenant}/policies/{kind}/promote", needs=Permission.POLICY_CREATE, replay=_promoted)
async def promote_tenant_policy(request: Request, tenant: str, kind: str, body: PromotionBody) -> PolicyAnswer:
    """Bring a version into shadow or force, or retire it; what waits and is denied now ends in the same moment."""
    return await _promote(unit_of(request), kind, body)


@routes.post("/workspaces/{ws}/policies/{kind}/promote", needs=Permission.POLICY_CREATE, replay=_promoted)
async def promote_workspace_policy(request: Request, ws: str, kind: str, body: PromotionBody) -> PolicyAnswer:
    """Bring a version into shadow or force, or retire it; what waits and is denied now ends in the same moment."""
    return await _promote(unit_of(request), kind, body)


@routes.post("/tenants/{tenant}/policies/proof", needs=Permission.POLICY_READ, replay=None, document=True)
async def prove_tenant_policy(request: Request, tenant: str, kind: KindQuery) -> ProofAnswer:
    """Whether a candidate would allow anything that the tenant's policy in force denies; nothing is changed."""
    return await _proof(unit_of(request), kind)


@routes.post("/workspaces/{ws}/policies/proof", needs=Permission.POLICY_READ, replay=None, document=True)
async def prove_workspace_policy(request: Request, ws: str, kind: KindQuery) -> ProofAnswer:
    """Whether a candidate would allow anything that the workspace's policy in force denies; nothing is changed."""
    return await _proof(unit_of(request), kind)


async def _exempted(unit: Unit, resource_id: str) -> ExemptionAnswer:
    exemption_id = parse_id(Prefix.EXEMPTION, resource_id)
    return _shown_exemption(await unit.exemptions.get(unit.scope.workspace_id, exemption_id))


@routes.get("/tenants/{tenant}/exemptions", needs=Permission.POLICY_READ)
async def list_tenant_exemptions(
    request: Request, tenant: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[ExemptionAnswer]:
    """Exemptions of the tenant as a whole, newest first, ended ones too."""
    return await _exemptions(unit_of(request), limit, cursor)


@routes.get("/workspaces/{ws}/exemptions", needs=Permission.POLICY_READ)
async def list_workspace_exemptions(
    request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[ExemptionAnswer]:
    """Exemptions of the workspace, newest first, ended ones too."""
    return await _exemptions(unit_of(request), limit, cursor)


@routes.post("/tenants/{tenant}/exemptions", needs=Permission.POLICY_ADMIN, replay=_exempted, status=201)
async def create_tenant_exemption(request: Request, tenant: str, body: ExemptionBody) -> ExemptionAnswer:
    """Lift a rule of the tenant or its workspaces for a time."""
    return await _exempt(unit_of(request), body)


@routes.post("/workspaces/{ws}/exemptions", needs=Permission.POLICY_ADMIN, replay=_exempted, status=201)
async def create_workspace_exemption(request: Request, ws: str, body: ExemptionBody) -> ExemptionAnswer:
    """Lift a rule of the workspace for a time; those of the tenant and the installation hold all the same."""
    return await _exempt(unit_of(request), body)


@routes.delete("/tenants/{tenant}/exemptions/{exemption}", needs=Permission.POLICY_ADMIN, status=204, media_type="")
async def revoke_tenant_exemption(request: Request, tenant: str, exemption: str) -> Response:
    """End an exemption now."""
    return await _revoke(unit_of(request), exemption)


@routes.delete("/workspaces/{ws}/exemptions/{exemption}", needs=Permission.POLICY_ADMIN, status=204, media_type="")
async def revoke_workspace_exemption(request: Request, ws: str, exemption: str) -> Response:
    """End an exemption now."""
    return await _revoke(unit_of(request), exemption)


async def _versions(unit: Unit, kind: Kind | None, limit: int, cursor: str | None) -> Page[PolicyAnswer]:
    kinds, filters = (kind,) if kind else tuple(Kind), str(kind)
    found = await unit.bundles.list_versions(
        unit.scope.workspace_id, kinds=kinds, before=after(unit, cursor, filters=filters), limit=limit + 1
    )
    items = [_shown_policy(each) for each in found]
    ids = [each.policy_id for each in found]
    return Page[PolicyAnswer](**page(unit, items, ids=ids, limit=limit, filters=filters))


async def _policy(unit: Unit, kind: str, version: int | None) -> PolicyAnswer:
    return _shown_policy(await unit.bundles.get(unit.scope.workspace_id, kind_of(kind), version=version))


async def _put(unit: Unit, kind: str, state: str) -> PolicyAnswer:
    wanted, place = kind_of(kind), unit.scope.workspace_id
    if state == State.ENFORCED:
        unit.require(Permission.POLICY_ADMIN)
    content = await unit.request.body()
    made = await unit.bundles.put(place, wanted, content, state=State(state), if_version=unit.if_version)
    return _shown_policy(made)


async def _promote(unit: Unit, kind: str, body: PromotionBody) -> PolicyAnswer:
    wanted, place = kind_of(kind), unit.scope.workspace_id
    if body.state != "shadow":  # to take one out of force widens
        unit.require(Permission.POLICY_ADMIN)
    unit.resource_id = f"{wanted}/{body.version}"
    return _shown_policy(await unit.bundles.promote(place, wanted, body.version, State(body.state)))


async def _proof(unit: Unit, kind: Kind) -> ProofAnswer:
    versions = await unit.bundles.list_versions(unit.scope.workspace_id, kinds=(kind,), limit=1)
    present = await unit.bundles.get(unit.scope.workspace_id, kind) if versions else None
    await unit.settle()  # no connection is held while it is proven
    found = await find_widening(kind, present, await unit.request.body())
    return ProofAnswer(wider=found is not None, counterexample=_shown_example(found) if found else None)


async def _exemptions(unit: Unit, limit: int, cursor: str | None) -> Page[ExemptionAnswer]:
    place: UUID | None = unit.scope.workspace_id
    found = await unit.exemptions.list_exemptions(place, before=after(unit, cursor), limit=limit + 1)
    items = [_shown_exemption(each) for each in found]
    return Page[ExemptionAnswer](**page(unit, items, ids=[each.exemption_id for each in found], limit=limit))


async def _exempt(unit: Unit, body: ExemptionBody) -> ExemptionAnswer:
    made = await unit.exemptions.create(
        unit.scope.workspace_id,
        kind=body.kind,
        rule=body.rule,
        owner=body.owner,
        reason=body.reason,
        expires_at=body.expires_at,
    )
    unit.resource_id = format_id(Prefix.EXEMPTION, made.exemption_id)
    return _shown_exemption(made)


async def _revoke(unit: Unit, exemption: str) -> Response:
    await unit.exemptions.revoke(unit.scope.workspace_id, parse_id(Prefix.EXEMPTION, exemption))
    return Response(status_code=204)


def _shown_policy(policy: Policy) -> PolicyAnswer:
    return PolicyAnswer(
        id=format_id(Prefix.POLICY, policy.policy_id),
        kind=policy.kind,
        workspace=named(Prefix.WORKSPACE, policy.workspace_id),
        version=policy.version,
        state=policy.state,
        digest=policy.digest,
        document=dict(policy.document),
        source=policy.source,
        created_at=policy.created_at,
        created_by=policy.created_by,
        changed_at=policy.changed_at,
    )


def _shown_exemption(exemption: Exemption) -> ExemptionAnswer:
    return ExemptionAnswer(
        id=format_id(Prefix.EXEMPTION, exemption.exemption_id),
        workspace=named(Prefix.WORKSPACE, exemption.workspace_id),
        kind=exemption.kind,
        rule=exemption.rule,
        owner=exemption.owner,
        reason=exemption.reason,
        expires_at=exemption.expires_at,
        created_at=exemption.created_at,
        created_by=exemption.created_by,
        revoked_at=exemption.revoked_at,
    )


def _shown_example(found: Counterexample) -> dict[str, Any]:
    return {"subject": found.subject, "denied_by": found.denied.rule, "why": found.denied.message}
