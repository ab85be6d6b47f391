"""Assembles what people log in by."""

from collections.abc import Mapping
from dataclasses import dataclass

from tenantry.capabilities.access.service import (
    BoundMemberships,
    CertificateReader,
    CredentialReader,
    LoginReader,
    SignatureReader,
)
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.adapters.issuers import ANSWER_BYTES, HttpIssuers
from tenantry.capabilities.identity.service import AccessTokens, KeyHasher, LoginFlows, TokenDesk
from tenantry.capabilities.limits.service import LimitBook, QuotaService, RowRoom
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes.service import PortTokenReader, PortTokens
from tenantry.capabilities.tenants.service import Directory, TenantKeyring, WorkspaceService
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.derivation import derive_key
from tenantry.foundation.outgoing import Outgoing
from tenantry.foundation.secrets import Secrets
from tenantry.foundation.settings import IdentitySettings


@dataclass(frozen=True, slots=True)
class Logins:
    readers: tuple[CredentialReader, ...]
    """Of all that lets somebody in besides keys."""
    port_tokens: PortTokens
    flows: LoginFlows
    desk: TokenDesk


def make_logins(
    *,
    cells: Cells,
    directory: Directory,
    keyrings: Mapping[str, TenantKeyring],
    book: LimitBook,
    hasher: KeyHasher,
    secrets: Secrets,
    settings: IdentitySettings,
    clock: Clock,
) -> Logins:
    def memberships(session: TenantSession) -> BoundMemberships:
        audit = AuditService(session=session, clock=clock)
        workspaces = WorkspaceService(session=session, directory=directory, audit=audit, clock=clock)
        return BoundMemberships(session=session, audit=audit, workspaces=workspaces, clock=clock)

    def room(session: TenantSession) -> RowRoom:
        quotas = QuotaService(session=session, book=book, clock=clock)
        return RowRoom(quotas, Quota.USERS, whole_tenant=lambda: cells.session(session.scope, beside=True))

    tokens = AccessTokens(secrets.signing_key)
    outgoing = Outgoing(allow_private=settings.allow_private_issuers, limit=ANSWER_BYTES)
    flows = LoginFlows(
        cells=cells,
        directory=directory,
        keyrings=keyrings,
        issuers=HttpIssuers(outgoing=outgoing, clock=clock),
        memberships=memberships,
        room=room,
        hasher=hasher,
        settings=settings,
        clock=clock,
    )
    desk = TokenDesk(cells=cells, directory=directory, hasher=hasher, tokens=tokens, settings=settings, clock=clock)
    ports = PortTokens(key=derive_key(secrets.cursor_key, purpose="port-token"), clock=clock)
    login_reader = LoginReader(tokens=tokens, clock=clock)
    readers = (login_reader, PortTokenReader(ports), CertificateReader(), SignatureReader())
    return Logins(readers=readers, port_tokens=ports, flows=flows, desk=desk)
