"""Exemptions of a place: who answers for one, why, and until when."""

from datetime import datetime, timedelta
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types.classes import FreeText
from tenantry.capabilities.policies import repository
from tenantry.capabilities.policies.errors import exemption_invalid, exemption_not_found
from tenantry.capabilities.policies.types import EXEMPTIBLE, MOST_EXEMPTION_DAYS, UNJUDGED, Exemption
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.engines.rules.types import Kind
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id


class ExemptionService:
    """Exemptions of one place of the session's tenant; `workspace_id` None means the tenant as a whole."""

    def __init__(self, *, session: TenantSession, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._clock = clock

    async def create(
        self, workspace_id: UUID | None, *, kind: Kind, rule: str, owner: str, reason: str, expires_at: datetime
    ) -> Exemption:
        """Lift the rules whose name begins with `rule`, of this place's layer and those below; raises Invalid."""
        now = self._clock.now()
        if kind not in EXEMPTIBLE:
            raise exemption_invalid("kind", f"rules of the kind {kind} are not lifted one by one: change the policy")
        if rule in UNJUDGED:
            raise exemption_invalid("rule", "what cannot be judged is not lifted")
        if not now < expires_at <= now + timedelta(days=MOST_EXEMPTION_DAYS):
            raise exemption_invalid("expires_at", f"must lie ahead, by at most {MOST_EXEMPTION_DAYS} days")
        made = Exemption(
            exemption_id=new_id(),
            workspace_id=workspace_id,
            kind=kind,
            rule=rule,
            owner=owner,
            reason=reason,
            expires_at=expires_at,
            created_at=now,
            created_by=self._session.scope.actor.id,
        )
        await repository.insert_exemption(self._session, made)
        await self._record("exemption.created", made)
        return made

    async def get(self, workspace_id: UUID | None, exemption_id: UUID) -> Exemption:
        found = await repository.find_exemption(self._session, workspace_id, exemption_id)
        if found is None:
            raise exemption_not_found()
        return found

    async def list_exemptions(
        self, workspace_id: UUID | None, *, before: UUID | None = None, limit: int = 50
    ) -> list[Exemption]:
        return await repository.list_exemptions(self._session, workspace_id, before=before, limit=limit)

    async def revoke(self, workspace_id: UUID | None, exemption_id: UUID) -> None:
        """End it now, for every process within a second; raises NotFound for what is not there, or revoked."""
        found = await repository.revoke_exemption(self._session, workspace_id, exemption_id, now=self._clock.now())
        if found is None:
            raise exemption_not_found()
        await self._record("exemption.revoked", found)

    async def _record(self, action: str, exemption: Exemption) -> None:
        await announce_revocation(self._session)
        await self._audit.record(
            action,
            resource_type="exemption",
            resource_id=format_id(Prefix.EXEMPTION, exemption.exemption_id),
            reason=FreeText(exemption.reason),
            details={
                "kind": exemption.kind.value,
                "rule": exemption.rule,
                "owner": exemption.owner,
                "expires_at": exemption.expires_at.isoformat(),
            },
        )
