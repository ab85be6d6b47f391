"""Admission: from what a request shows to a caller with compiled access.

A caller is cached by the digest of its credential, and the cache counts only while the cell's link is fresh: a
revocation reaches every process within a second, and a process cut off from news asks the database each time.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Final
from uuid import UUID

import structlog

from tenantry.capabilities.access.service.identification import CredentialReader, Identified, KeyReader, Presented
from tenantry.capabilities.access.service.rights import Rights, RightsReader
from tenantry.capabilities.access.types import Caller, Permission, Source
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import Outcome as AuditOutcome
from tenantry.capabilities.identity.errors import credential_malformed, credential_refused, credentials_disagree
from tenantry.capabilities.identity.service import IdentityService, KeyHasher
from tenantry.capabilities.identity.types import Credential, PrincipalStatus, PrincipalType, ScopeKind
from tenantry.capabilities.tenants.service import (
    Directory,
    TenantService,
    WorkspaceService,
    candidate_scope,
    refuse_unless_active,
)
from tenantry.capabilities.tenants.types import (
    REVOCATIONS,
    Placement,
    Tenant,
    WorkspaceStatus,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied, Unavailable
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, Actor, TenantScope

PLATFORM_PRINCIPAL: Final = "platform"
"""In the chain of a visitor: on whose behalf somebody of the installation acts in a tenant."""
_CACHED_CALLERS: Final = 20_000
_CACHED_STATES: Final = 50_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkspaceState:
    """What is known of a workspace before anything of it is read."""

    status: WorkspaceStatus
    path: str


class Admission:
    """Authenticates credentials and knows the states of workspaces; one for each process."""

    def __init__(
        self,
        *,
        cells: Cells,
        directory: Directory,
        hasher: KeyHasher,
        clock: Clock,
        readers: Sequence[CredentialReader] = (),
    ) -> None:
        """`readers` read further kinds of credentials than keys; each is asked in turn, keys last."""
        self._cells = cells
        self._directory = directory
        self._hasher = hasher
        self._clock = clock
        self._readers = (*readers, KeyReader())
        self._callers: OrderedDict[bytes, Caller] = OrderedDict()
        self._states: OrderedDict[tuple[UUID, UUID], WorkspaceState] = OrderedDict()
        # Counts revocations heard: what was read while one arrived is not cached.
        self._generation = 0
        self._used: dict[str, dict[UUID, dict[str, datetime]]] = {}
        for cell in cells:
            cell.link.subscribe(REVOCATIONS, self.forget)
            cell.link.on_reconnect(self._forget_all)

    async def authenticate(self, presented: Presented | str, *, ip: str | None) -> Caller:
        """Admit a credential; raises Unauthenticated, WrongRegion, or Denied for a suspended tenant.

        A text alone came as a bearer's. Unknown, wrong, revoked and expired read the same.
        """
        if isinstance(presented, str):
            presented = Presented(presented)
        beside = presented.beside.hex() if presented.beside else ""
        known_by = f"{presented.kind}/{presented.place}/{beside}/{presented.text}"
        digest = hashlib.sha256(known_by.encode()).digest()
        now = self._clock.now()
        caller = self._callers.get(digest)
        if (
            caller is None
            or not self._fresh(caller)
            or not _open(caller, now=now, ip=ip)
            or not _proven(presented, caller)
        ):
            generation = self._generation
            caller = await self._admit(presented, ip=ip)
            if generation == self._generation:
                self._callers[digest] = caller
            if len(self._callers) > _CACHED_CALLERS:
                self._callers.popitem(last=False)
        self._used.setdefault(caller.region, {}).setdefault(caller.tenant_id, {})[caller.credential_id] = now
        return caller

    async def visit(self, caller: Caller, placement: Placement) -> Caller:
        """Admit an administrator of the installation to another tenant, as what grants of that tenant allow there.

        Without any it may ask for one, and nothing else. It is known by its key, as a principal that the tenant sees
        and whose grants it can end; what it does is in the tenant's trail. Raises Denied for a suspended tenant.
        """
        digest = hashlib.sha256(f"visit/{caller.actor.id}/{placement.tenant_id}".encode()).digest()
        visitor = self._callers.get(digest)
        if visitor is not None and self._fresh(visitor) and _open(visitor, now=self._clock.now(), ip=None):
            return visitor
        generation = self._generation
        visitor = await self._admit_visitor(caller, placement)
        if generation == self._generation:
            self._callers[digest] = visitor
        return visitor

    async def _admit_visitor(self, caller: Caller, placement: Placement) -> Caller:
        cell = self._cells.get(placement.region)
        scope = TenantScope(tenant_id=placement.tenant_id, region=placement.region, actor=SYSTEM)
        async with cell.session(scope) as session:
            tenant = await TenantService(session=session, audit=self._audit(session), clock=self._clock).get()
            refuse_unless_active(tenant.status)
            asking = Source(None, "an administrator of the installation may ask", (Permission.GRANT_REQUEST,))
            reader = RightsReader(session=session, clock=self._clock, find_key=self._identity(session).find_key)
            rights = await reader.of_principal(caller.actor.id, besides=(asking,))
        visitor = Actor(caller.actor.type, caller.actor.id, (PLATFORM_PRINCIPAL,))
        found = Identified(
            resource_type="key",
            credential_id=caller.actor.id,
            actor=visitor,
            principal_type=PrincipalType.SYSTEM,
            principal_id=caller.actor.id,
            expires_at=caller.expires_at,
        )
        return _caller(found, rights, tenant=tenant, region=placement.region)

    def _fresh(self, caller: Caller) -> bool:
        return self._cells.get(caller.region).fresh_for(caller.tenant_id)

    async def workspace_state(self, caller: Caller, workspace_id: UUID) -> WorkspaceState | None:
        """Tell a workspace's state and path, None when the caller's tenant has none of that id."""
        cell = self._cells.get(caller.region)
        known = self._states.get((caller.tenant_id, workspace_id))
        if known is not None and self._fresh(caller):
            return known
        scope = TenantScope(tenant_id=caller.tenant_id, region=caller.region, actor=caller.actor)
        generation = self._generation
        async with cell.session(scope) as session:
            workspace = await self._workspaces(session).find(workspace_id)
        if workspace is None:
            return None
        state = WorkspaceState(workspace.status, workspace.path)
        if generation == self._generation:
            self._states[caller.tenant_id, workspace_id] = state
            if len(self._states) > _CACHED_STATES:
                self._states.popitem(last=False)
        return state

    async def is_elsewhere(self, caller: Caller, workspace_id: UUID) -> str | None:
        """Tell the other region an id belongs to, for the event `region.blocked` only, never for an answer."""
        placement = await self._directory.find_by_workspace(workspace_id)
        return placement.region if placement and placement.region != caller.region else None

    async def note_uses(self) -> None:
        """Write when credentials were last used: one transaction for each tenant; called every few seconds."""
        used, self._used = self._used, {}
        for region, tenants in used.items():
            for tenant_id, credentials in tenants.items():
                scope = TenantScope(tenant_id=tenant_id, region=region, actor=SYSTEM)
                try:
                    async with self._cells.get(region).session(scope, lifecycle=True) as session:
                        await self._identity(session).note_uses(credentials)
                # On the move, or erased: what is lost is a hint, and the others' is not.
                except (Unavailable, Denied) as error:
                    _log.info("credentials.use_not_noted", tenant=tenant_id.hex, code=error.code)

    async def _admit(self, presented: Presented, *, ip: str | None) -> Caller:
        reader, credential = self._read(presented)
        scope = await self._candidate(credential, ip=ip)
        # A lifecycle session reads the key of a suspended tenant, so that only its holder learns of the suspension.
        async with self._cells.session(scope, lifecycle=True) as session:
            found = await reader.identify(self._identity(session), credential)
            tenant = await TenantService(session=session, audit=self._audit(session), clock=self._clock).get()
            rights = await self._rights(session, found)
            caller = _caller(found, rights, tenant=tenant, region=scope.region)
            if (fault := await self._fault(session, found, rights, caller, ip=ip)) is not None:
                await self._record_refusal(session, found, fault)
                raise credential_refused()
            refuse_unless_active(tenant.status)
            if presented.beside is not None:
                owners = await self._identity(session).certificates.list_owners(presented.beside)
                if owners and found.principal_id not in owners:
                    raise credentials_disagree()
        return caller

    def _read(self, presented: Presented) -> tuple[CredentialReader, Credential]:
        for reader in self._readers:
            credential = reader.read(presented)
            if credential is not None:
                return reader, credential
        raise credential_malformed()

    async def _rights(self, session: TenantSession, found: Identified) -> Rights:
        reader = RightsReader(session=session, clock=self._clock, find_key=self._identity(session).find_key)
        if found.key is not None:
            return await reader.of_key(found.key)
        return await reader.of_principal(found.principal_id, workspace_id=found.workspace_id)

    async def _fault(
        self, session: TenantSession, found: Identified, rights: Rights, caller: Caller, *, ip: str | None
    ) -> str | None:
        """Name what is wrong with a credential whose secret is right, for the trail; the answer does not tell."""
        if (fault := found.fault or rights.fault) is not None:
            return fault
        if not _open(caller, now=self._clock.now(), ip=ip):
            expired = caller.expires_at is not None and caller.expires_at <= self._clock.now()
            return f"{found.resource_type}_expired" if expired else "network"
        return None if await self._principal_is_active(session, found) else "principal_disabled"

    async def _record_refusal(self, session: TenantSession, found: Identified, reason: str) -> None:
        """Record a refusal of a known credential in its tenant's trail, in a commit of its own."""
        await self._audit(session).record(
            "credential.refused",
            resource_type=found.resource_type,
            resource_id=found.credential_id,
            outcome=AuditOutcome.DENIED,
            reason=reason,
        )
        await session.commit()

    async def _candidate(self, credential: Credential, *, ip: str | None) -> TenantScope:
        """Tell whose key it would be, and where that tenant is now.

        A tenant that has moved takes its keys along: they name the region they were made in.
        """
        find = self._directory.find if credential.kind is ScopeKind.TENANT else self._directory.find_by_workspace
        placement = await find(credential.scope_id) if credential.scope_id else None
        return candidate_scope(placement, region=credential.region or next(iter(self._cells)).region, ip=ip)

    async def _principal_is_active(self, session: TenantSession, found: Identified) -> bool:
        identity = self._identity(session)
        if found.principal_type is PrincipalType.USER:
            user = await identity.find_user(parse_id(Prefix.USER, found.principal_id))
            return user is not None and user.status is PrincipalStatus.ACTIVE
        if found.principal_type is PrincipalType.SERVICE_ACCOUNT:
            account = await identity.get_service_account(parse_id(Prefix.SERVICE_ACCOUNT, found.principal_id))
            return account.status is PrincipalStatus.ACTIVE
        return True

    def forget(self, payload: str) -> None:
        """Drop what is cached of a tenant, named by the hexadecimal of its id as the news name it."""
        self._generation += 1
        for digest in [d for d, caller in self._callers.items() if caller.tenant_id.hex == payload]:
            del self._callers[digest]
        for place in [p for p in self._states if p[0].hex == payload]:
            del self._states[place]

    def _forget_all(self) -> None:
        self._generation += 1
        self._callers.clear()
        self._states.clear()

    def _audit(self, session: TenantSession) -> AuditService:
        return AuditService(session=session, clock=self._clock)

    def _identity(self, session: TenantSession) -> IdentityService:
        return IdentityService(session=session, audit=self._audit(session), hasher=self._hasher, clock=self._clock)

    def _workspaces(self, session: TenantSession) -> WorkspaceService:
        return WorkspaceService(
            session=session, directory=self._directory, audit=self._audit(session), clock=self._clock
        )


def _caller(found: Identified, rights: Rights, *, tenant: Tenant, region: str) -> Caller:
    ends = [moment for moment in (found.expires_at, rights.until) if moment is not None]
    return Caller(
        actor=found.actor,
        tenant_id=tenant.tenant_id,
        tenant_slug=tenant.slug,
        region=region,
        workspace_id=found.workspace_id,
        access=rights.access,
        key_id=found.key.key_id if found.key is not None else None,
        login=found.login,
        expires_at=min(ends, default=None),
        allowed_networks=found.allowed_networks,
        principal=found.principal_id,
        roles=found.roles,
        clock_skew_ms=tenant.clock_skew_ms,
        credential_id=found.credential_id,
        public_key=found.public_key,
    )


def _proven(presented: Presented, caller: Caller) -> bool:
    """Say whether a request is its caller's: a signature is checked each time, all else is known by its digest."""
    return presented.proof is None or presented.proof.holds(caller.public_key)


def _open(caller: Caller, *, now: datetime, ip: str | None) -> bool:
    """Say whether the key still holds at this moment, from this address."""
    if caller.expires_at is not None and caller.expires_at <= now:
        return False
    return not caller.allowed_networks or _inside(ip, caller.allowed_networks)


def _inside(ip: str | None, networks: tuple[str, ...]) -> bool:
    if ip is None:
        return False
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    return any(address in ip_network(network) for network in networks)
