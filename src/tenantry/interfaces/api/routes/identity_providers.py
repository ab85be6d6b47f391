"""Identity providers of a tenant."""

from collections.abc import Iterable
from typing import Annotated, Any, Self

from fastapi import Request
from pydantic import Field, model_validator

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.identity.service import NewProvider, checked_issuer
from tenantry.capabilities.identity.types import ClaimRule, IdentityProvider, Match, ProviderStatus
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_Printable = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[\x20-\x7e]+$")]
_Scope = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]
_Value = Annotated[str, Field(min_length=1, max_length=300)]


class RuleBody(Body):
    claim: str = Field(min_length=1, max_length=200, description="its name, or a path of names by dots")
    equals: _Value | None = Field(default=None, description="the claim is this text, number, true or false")
    contains: _Value | None = Field(default=None, description="the claim is a list that holds this text")
    matches_domain: _Value | None = Field(default=None, description="the claim is an address at this domain, or it")
    role: str = Field(min_length=1, max_length=60)
    workspace: str | None = Field(default=None, max_length=60, description="none: in the whole tenant")

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if sum(value is not None for value in (self.equals, self.contains, self.matches_domain)) != 1:
            raise ValueError("exactly one of equals, contains and matches_domain")
        return self

    def as_rule(self) -> ClaimRule:
        for match in Match:
            value: str | None = getattr(self, match.value)
            if value is not None:
                workspace_id = parse_id(Prefix.WORKSPACE, self.workspace) if self.workspace else None
                return ClaimRule(self.claim, match, value, self.role, workspace_id)
        raise Invalid("invalid_request", "rules: no condition", layer="api")


_Rules = Annotated[list[RuleBody], Field(max_length=100)]
_Scopes = Annotated[list[_Scope], Field(max_length=20)]
_Redirects = Annotated[list[_Printable], Field(max_length=20)]


class ProviderBody(Body):
    slug: str = Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
    name: DisplayName
    issuer: str = Field(min_length=1, max_length=400, description="as the provider calls itself, to the letter")
    client_id: _Printable
    client_secret: _Printable | None = Field(default=None, description="none: a public client, held by PKCE alone")
    scopes: _Scopes = Field(default=["openid", "email", "profile"])
    rules: _Rules = Field(default=[], description="each that matches gives its role")
    redirects: _Redirects = Field(default=[], description="addresses of programs besides loopback")
    accepts_invitations: bool = Field(
        default=True, description="whether addresses it calls verified take up invitations"
    )


class ProviderChanges(Body):
    name: DisplayName | None = None
    client_id: _Printable | None = None
    client_secret: _Printable | None = None
    scopes: _Scopes | None = None
    rules: _Rules | None = None
    redirects: _Redirects | None = None
    accepts_invitations: bool | None = None
    status: str | None = Field(default=None, pattern="^(active|disabled)$", description="disabling ends its logins")


class RuleAnswer(Answer):
    claim: str
    equals: str | None = None
    contains: str | None = None
    matches_domain: str | None = None
    role: str
    workspace: str | None


class ProviderAnswer(Answer):
    id: str
    slug: str
    name: str
    issuer: str
    client_id: str
    has_secret: bool = Field(description="the secret itself is never shown")
    scopes: list[str]
    rules: list[RuleAnswer]
    redirects: list[str]
    accepts_invitations: bool
    status: str
    version: int
    created_at: Moment
    created_by: str


async def _again(unit: Unit, resource_id: str) -> ProviderAnswer:
    return _render(await unit.providers.get(parse_id(Prefix.PROVIDER, resource_id)))


@routes.post(
    "/tenants/{tenant}/identity-providers",
    needs=Permission.MEMBER_ADMIN,
    replay=_again,
    status=201,
    feature=Feature.SSO,
)
async def create_identity_provider(request: Request, tenant: str, body: ProviderBody) -> ProviderAnswer:
    """Let people of an OpenID Provider in. Its rules give no more than who configures them holds."""
    unit = unit_of(request)
    keyset = await unit.keyset()
    issuer = checked_issuer(body.issuer, allow_private=unit.runtime.settings.identity.allow_private_issuers)
    provider = await unit.providers.create(
        NewProvider(
            slug=body.slug,
            name=body.name,
            issuer=issuer,
            client_id=body.client_id,
            client_secret=body.client_secret,
            scopes=tuple(body.scopes),
            rules=await _rules(unit, body.rules),
            redirects=tuple(body.redirects),
            accepts_invitations=body.accepts_invitations,
        ),
        scopes=await unit.grantor(),
        keyset=keyset,
    )
    unit.resource_id = format_id(Prefix.PROVIDER, provider.provider_id)
    return _render(provider)


@routes.get("/tenants/{tenant}/identity-providers", needs=Permission.MEMBER_READ)
async def list_identity_providers(
    request: Request,
    tenant: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[ProviderAnswer]:
    """The tenant's identity providers, without their secrets."""
    unit = unit_of(request)
    found = await unit.providers.list_providers(after=after(unit, cursor), limit=limit + 1)
    items = [_render(each) for each in found]
    return Page[ProviderAnswer](**page(unit, items, ids=[each.provider_id for each in found], limit=limit))


@routes.get("/tenants/{tenant}/identity-providers/{provider}", needs=Permission.MEMBER_READ)
async def get_identity_provider(request: Request, tenant: str, provider: str) -> ProviderAnswer:
    """One identity provider, without its secret."""
    unit = unit_of(request)
    found = await _again(unit, provider)
    unit.show_version(found.version)
    return found


@routes.patch("/tenants/{tenant}/identity-providers/{provider}", needs=Permission.MEMBER_ADMIN)
async def change_identity_provider(
    request: Request, tenant: str, provider: str, body: ProviderChanges
) -> ProviderAnswer:
    """Change the named fields. New rules count from each person's next login on; disabling ends all its logins."""
    unit = unit_of(request)
    keyset = await unit.keyset()
    changes = _changes(body)
    if "rules" in changes:
        changes["rules"] = await _rules(unit, changes["rules"])
    changed = await unit.providers.update(
        parse_id(Prefix.PROVIDER, provider),
        changes,
        if_version=unit.if_version,
        scopes=await unit.grantor(),
        keyset=keyset,
    )
    unit.show_version(changed.version)
    return _render(changed)


@routes.delete("/tenants/{tenant}/identity-providers/{provider}", needs=Permission.MEMBER_ADMIN, status=204)
async def delete_identity_provider(request: Request, tenant: str, provider: str) -> None:
    """Remove it, end all logins that came by it, and take away what its rules gave."""
    await unit_of(request).providers.delete(parse_id(Prefix.PROVIDER, provider))


async def _rules(unit: Unit, bodies: Iterable[RuleBody]) -> tuple[ClaimRule, ...]:
    """Read rules; raises NotFound for one that names a workspace which is none of the tenant's."""
    rules = tuple(body.as_rule() for body in bodies)
    for workspace_id in {rule.workspace_id for rule in rules if rule.workspace_id is not None}:
        await unit.workspaces.get(workspace_id)
    return rules


def _changes(body: ProviderChanges) -> dict[str, Any]:
    """Give what is named; null means the same as nothing, but for the secret, which it removes."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    given = {name: value for name, value in given.items() if value is not None or name == "client_secret"}
    if "status" in given:
        given["status"] = ProviderStatus(given["status"])
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _render(provider: IdentityProvider) -> ProviderAnswer:
    return ProviderAnswer(
        id=format_id(Prefix.PROVIDER, provider.provider_id),
        slug=provider.slug,
        name=provider.name,
        issuer=provider.issuer,
        client_id=provider.client_id,
        has_secret=provider.sealed_secret is not None,
        scopes=list(provider.scopes),
        rules=[
            RuleAnswer(
                claim=rule.claim,
                role=rule.role,
                workspace=named(Prefix.WORKSPACE, rule.workspace_id),
                **{rule.match.value: rule.value},
            )
            for rule in provider.rules
        ],
        redirects=list(provider.redirects),
        accepts_invitations=provider.accepts_invitations,
        status=provider.status,
        version=provider.version,
        created_at=provider.created_at,
        created_by=provider.created_by,
    )
