"""Just-in-time grants: what is asked for, what becomes of it, and the news of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

GRANT_REQUESTED: Final = "grant.requested"
GRANT_ACTIVE: Final = "grant.active"
GRANT_EXTENDED: Final = "grant.extended"
GRANT_EXPIRING: Final = "grant.expiring"
GRANT_EXPIRED: Final = "grant.expired"
GRANT_REVOKED: Final = "grant.revoked"
GRANT_DENIED: Final = "grant.denied"
"""Outbox topics for whoever tells people; the payload holds ids and the status: `Grant.news`."""
GRANT_ENDED: Final = "grant.ended"
"""Outbox topic for whoever runs something; as the others, with `reason`: what the grant alone allowed stops."""

GRANT_LEVELS: Final[Mapping[str, str]] = {"viewer": "viewer", "deployer": "deployer", "admin": "workspace-admin"}
"""Levels that a grant may be asked for at one cloud provider, and the role that each is."""


class GrantStatus(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DENIED = "denied"

    @property
    def ended(self) -> bool:
        return self in (GrantStatus.EXPIRED, GrantStatus.REVOKED, GrantStatus.DENIED)


@dataclass(frozen=True, slots=True)
class NewGrant:
    """What is asked for. `role` is a slug, or at a `provider` a level (`GRANT_LEVELS`)."""

    principal: str
    role: str
    minutes: int
    reason: str
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A role for a bounded time in one workspace. Its clock starts at `active_at`; nothing of it is ever deleted.

    `principal_type` is `user`, `service_account` or `platform` (somebody of the installation, by a platform key).
    `granted_minutes` counts extensions. `due_at`: when something becomes of it by itself, its notice or its end.
    """

    grant_id: UUID
    workspace_id: UUID
    principal_type: str
    principal_id: str
    role_asked: str
    role: str
    provider: str | None
    reason: str
    minutes: int
    status: GrantStatus
    requested_by: str
    requested_at: datetime
    approval_id: UUID | None = None
    extension_minutes: int | None = None
    extension_approval_id: UUID | None = None
    granted_minutes: int | None = None
    granted_by: tuple[str, ...] = ()
    active_at: datetime | None = None
    expires_at: datetime | None = None
    notice_at: datetime | None = None
    due_at: datetime | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    end_reason: str | None = None
    version: int = 1

    def status_at(self, now: datetime) -> GrantStatus:
        """Tell its status by the clock, whether or not it has been swept."""
        lapsed = self.status is GrantStatus.ACTIVE and self.expires_at is not None and self.expires_at <= now
        return GrantStatus.EXPIRED if lapsed else self.status

    @property
    def news(self) -> dict[str, str]:
        """Give the payload of its outbox events: ids and names, nothing that somebody wrote."""
        return {
            "grant_id": self.grant_id.hex,
            "workspace_id": self.workspace_id.hex,
            "principal_id": self.principal_id,
            "role": self.role,
            "status": self.status.value,
        }
