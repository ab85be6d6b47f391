"""What becomes of a grant: each step with its audit event, its news, and word to every cache of rights."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tenantry.capabilities.access.repository import grants as repository
from tenantry.capabilities.access.types.grants import (
    GRANT_ACTIVE,
    GRANT_DENIED,
    GRANT_ENDED,
    GRANT_EXPIRED,
    GRANT_EXPIRING,
    GRANT_EXTENDED,
    GRANT_REVOKED,
    Grant,
    GrantStatus,
)
from tenantry.capabilities.approvals.types import voter_of
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.foundation import outbox
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.settings import AccessSettings

_TOPICS = {
    GrantStatus.EXPIRED: GRANT_EXPIRED,
    GrantStatus.REVOKED: GRANT_REVOKED,
    GrantStatus.DENIED: GRANT_DENIED,
}


class GrantLife:
    """Steps of grants whose rows the session's transaction has locked or made."""

    def __init__(self, *, session: TenantSession, settings: AccessSettings, clock: Clock) -> None:
        self._session = session
        self._audit = AuditService(session=session, clock=clock)
        self._settings = settings
        self._clock = clock

    async def activate(self, grant: Grant, *, minutes: int, granted_by: tuple[str, ...]) -> Grant:
        """Start its clock, now."""
        now = self._clock.now()
        expires_at = now + timedelta(minutes=minutes)
        changes = {
            "status": GrantStatus.ACTIVE.value,
            "granted_minutes": minutes,
            "granted_by": list(granted_by),
            "active_at": now,
            **self._ending(expires_at, now=now),
        }
        active = await repository.update_grant(self._session, grant.grant_id, changes)
        await announce_revocation(self._session)
        await self.record("grant.activated", active, details={"minutes": minutes, "granted_by": list(granted_by)})
        await self.tell(GRANT_ACTIVE, active)
        return active

    async def prolong(self, grant: Grant, *, minutes: int, granted_by: tuple[str, ...]) -> Grant:
        """Move its end: by so many minutes more than was granted, from that end on."""
        ends = (grant.expires_at or self._clock.now()) + timedelta(minutes=minutes)
        changes = {
            "granted_minutes": (grant.granted_minutes or 0) + minutes,
            "granted_by": list(dict.fromkeys((*grant.granted_by, *granted_by))),
            "extension_minutes": None,
            "extension_approval_id": None,
            **self._ending(ends, now=self._clock.now()),
        }
        longer = await repository.update_grant(self._session, grant.grant_id, changes)
        await announce_revocation(self._session)
        await self.record("grant.extended", longer, details={"minutes": minutes, "granted_by": list(granted_by)})
        await self.tell(GRANT_EXTENDED, longer)
        return longer

    async def end(self, grant: Grant, status: GrantStatus, *, reason: str) -> Grant:
        """End it for good; what it alone allowed is stopped by whoever hears `grant.ended`."""
        lapsed = status is GrantStatus.EXPIRED and grant.expires_at is not None
        changes = {
            "status": status.value,
            "ended_at": grant.expires_at if lapsed else self._clock.now(),
            "ended_by": voter_of(self._session.scope.actor),
            "end_reason": reason,
            "due_at": None,
            "extension_minutes": None,
        }
        ended = await repository.update_grant(self._session, grant.grant_id, changes)
        word = {GrantStatus.EXPIRED: "expired", GrantStatus.REVOKED: "revoked", GrantStatus.DENIED: "denied"}[status]
        await self.record(f"grant.{word}", ended, reason=reason)
        await self.tell(_TOPICS[status], ended)
        if grant.status is GrantStatus.ACTIVE:
            await announce_revocation(self._session)
            payload = {**ended.news, "reason": f"grant_{status.value}"}
            await outbox.publish(self._session, topic=GRANT_ENDED, payload=payload)
        return ended

    async def pass_due(self, grant_id: UUID) -> None:
        """Let happen what time brings: the notice, the end. Safe to repeat, and from several processes at once."""
        grant = await repository.find_grant(self._session, grant_id, lock="for update skip locked")
        now = self._clock.now()
        if grant is None or grant.due_at is None or grant.due_at > now or grant.expires_at is None:
            return
        if grant.expires_at <= now:
            await self.end(grant, GrantStatus.EXPIRED, reason="time_over")
            return
        changes = {"notice_at": None, "due_at": grant.expires_at}
        told = await repository.update_grant(self._session, grant_id, changes)
        await self.tell(GRANT_EXPIRING, told)

    async def record(
        self, action: str, grant: Grant, *, reason: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        about = {"principal": grant.principal_id, "role": grant.role, "provider": grant.provider}
        await self._audit.record(
            action,
            resource_type="grant",
            resource_id=format_id(Prefix.GRANT, grant.grant_id),
            reason=reason,
            details={**about, **(details or {})},
        )

    async def tell(self, topic: str, grant: Grant) -> None:
        await outbox.publish(self._session, topic=topic, payload=grant.news)

    def _ending(self, expires_at: datetime, *, now: datetime) -> dict[str, datetime | None]:
        """Date the end and, where there is time for one, the notice before it."""
        notice = expires_at - timedelta(minutes=self._settings.expiry_notice_minutes)
        notice_at = notice if now < notice < expires_at else None
        return {"expires_at": expires_at, "notice_at": notice_at, "due_at": notice_at or expires_at}
