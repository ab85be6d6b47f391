"""Identification: from what a request shows to a credential that was found and verified, in its tenant's transaction.

Each kind of credential has one reader. It says of which tenant the credential would be, without a look into any tenant;
then, in a transaction bound to that candidate, whose it is. What it may do is compiled afterwards, the same for all.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from tenantry.capabilities.identity.errors import credential_malformed, credential_refused
from tenantry.capabilities.identity.service import IdentityService
from tenantry.capabilities.identity.types import (
    ApiKey,
    Credential,
    KeyStatus,
    PrincipalType,
    ScopeKind,
    read_credential,
)
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import Actor, ActorType


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request shows of who it is. `kind` is how it came, `text` what it is known by.

    `place` is the workspace that the request names, for a kind of credential that names none itself.
    """

    text: str = field(repr=False)
    kind: str = "bearer"
    place: UUID | None = None


@dataclass(frozen=True, slots=True)
class Identified:
    """A credential whose secret is right, whatever else may be wrong with it: `fault` says what, for the trail alone.

    Its rights are those of `key`, or without one those of its principal, in `workspace_id` alone where that is given.
    """

    resource_type: str
    credential_id: str
    actor: Actor
    principal_type: PrincipalType
    principal_id: str
    workspace_id: UUID | None = None
    key: ApiKey | None = None
    roles: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    fault: str | None = None


class CredentialReader(Protocol):
    """Reads one kind of credential."""

    def read(self, presented: Presented) -> Credential | None:
        """Tell the candidate, None for another kind; raises Unauthenticated for what can only be malformed."""
        ...

    async def identify(self, identity: IdentityService, credential: Credential) -> Identified:
        """Find it in its candidate's transaction; raises Unauthenticated `credential_refused` for unknown and wrong."""
        ...


class KeyReader:
    """Reads API keys."""

    def read(self, presented: Presented) -> Credential | None:
        if presented.kind != "bearer":
            return None
        credential = read_credential(presented.text)
        if credential is None:
            raise credential_malformed()
        return credential

    async def identify(self, identity: IdentityService, credential: Credential) -> Identified:
        key = await identity.find_key_of(credential)
        if key is None:
            raise credential_refused()
        fault = None
        if key.status not in (KeyStatus.ACTIVE, KeyStatus.GRACE):
            fault = f"key_{key.status}"
        elif key.workspace_id != (credential.scope_id if credential.kind is ScopeKind.WORKSPACE else None):
            fault = "key_scope"
        return Identified(
            resource_type="key",
            credential_id=format_id(Prefix.KEY, key.key_id),
            actor=_actor_of(key),
            principal_type=key.principal_type,
            principal_id=key.principal_id,
            workspace_id=key.workspace_id,
            key=key,
            roles=key.roles,
            allowed_networks=key.allowed_networks,
            expires_at=key.ends_at,
            fault=fault,
        )


def _actor_of(key: ApiKey) -> Actor:
    """Name the key, then on whose behalf: the key that a delegated one was made with, then the principal."""
    chain = () if key.principal_type is PrincipalType.SYSTEM else (key.principal_id,)
    if key.delegated and key.parent_id is not None:
        chain = (format_id(Prefix.KEY, key.parent_id), *chain)
    return Actor(ActorType.API_KEY, format_id(Prefix.KEY, key.key_id), chain)
