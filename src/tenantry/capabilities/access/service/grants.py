"""Just-in-time grants: a role for a bounded time, asked for and approved, or given at once by an administrator."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from tenantry.capabilities.access import errors
from tenantry.capabilities.access.repository import grants as repository
from tenantry.capabilities.access.service.decide import Grantor
from tenantry.capabilities.access.service.grant_life import GrantLife
from tenantry.capabilities.access.service.grant_subject import GRANT_KIND, content_of
from tenantry.capabilities.access.service.principals import principal_type_of
from tenantry.capabilities.access.types import TENANT_WIDE_PERMISSIONS, TENANT_WIDE_ROLES, Permission
from tenantry.capabilities.access.types.grants import (
    GRANT_LEVELS,
    GRANT_REQUESTED,
    Grant,
    GrantStatus,
    NewGrant,
)
from tenantry.capabilities.approvals.service import ApprovalService
from tenantry.capabilities.approvals.types import Approval, NewApproval, identities_of
from tenantry.capabilities.audit.types.classes import FreeText
from tenantry.capabilities.identity.service import AccountService
from tenantry.capabilities.identity.types import PrincipalType
from tenantry.capabilities.tenants.service import WorkspaceService
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.settings import AccessSettings
from tenantry.kit.masking.stream import Mask

GRANTS_DUE: Final = ("grants", "grant_id")
"""Table and id of what becomes due by itself; `due_at` beside it."""
PLATFORM: Final = "platform"
_OWN_TYPES: Final = {Prefix.USER: PrincipalType.USER, Prefix.SERVICE_ACCOUNT: PrincipalType.SERVICE_ACCOUNT}


class GrantService:
    """Grants in the session's tenant, for one caller: `principal` is whoever acts, `grantor` what it may give."""

    def __init__(
        self,
        *,
        session: TenantSession,
        approvals: ApprovalService,
        workspaces: WorkspaceService,
        accounts: AccountService,
        grantor: Grantor,
        principal: str,
        settings: AccessSettings,
        clock: Clock,
    ) -> None:
        self._session = session
        self._approvals = approvals
        self._workspaces = workspaces
        self._accounts = accounts
        self._grantor = grantor
        self._principal = principal
        self._settings = settings
        self._clock = clock
        self._life = GrantLife(session=session, settings=settings, clock=clock)

    async def request(self, new: NewGrant, *, workspace_id: UUID) -> Grant:
        """Ask for oneself, which others approve; or give another principal, at once, no more than one holds.

        Raises Invalid `role_unknown`, `level_unknown`, `role_not_for_workspace` or `grant_too_long`, Denied
        `permission_missing` or `grant_exceeds_own`, NotFound for a principal that is none there.
        """
        role = self._role_of(new)
        most, quorum = await self._bounds(workspace_id)
        if new.minutes > most:
            raise errors.grant_too_long(most=most, asked=new.minutes)
        own = self._is_own(new.principal)
        if not own:
            self._require_admin(workspace_id)
            self._grantor.require_grantable(roles=(role,), permissions=(), workspace_id=workspace_id)
        grant = Grant(
            grant_id=new_id(),
            workspace_id=workspace_id,
            principal_type=await self._type_of(new.principal, workspace_id),
            principal_id=new.principal,
            role_asked=new.role,
            role=role,
            provider=new.provider,
            reason=Mask().text(new.reason),
            minutes=new.minutes,
            status=GrantStatus.REQUESTED,
            requested_by=self._principal,
            requested_at=self._clock.now(),
        )
        await repository.insert_grant(self._session, grant)
        await self._life.record(
            "grant.requested", grant, reason=FreeText(grant.reason), details={"minutes": grant.minutes}
        )
        if not own:
            return await self._life.activate(grant, minutes=grant.minutes, granted_by=(self._principal,))
        approval = await self._ask(grant, minutes=grant.minutes, quorum=quorum)
        changes = {"approval_id": approval.approval_id}
        grant = await repository.update_grant(self._session, grant.grant_id, changes)
        await self._life.tell(GRANT_REQUESTED, grant)
        return grant

    async def get(self, grant_id: UUID, *, workspace_id: UUID) -> Grant:
        return _there(await repository.find_grant(self._session, grant_id), workspace_id)

    async def list_grants(
        self,
        *,
        workspace_id: UUID,
        status: GrantStatus | None = None,
        principal: str | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> list[Grant]:
        """Newest first, those that ended long ago too; `status` is that by the clock."""
        return await repository.list_grants(
            self._session,
            workspace_id=workspace_id,
            status=status,
            principal=principal,
            now=self._clock.now(),
            before=before,
            limit=limit,
        )

    async def extend(self, grant_id: UUID, *, minutes: int, workspace_id: UUID) -> Grant:
        """Make an active grant last longer: its holder's wish waits for an approval, an administrator's does not.

        Raises Conflict `grant_not_active` or `extension_pending`, Invalid `grant_too_long`, Denied as `request`.
        """
        grant = _there(await repository.find_grant(self._session, grant_id, lock="for update"), workspace_id)
        own = self._is_own(grant.principal_id)
        if not own:
            self._require_admin(workspace_id)
            self._grantor.require_grantable(roles=(grant.role,), permissions=(), workspace_id=workspace_id)
        status = grant.status_at(self._clock.now())
        if status is not GrantStatus.ACTIVE:
            raise errors.grant_not_active(status)
        if grant.extension_approval_id is not None and grant.extension_minutes is not None:
            raise errors.extension_pending()
        most, quorum = await self._bounds(workspace_id)
        asked = (grant.granted_minutes or 0) + minutes
        if asked > most:
            raise errors.grant_too_long(most=most, asked=asked)
        if not own:
            return await self._life.prolong(grant, minutes=minutes, granted_by=(self._principal,))
        approval = await self._ask(grant, minutes=minutes, quorum=quorum, extension=True)
        changes = {"extension_minutes": minutes, "extension_approval_id": approval.approval_id}
        await self._life.record("grant.extension_requested", grant, details={"minutes": minutes})
        return await repository.update_grant(self._session, grant_id, changes)

    async def revoke(self, grant_id: UUID, *, workspace_id: UUID, reason: str | None = None) -> Grant:
        """End it, or what asks for it, everywhere within a second: by its holder, or an administrator.

        Revoking what has ended changes nothing.
        """
        grant = _there(await repository.find_grant(self._session, grant_id), workspace_id)
        if not self._is_own(grant.principal_id):
            self._require_admin(workspace_id)
        return await self._revoke(grant, reason=FreeText(Mask().text(reason)) if reason else "revoked")

    async def revoke_all(self, principal: str, *, workspace_id: UUID) -> list[Grant]:
        """End all grants of a principal here, and what asks for some; gives those that ended."""
        found = await repository.list_open_grants(self._session, principal, workspace_id=workspace_id)
        return [await self._revoke(grant, reason="revoked_all") for grant in found]

    async def _revoke(self, grant: Grant, *, reason: str) -> Grant:
        # Approvals are locked before their grants, here as in a vote: two at once wait for each other, no deadlock.
        for approval_id in (grant.approval_id, grant.extension_approval_id):
            if approval_id is not None:
                await self._approvals.withdraw(approval_id, workspace_id=grant.workspace_id, reason=reason)
        now = _there(await repository.find_grant(self._session, grant.grant_id, lock="for update"), grant.workspace_id)
        if now.status.ended:
            return now
        lapsed = now.status_at(self._clock.now()) is GrantStatus.EXPIRED
        status, why = (GrantStatus.EXPIRED, "time_over") if lapsed else (GrantStatus.REVOKED, reason)
        return await self._life.end(now, status, reason=why)

    async def _ask(self, grant: Grant, *, minutes: int, quorum: int, extension: bool = False) -> Approval:
        now, wait = self._clock.now(), self._settings.escalate_after_minutes
        verb = "extend by" if extension else "grant for"
        new = NewApproval(
            kind=GRANT_KIND,
            subject_id=format_id(Prefix.GRANT, grant.grant_id),
            content=content_of(grant, extension_minutes=minutes if extension else None),
            summary=f"{verb} {minutes} minutes: {grant.role} to {grant.principal_id}",
            needed=quorum,
            expires_at=now + timedelta(hours=self._settings.approval_hours),
            parties=(grant.principal_id,),
            minutes=minutes,
            escalate_at=now + timedelta(minutes=wait) if wait else None,
        )
        return await self._approvals.request(new, workspace_id=grant.workspace_id)

    def _role_of(self, new: NewGrant) -> str:
        if new.provider is not None and new.role not in GRANT_LEVELS:
            raise errors.level_unknown(new.role)
        role = GRANT_LEVELS.get(new.role, new.role)
        if role not in self._grantor.book:
            raise errors.role_unknown(role, self._grantor.book)
        if role in TENANT_WIDE_ROLES or self._grantor.book[role] & TENANT_WIDE_PERMISSIONS:
            raise errors.role_not_for_workspace(role)
        return role

    async def _bounds(self, workspace_id: UUID) -> tuple[int, int]:
        """Tell the most minutes and the quorum: a workspace may be stricter than the installation, never laxer."""
        settings = (await self._workspaces.get(workspace_id)).settings
        most = min(settings.max_grant_minutes or self._settings.max_grant_minutes, self._settings.max_grant_minutes)
        return most, max(settings.grant_quorum or 1, self._settings.grant_quorum)

    async def _type_of(self, principal: str, workspace_id: UUID) -> str:
        """Tell the type; somebody of the installation acts by a platform key, which no tenant knows."""
        if self._is_own(principal):
            prefix = principal.partition("_")[0]
            return next((kind.value for own, kind in _OWN_TYPES.items() if own.value == prefix), PLATFORM)
        return await principal_type_of(self._accounts, principal, workspace_id=workspace_id)

    def _is_own(self, principal: str) -> bool:
        return principal == self._principal or principal in identities_of(self._session.scope.actor)

    def _require_admin(self, workspace_id: UUID) -> None:
        self._grantor.require_permission(Permission.GRANT_ADMIN, workspace_id)


def _there(grant: Grant | None, workspace_id: UUID) -> Grant:
    if grant is None or grant.workspace_id != workspace_id:
        raise errors.grant_not_found()
    return grant
