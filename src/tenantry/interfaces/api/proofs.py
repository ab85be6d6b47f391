"""The services of what is recorded and proved, and what all services of a request are built on."""

from typing import TYPE_CHECKING
from uuid import UUID

from tenantry.capabilities.access.types import Caller
from tenantry.capabilities.audit.service import (
    AuditService,
    DayService,
    ForgettingService,
    LogService,
    StreamService,
    TargetSeals,
)
from tenantry.capabilities.evidence.service import EvidenceCollector, EvidenceService, HoldService
from tenantry.capabilities.notifications.service import StreamAddresses
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Fault
from tenantry.foundation.scope import TenantScope

if TYPE_CHECKING:
    from tenantry.interfaces.api.runtime import Runtime


class Proofs:
    """What was done and what ran: the log, its files and streams, evidence, holds."""

    runtime: "Runtime"
    caller: Caller
    scope: TenantScope
    session: TenantSession

    @property
    def workspace_id(self) -> UUID:
        """The workspace that the route names; the guard has checked it."""
        if self.scope.workspace_id is None:
            raise Fault("workspace_missing", "this route is not bound to a workspace", layer="api")
        return self.scope.workspace_id

    @property
    def audit(self) -> AuditService:
        return AuditService(session=self.session, clock=self.runtime.clock)

    @property
    def log(self) -> LogService:
        return LogService(session=self.session)

    @property
    def audit_days(self) -> DayService:
        return DayService(session=self.session)

    @property
    def forgettings(self) -> ForgettingService:
        return ForgettingService(session=self.session, audit=self.audit, clock=self.runtime.clock)

    @property
    def audit_streams(self) -> StreamService:
        runtime = self.runtime
        return StreamService(
            session=self.session,
            addresses=StreamAddresses.of(runtime.settings.notifications),
            seals=TargetSeals(runtime.keyrings[self.scope.region]),
            directories=tuple(runtime.settings.audit.stream_directories),
            audit=self.audit,
            clock=runtime.clock,
        )

    @property
    def evidence(self) -> EvidenceService:
        runtime = self.runtime
        keys = [key for locker in runtime.lockers.values() for key in locker.signer.verifier_keys()]
        return EvidenceService(session=self.session, locker=runtime.lockers[self.scope.region], keys=keys)

    @property
    def holds(self) -> HoldService:
        return HoldService(session=self.session, audit=self.audit, clock=self.runtime.clock)

    @property
    def collector(self) -> EvidenceCollector:
        floor = self.runtime.settings.evidence.floor_days
        return EvidenceCollector(session=self.session, audit=self.audit, floor_days=floor, clock=self.runtime.clock)
