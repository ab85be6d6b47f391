"""SQL of identity providers and invitations."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.identity.types import (
    ClaimRule,
    IdentityProvider,
    Invitation,
    InvitationStatus,
    Match,
    ProviderStatus,
)
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_PROVIDER: Final = (
    "provider_id, slug, name, issuer, client_id, sealed_secret, scopes, rules, redirects, accepts_invitations, "
    "status, version, created_at, created_by"
)
_INVITATION: Final = (
    "invitation_id, workspace_id, email, role, status, created_at, created_by, expires_at, accepted_at, accepted_by"
)


async def insert_provider(session: TenantSession, provider: IdentityProvider) -> bool:
    """Insert, or tell False when the slug is taken."""
    row = await session.fetchrow(
        f"""insert into identity_providers (tenant_id, {_PROVIDER})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
            on conflict (tenant_id, slug) do nothing returning provider_id""",
        session.scope.tenant_id,
        provider.provider_id,
        provider.slug,
        provider.name,
        provider.issuer,
        provider.client_id,
        provider.sealed_secret,
        list(provider.scopes),
        _stored_rules(provider.rules),
        list(provider.redirects),
        provider.accepts_invitations,
        provider.status.value,
        provider.version,
        provider.created_at,
        provider.created_by,
    )
    return row is not None


async def update_provider(session: TenantSession, provider: IdentityProvider) -> None:
    """Store what may change, as the next version; the row is locked by `lock_provider`."""
    await session.execute(
        """update identity_providers
           set name = $3, client_id = $4, sealed_secret = $5, scopes = $6, rules = $7, redirects = $8,
               accepts_invitations = $9, status = $10, version = version + 1
           where tenant_id = $1 and provider_id = $2""",
        session.scope.tenant_id,
        provider.provider_id,
        provider.name,
        provider.client_id,
        provider.sealed_secret,
        list(provider.scopes),
        _stored_rules(provider.rules),
        list(provider.redirects),
        provider.accepts_invitations,
        provider.status.value,
    )


async def delete_provider(session: TenantSession, provider_id: UUID) -> None:
    await session.execute(
        "delete from identity_providers where tenant_id = $1 and provider_id = $2",
        session.scope.tenant_id,
        provider_id,
    )


async def find_provider(session: TenantSession, provider_id: UUID) -> IdentityProvider | None:
    row = await session.fetchrow(
        f"select {_PROVIDER} from identity_providers where tenant_id = $1 and provider_id = $2",
        session.scope.tenant_id,
        provider_id,
    )
    return _provider(row) if row else None


async def lock_provider(session: TenantSession, provider_id: UUID) -> IdentityProvider | None:
    row = await session.fetchrow(
        f"select {_PROVIDER} from identity_providers where tenant_id = $1 and provider_id = $2 for update",
        session.scope.tenant_id,
        provider_id,
    )
    return _provider(row) if row else None


async def find_active_providers(session: TenantSession, *, slug: str | None) -> list[IdentityProvider]:
    """Find the one of this slug, or without a slug at most two: whether it is the only one."""
    rows = await session.fetch(
        f"""select {_PROVIDER} from identity_providers
            where tenant_id = $1 and status = 'active' and ($2::text is null or slug = $2)
            order by provider_id limit 2""",
        session.scope.tenant_id,
        slug,
    )
    return [_provider(row) for row in rows]


async def list_providers(session: TenantSession, *, after: UUID | None, limit: int) -> list[IdentityProvider]:
    rows = await session.fetch(
        f"""select {_PROVIDER} from identity_providers
            where tenant_id = $1 and ($2::uuid is null or provider_id > $2) order by provider_id limit $3""",
        session.scope.tenant_id,
        after,
        limit,
    )
    return [_provider(row) for row in rows]


async def insert_invitation(session: TenantSession, invitation: Invitation) -> None:
    await session.execute(
        f"""insert into invitations (tenant_id, {_INVITATION})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        session.scope.tenant_id,
        invitation.invitation_id,
        invitation.workspace_id,
        invitation.email,
        invitation.role,
        invitation.status.value,
        invitation.created_at,
        invitation.created_by,
        invitation.expires_at,
        invitation.accepted_at,
        invitation.accepted_by,
    )


async def find_invitation(
    session: TenantSession, invitation_id: UUID, *, workspace_id: UUID | None
) -> Invitation | None:
    row = await session.fetchrow(
        f"""select {_INVITATION} from invitations
            where tenant_id = $1 and invitation_id = $2 and workspace_id is not distinct from $3""",
        session.scope.tenant_id,
        invitation_id,
        workspace_id,
    )
    return _invitation(row) if row else None


async def list_invitations(
    session: TenantSession, *, workspace_id: UUID | None, after: UUID | None, limit: int
) -> list[Invitation]:
    rows = await session.fetch(
        f"""select {_INVITATION} from invitations
            where tenant_id = $1 and workspace_id is not distinct from $2 and ($3::uuid is null or invitation_id > $3)
            order by invitation_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [_invitation(row) for row in rows]


async def find_pending_invitations(session: TenantSession, *, email: str, now: datetime) -> list[Invitation]:
    """Find and lock those that wait for an address, given in lower case."""
    rows = await session.fetch(
        f"""select {_INVITATION} from invitations
            where tenant_id = $1 and email = $2 and status = 'pending' and expires_at > $3
            order by invitation_id limit 100 for update""",
        session.scope.tenant_id,
        email,
        now,
    )
    return [_invitation(row) for row in rows]


async def accept_invitation(session: TenantSession, invitation_id: UUID, *, user_id: UUID, now: datetime) -> None:
    await session.execute(
        """update invitations set status = 'accepted', accepted_at = $3, accepted_by = $4
           where tenant_id = $1 and invitation_id = $2 and status = 'pending'""",
        session.scope.tenant_id,
        invitation_id,
        now,
        user_id,
    )


async def revoke_invitation(session: TenantSession, invitation_id: UUID) -> None:
    await session.execute(
        """update invitations set status = 'revoked'
           where tenant_id = $1 and invitation_id = $2 and status = 'pending'""",
        session.scope.tenant_id,
        invitation_id,
    )


def _stored_rules(rules: tuple[ClaimRule, ...]) -> list[dict[str, Any]]:
    return [
        {
            "claim": rule.claim,
            "match": rule.match.value,
            "value": rule.value,
            "role": rule.role,
            "workspace": rule.workspace_id.hex if rule.workspace_id else None,
        }
        for rule in rules
    ]


def _provider(row: "asyncpg.Record") -> IdentityProvider:
    values = dict(row)
    values["status"] = ProviderStatus(values["status"])
    values["rules"] = tuple(
        ClaimRule(
            claim=rule["claim"],
            match=Match(rule["match"]),
            value=rule["value"],
            role=rule["role"],
            workspace_id=UUID(hex=rule["workspace"]) if rule["workspace"] else None,
        )
        for rule in values["rules"]
    )
    for name in ("scopes", "redirects"):
        values[name] = tuple(values[name])
    return IdentityProvider(**values)


def _invitation(row: "asyncpg.Record") -> Invitation:
    values = dict(row)
    values["status"] = InvitationStatus(values["status"])
    return Invitation(**values)
