"""Invitations: a role that waits for whoever logs in with a verified address."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.errors import expiry_in_the_past, invitation_not_found, invitation_taken
from tenantry.capabilities.identity.ports import KeyScopes, Memberships
from tenantry.capabilities.identity.repository import providers as rows
from tenantry.capabilities.identity.types import GivenRole, Invitation, InvitationStatus
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id

LIFETIME: Final = timedelta(days=7)


class InvitationService:
    """Invitations in the session's tenant."""

    def __init__(self, *, session: TenantSession, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._clock = clock

    async def create(
        self, *, email: str, role: str, workspace_id: UUID | None, expires_at: datetime | None, scopes: KeyScopes
    ) -> Invitation:
        """Invite; raises Denied `grant_exceeds_own`, Invalid `role_unknown`, Conflict `invitation_taken`."""
        scopes.require_grantable(roles=(role,), permissions=(), workspace_id=workspace_id)
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise expiry_in_the_past()
        address = email.lower()
        waiting = await rows.find_pending_invitations(self._session, email=address, now=now)
        if any((each.role, each.workspace_id) == (role, workspace_id) for each in waiting):
            raise invitation_taken()
        invitation = Invitation(
            invitation_id=new_id(),
            workspace_id=workspace_id,
            email=address,
            role=role,
            status=InvitationStatus.PENDING,
            created_at=now,
            created_by=self._session.scope.actor.id,
            expires_at=expires_at or now + LIFETIME,
            accepted_at=None,
            accepted_by=None,
        )
        await rows.insert_invitation(self._session, invitation)
        await self._record("invitation.created", invitation)
        return invitation

    async def get(self, invitation_id: UUID, *, workspace_id: UUID | None) -> Invitation:
        found = await rows.find_invitation(self._session, invitation_id, workspace_id=workspace_id)
        if found is None:
            raise invitation_not_found()
        return self._as_of_now(found)

    async def list_invitations(
        self, *, workspace_id: UUID | None, after: UUID | None = None, limit: int = 50
    ) -> list[Invitation]:
        """List those of one workspace, or with None those of the whole tenant."""
        found = await rows.list_invitations(self._session, workspace_id=workspace_id, after=after, limit=limit)
        return [self._as_of_now(each) for each in found]

    async def revoke(self, invitation_id: UUID, *, workspace_id: UUID | None) -> Invitation:
        """Take back one that nobody has taken up; of any other nothing changes."""
        invitation = await self.get(invitation_id, workspace_id=workspace_id)
        if invitation.status is InvitationStatus.PENDING:
            await rows.revoke_invitation(self._session, invitation_id)
            await self._record("invitation.revoked", invitation)
        return await self.get(invitation_id, workspace_id=workspace_id)

    async def take_up(self, *, email: str, user_id: UUID, memberships: Memberships) -> None:
        """Give a user what waits for their verified address."""
        now = self._clock.now()
        for invitation in await rows.find_pending_invitations(self._session, email=email, now=now):
            await memberships.replace(
                user_id=user_id,
                source=format_id(Prefix.INVITATION, invitation.invitation_id),
                roles=[GivenRole(invitation.role, invitation.workspace_id)],
            )
            await rows.accept_invitation(self._session, invitation.invitation_id, user_id=user_id, now=now)
            await self._record("invitation.accepted", invitation)

    def _as_of_now(self, invitation: Invitation) -> Invitation:
        over = invitation.status is InvitationStatus.PENDING and invitation.expires_at <= self._clock.now()
        return replace(invitation, status=InvitationStatus.EXPIRED) if over else invitation

    async def _record(self, action: str, invitation: Invitation) -> None:
        # Without the address: who was meant stands in the invitation, where it can be erased.
        await self._audit.record(
            action,
            resource_type="invitation",
            resource_id=format_id(Prefix.INVITATION, invitation.invitation_id),
            details={"role": invitation.role},
        )
