"""What approvals of grants are about: a grant that waits for its approval, or an active one for its extension."""

import hmac
from collections.abc import Mapping
from typing import Any, Final

from tenantry.capabilities.access.errors import grant_not_active, grant_not_found
from tenantry.capabilities.access.repository import grants as repository
from tenantry.capabilities.access.service.grant_life import GrantLife
from tenantry.capabilities.access.types.grants import (
    Grant,
    GrantStatus,
)
from tenantry.capabilities.approvals.errors import content_changed
from tenantry.capabilities.approvals.types import Approval, ApprovalStatus, digest_of
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.foundation.settings import AccessSettings

GRANT_KIND: Final = "grant"
_ENDS: Final = {
    ApprovalStatus.REJECTED: (GrantStatus.DENIED, "rejected"),
    ApprovalStatus.EXPIRED: (GrantStatus.EXPIRED, "nobody_approved"),
    ApprovalStatus.VOID: (GrantStatus.REVOKED, "withdrawn"),
}


def content_of(grant: Grant, *, extension_minutes: int | None = None) -> dict[str, Any]:
    """Say exactly what is approved: this grant, or so much more of it."""
    return {
        "kind": GRANT_KIND,
        "grant": format_id(Prefix.GRANT, grant.grant_id),
        "workspace": format_id(Prefix.WORKSPACE, grant.workspace_id),
        "principal": grant.principal_id,
        "role": grant.role,
        "role_asked": grant.role_asked,
        "provider": grant.provider,
        "reason": grant.reason,
        "minutes": grant.minutes,
        "extension_minutes": extension_minutes,
    }


class GrantSubject:
    """The `Subject` of approvals whose kind is `grant`."""

    def __init__(self, *, settings: AccessSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def settled(self, session: TenantSession, approval: Approval, voters: tuple[str, ...]) -> bool:
        """Activate or extend it at once, which uses the approval; or end it, or leave it as long as it was.

        Raises Conflict `grant_not_active` for an extension that comes too late.
        """
        grant = await repository.find_grant(session, parse_id(Prefix.GRANT, approval.subject_id), lock="for update")
        if grant is None:
            raise grant_not_found()
        life = GrantLife(session=session, settings=self._settings, clock=self._clock)
        if grant.approval_id == approval.approval_id and grant.status is GrantStatus.REQUESTED:
            return await self._answer(life, grant, approval, voters)
        if grant.extension_approval_id == approval.approval_id and grant.extension_minutes is not None:
            return await self._answer_extension(session, life, grant, approval, voters)
        return False

    async def _answer(self, life: GrantLife, grant: Grant, approval: Approval, voters: tuple[str, ...]) -> bool:
        if approval.status is not ApprovalStatus.APPROVED:
            status, reason = _ENDS[approval.status]
            await life.end(grant, status, reason=reason)
            return False
        _require_same(approval, content_of(grant))
        await life.record("grant.approved", grant, details={"by": list(voters)})
        await life.activate(grant, minutes=approval.lasting_minutes or grant.minutes, granted_by=voters)
        return True

    async def _answer_extension(
        self, session: TenantSession, life: GrantLife, grant: Grant, approval: Approval, voters: tuple[str, ...]
    ) -> bool:
        if approval.status is not ApprovalStatus.APPROVED:
            changes = {"extension_minutes": None, "extension_approval_id": None}
            await repository.update_grant(session, grant.grant_id, changes)
            return False
        status = grant.status_at(self._clock.now())
        if status is not GrantStatus.ACTIVE:
            raise grant_not_active(status)
        _require_same(approval, content_of(grant, extension_minutes=grant.extension_minutes))
        await life.prolong(grant, minutes=approval.lasting_minutes or grant.extension_minutes or 0, granted_by=voters)
        return True


def _require_same(approval: Approval, content: Mapping[str, Any]) -> None:
    if not hmac.compare_digest(approval.digest, digest_of(content)):
        raise content_changed()
