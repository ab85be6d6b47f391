"""Principals with keys, and approvals asked for below the interfaces, about nothing but themselves."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from tests.conftest import Tenant

from tenantry.capabilities.approvals.service import ApprovalComments, ApprovalRules, ApprovalService
from tenantry.capabilities.approvals.types import Approval, NewApproval
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.service import WorkspaceService
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.foundation.scope import SYSTEM, Actor, ActorType, TenantScope

CONTENT: dict[str, Any] = {"kind": "rehearsal", "image": "sha256:0a", "count": 3}
APPROVE, REJECT = "approve", "reject"


@dataclass(frozen=True)
class Principal:
    """A service account, a key that is it, and a client of that key."""

    id: str
    key: str = field(repr=False)
    client: httpx.Client = field(repr=False)

    @property
    def actor(self) -> Actor:
        return Actor(ActorType.API_KEY, format_id(Prefix.KEY, UUID(int=7)), (self.id,))


def principal(tenant: Tenant, workspace: str, *roles: str, **fields: object) -> Principal:
    """Make a program with a key of these roles; without any it does what it is bound to, or has a grant for."""
    body = {"name": f"robot {time.monotonic_ns()}"}
    made = tenant.owner.post(f"/workspaces/{workspace}/service-accounts", json=body).json()["id"]
    key = tenant.key(workspace, *roles, service_account=made, **fields)
    return Principal(made, key, tenant.as_key(key))


@dataclass
class Recorder:
    """A subject that remembers what it was told, and may refuse to hear it."""

    told: list[Approval] = field(default_factory=list)
    refuses: Exception | None = None

    async def settled(
        self,
        session: TenantSession,  # noqa: ARG002 - the port's signature
        approval: Approval,
        voters: tuple[str, ...],  # noqa: ARG002 - the same
    ) -> bool:
        if self.refuses:
            raise self.refuses
        self.told.append(approval)
        return False


@dataclass
class Desk:
    """Approvals of one workspace, as a higher room asks for them."""

    parts: Parts
    tenant: Tenant
    workspace: str
    clock: Clock
    recorder: Recorder = field(default_factory=Recorder)
    people_only: bool = False

    @property
    def path(self) -> str:
        return f"/workspaces/{self.workspace}/approvals"

    @property
    def workspace_id(self) -> UUID:
        return parse_id(Prefix.WORKSPACE, self.workspace)

    @asynccontextmanager
    async def service(self, actor: Actor = SYSTEM) -> AsyncIterator[ApprovalService]:
        scope = TenantScope(
            tenant_id=parse_id(Prefix.TENANT, self.tenant.id),
            region=self.tenant.region,
            actor=actor,
            workspace_id=self.workspace_id,
        )
        async with self.parts.cells.session(scope) as session:
            audit = AuditService(session=session, clock=self.clock)
            yield ApprovalService(
                session=session,
                audit=audit,
                workspaces=WorkspaceService(
                    session=session, directory=self.parts.directory, audit=audit, clock=self.clock
                ),
                comments=ApprovalComments(keyring=self.parts.keyrings[self.tenant.region]),
                subjects={"rehearsal": self.recorder},
                rules=ApprovalRules(people_only=self.people_only),
                clock=self.clock,
            )

    async def ask(
        self, actor: Actor = SYSTEM, *, content: Mapping[str, Any] = CONTENT, needed: int = 1, **fields: Any
    ) -> Approval:
        expires_at = fields.pop("expires_at", datetime.now(UTC) + timedelta(hours=1))
        new = NewApproval("rehearsal", "thing", content, "a rehearsal", needed, expires_at, **fields)
        async with self.service(actor) as service:
            return await service.request(new, workspace_id=self.workspace_id)

    async def now(self, approval: Approval) -> Approval:
        async with self.service() as service:
            return await service.get(approval.approval_id, workspace_id=self.workspace_id)

    def of(self, approval: Approval) -> str:
        return f"{self.path}/{format_id(Prefix.APPROVAL, approval.approval_id)}"

    def vote(self, who: Principal, approval: Approval, vote: str = APPROVE, **body: object) -> httpx.Response:
        return who.client.post(f"{self.of(approval)}/{vote}", json=body)
