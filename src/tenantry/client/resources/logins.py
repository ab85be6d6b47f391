"""How people get into a tenant: identity providers, invitations, and the logins of members."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from tenantry.client.access_types import IdentityProvider, Invitation, MemberLogin
from tenantry.client.calls import Call, delete, get, given, patch, place_of, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.resources.placed import Placed

T = TypeVar("T")


class IdentityProviders(Resource[T]):
    @Operation
    def create(
        self,
        *,
        tenant: str,
        slug: str,
        name: str,
        issuer: str,
        client_id: str,
        client_secret: str | None = None,
        scopes: Sequence[str] | None = None,
        rules: Sequence[Mapping[str, object]] | None = None,
        redirects: Sequence[str] | None = None,
        accepts_invitations: bool | None = None,
    ) -> Call[IdentityProvider]:
        """Let people in. A rule names a claim, `equals`, `contains` or `matches_domain`, and the role that it gives."""
        body = given(
            slug=slug,
            name=name,
            issuer=issuer,
            client_id=client_id,
            client_secret=client_secret,
            scopes=scopes,
            rules=rules,
            redirects=redirects,
            accepts_invitations=accepts_invitations,
        )
        return post("tenants", tenant, "identity-providers", json=body)

    @Listing
    def list(self, *, tenant: str, limit: int | None = None, cursor: str | None = None) -> Plan[IdentityProvider]:
        return Plan(call=get("tenants", tenant, "identity-providers"), limit=limit, cursor=cursor)

    @Operation
    def get(self, provider: str, *, tenant: str) -> Call[IdentityProvider]:
        return get("tenants", tenant, "identity-providers", provider)

    @Operation
    def update(
        self, provider: str, changes: Mapping[str, object], *, tenant: str, if_match: str | None = None
    ) -> Call[IdentityProvider]:
        """Change it: new rules count from each person's next login on, `status` `disabled` ends all its logins."""
        return patch("tenants", tenant, "identity-providers", provider, json=changes, if_match=if_match)

    @Operation
    def delete(self, provider: str, *, tenant: str) -> Call[None]:
        """Remove it, its logins, and what its rules gave."""
        return delete("tenants", tenant, "identity-providers", provider)


class Invitations(Placed[T, Invitation]):
    kind = "invitations"

    @Operation
    def create(
        self,
        *,
        email: str,
        role: str,
        workspace: str | None = None,
        tenant: str | None = None,
        expires_at: str | None = None,
    ) -> Call[Invitation]:
        """Offer a role to whoever logs in with this address, verified. `expires_at` is RFC 3339."""
        body = given(email=email, role=role, expires_at=expires_at)
        return post(*place_of(workspace, tenant), "invitations", json=body)

    @Operation
    def revoke(self, invitation: str, *, workspace: str | None = None, tenant: str | None = None) -> Call[Invitation]:
        return delete(*place_of(workspace, tenant), "invitations", invitation)


class MemberLogins(Resource[T]):
    @Listing
    def list(
        self, *, tenant: str, member: str, limit: int | None = None, cursor: str | None = None
    ) -> Plan[MemberLogin]:
        return Plan(call=get("tenants", tenant, "members", member, "logins"), limit=limit, cursor=cursor)

    @Operation
    def end(self, login: str, *, tenant: str, member: str) -> Call[None]:
        return delete("tenants", tenant, "members", member, "logins", login)

    @Operation
    def end_all(self, *, tenant: str, member: str) -> Call[dict[str, int]]:
        """End all logins of a member, everywhere within a second."""
        return delete("tenants", tenant, "members", member, "logins")
