"""Identification: from what a request shows to a credential that was found and verified, in its tenant's transaction.

Each kind of credential has one reader. It says of which tenant the credential would be, without a look into any tenant;
then, in a transaction bound to that candidate, whose it is. What it may do is compiled afterwards, the same for all.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from tenantry.capabilities.identity.errors import credential_malformed, credential_refused
from tenantry.capabilities.identity.service import IdentityService
from tenantry.capabilities.identity.types import (
    ApiKey,
    Credential,
    KeyStatus,
    Login,
    PrincipalType,
    ProofStatus,
    ScopeKind,
    read_credential,
    read_keyid,
)
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import Actor, ActorType
from tenantry.foundation.signatures import is_signature

CERTIFICATE: Final = "certificate"
"""Kind of a client certificate; its text is the fingerprint, hexadecimal."""
SIGNATURE: Final = "signature"
"""Kind of a signed request; its text is the name of the key, as the signature gives it."""
_NOBODYS_KEY: Final = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""A public key whose other half everybody knows (RFC 8032 §7.1): it lets nobody in."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request shows of who it is. `kind` is how it came, `text` what it is known by.

    `place` is the workspace that the request names, for a kind of credential that names none itself. `proof` is what a
    signature is checked by. `beside` is the fingerprint of a certificate shown in addition: it must not be another's.
    """

    text: str = field(repr=False)
    kind: str = "bearer"
    place: UUID | None = None
    proof: "Proof | None" = field(default=None, repr=False)
    beside: bytes | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What was signed, and the signature (Ed25519)."""

    message: bytes
    signature: bytes

    def holds(self, public_key: bytes | None) -> bool:
        return public_key is not None and is_signature(self.message, signature=self.signature, public_key=public_key)


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
    login: Login | None = None
    roles: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    public_key: bytes | None = None
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
        found = identified_key(key)
        place = credential.scope_id if credential.kind is ScopeKind.WORKSPACE else None
        return found if found.fault or key.workspace_id == place else replace(found, fault="key_scope")


def identified_key(key: ApiKey) -> Identified:
    """Tell of a key, whoever has found it and how."""
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
        fault=None if key.status in (KeyStatus.ACTIVE, KeyStatus.GRACE) else f"key_{key.status}",
    )


class CertificateReader:
    """Reads client certificates, by their fingerprint and the workspace that the request names."""

    def read(self, presented: Presented) -> Credential | None:
        if presented.kind != CERTIFICATE:
            return None
        return Credential(text=presented.text, region="", kind=ScopeKind.WORKSPACE, scope_id=presented.place)

    async def identify(self, identity: IdentityService, credential: Credential) -> Identified:
        if credential.scope_id is None:
            raise credential_refused()
        certificates = identity.certificates
        found = await certificates.find_shown(bytes.fromhex(credential.text), workspace_id=credential.scope_id)
        if found is None:
            raise credential_refused()
        fault = None if found.status is ProofStatus.ACTIVE else f"certificate_{found.status}"
        return Identified(
            resource_type="certificate",
            credential_id=format_id(Prefix.CERTIFICATE, found.certificate_id),
            actor=Actor(ActorType.SERVICE_ACCOUNT, format_id(Prefix.SERVICE_ACCOUNT, found.service_account_id)),
            principal_type=PrincipalType.SERVICE_ACCOUNT,
            principal_id=format_id(Prefix.SERVICE_ACCOUNT, found.service_account_id),
            workspace_id=found.workspace_id,
            expires_at=found.not_after,
            fault=fault,
        )


@dataclass(frozen=True, slots=True)
class _Signed(Credential):
    signing_key_id: UUID
    proof: Proof


class SignatureReader:
    """Reads signatures; what was signed has been brought together by whoever read the request."""

    def read(self, presented: Presented) -> Credential | None:
        if presented.kind != SIGNATURE or presented.proof is None:
            return None
        named = read_keyid(presented.text)
        if named is None:
            raise credential_refused()
        candidate, signing_key_id = named
        return _Signed(
            text=candidate.text,
            region=candidate.region,
            kind=candidate.kind,
            scope_id=candidate.scope_id,
            signing_key_id=signing_key_id,
            proof=presented.proof,
        )

    async def identify(self, identity: IdentityService, credential: Credential) -> Identified:
        if not isinstance(credential, _Signed) or credential.scope_id is None:
            raise credential_refused()
        found = await identity.signing_keys.find(credential.signing_key_id, workspace_id=credential.scope_id)
        # Unknown takes as long as wrong.
        if not credential.proof.holds(found.public_key if found else _NOBODYS_KEY) or found is None:
            raise credential_refused()
        fault = None if found.status is ProofStatus.ACTIVE else f"signing_key_{found.status}"
        return Identified(
            resource_type="signing_key",
            credential_id=format_id(Prefix.SIGNING_KEY, found.signing_key_id),
            actor=Actor(ActorType.SERVICE_ACCOUNT, format_id(Prefix.SERVICE_ACCOUNT, found.service_account_id)),
            principal_type=PrincipalType.SERVICE_ACCOUNT,
            principal_id=format_id(Prefix.SERVICE_ACCOUNT, found.service_account_id),
            workspace_id=found.workspace_id,
            expires_at=found.expires_at,
            public_key=found.public_key,
            fault=fault,
        )


def _actor_of(key: ApiKey) -> Actor:
    """Name the key, then on whose behalf: the key that a delegated one was made with, then the principal."""
    chain = () if key.principal_type is PrincipalType.SYSTEM else (key.principal_id,)
    if key.delegated and key.parent_id is not None:
        chain = (format_id(Prefix.KEY, key.parent_id), *chain)
    return Actor(ActorType.API_KEY, format_id(Prefix.KEY, key.key_id), chain)
