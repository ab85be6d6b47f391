"""Tokens for one port of one running sandbox: for a link, or for what can send no other credential.

A token is signed and stored nowhere. It stands for the credential that it was made with, and for that alone: whatever
ends or narrows that one, counts for the token at once. It is good in one workspace, for one start of the sandbox.
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from tenantry.capabilities.access.service import Identified, Presented, identified_key, identified_login
from tenantry.capabilities.identity.errors import credential_refused
from tenantry.capabilities.identity.service import IdentityService
from tenantry.capabilities.identity.types import Credential, ScopeKind
from tenantry.foundation.clock import Clock
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, parse_id

PORT_TOKEN: Final = "port_token"  # noqa: S105 - a kind
"""Kind of what is presented."""
_PREFIX: Final = "tpt_"
_MAC_BYTES: Final = 32
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True)
class PortToken:
    """`made_with` names the key or login that it stands for; `job_id` is what the sandbox lives by."""

    region: str
    tenant_id: UUID
    workspace_id: UUID
    sandbox_id: UUID
    job_id: UUID
    port: int
    made_with: str
    expires_at: datetime


class PortTokens:
    """Makes and reads them. The signature covers all that a token says."""

    def __init__(self, *, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def make(self, token: PortToken) -> str:
        """Write a token; raises Invalid `port_token_unavailable` for a credential that it could not stand for."""
        if not token.made_with.startswith((f"{Prefix.KEY}_", f"{Prefix.LOGIN}_")):
            raise Invalid(
                "port_token_unavailable",
                "a port token stands for an API key or a login: make it with one",
                layer="sandboxes",
                allow_with=("an API key", "a login"),
            )
        ids = [each.hex for each in (token.tenant_id, token.workspace_id, token.sandbox_id, token.job_id)]
        told = [token.region, *ids, token.port, token.made_with, int(token.expires_at.timestamp())]
        body = json.dumps(told, separators=(",", ":")).encode()
        return _PREFIX + base64.urlsafe_b64encode(self._mac(body) + body).rstrip(b"=").decode()

    def read(self, text: str) -> PortToken | None:
        """Read a token that is ours and holds; None for any other."""
        encoded = text.removeprefix(_PREFIX)
        if encoded == text or len(text) > _LONGEST:
            return None
        try:
            raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            return None
        region, tenant, workspace, sandbox, job, port, made_with, until = json.loads(body)
        token = PortToken(
            region=region,
            tenant_id=UUID(tenant),
            workspace_id=UUID(workspace),
            sandbox_id=UUID(sandbox),
            job_id=UUID(job),
            port=port,
            made_with=made_with,
            expires_at=datetime.fromtimestamp(until, UTC),
        )
        return token if token.expires_at > self._clock.now() else None

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)


class PortTokenReader:
    """Reads what stands for a credential, and finds that one."""

    def __init__(self, tokens: PortTokens) -> None:
        self._tokens = tokens

    def read(self, presented: Presented) -> Credential | None:
        if presented.kind != PORT_TOKEN:
            return None
        token = self._tokens.read(presented.text)
        if token is None:
            raise credential_refused()
        return Credential(presented.text, token.region, ScopeKind.TENANT, token.tenant_id)

    async def identify(self, identity: IdentityService, credential: Credential) -> Identified:
        token = self._tokens.read(credential.text)
        found = await _made_with(identity, token.made_with) if token is not None else None
        if token is None or found is None or found.workspace_id not in (None, token.workspace_id):
            raise credential_refused()
        ends = [each for each in (found.expires_at, token.expires_at) if each is not None]
        return replace(found, workspace_id=token.workspace_id, expires_at=min(ends))


async def _made_with(identity: IdentityService, name: str) -> Identified | None:
    if name.startswith(f"{Prefix.KEY}_"):
        key = await identity.find_key(parse_id(Prefix.KEY, name))
        return identified_key(key) if key is not None else None
    login = await identity.logins.find(parse_id(Prefix.LOGIN, name))
    return identified_login(login, expires_at=login.expires_at) if login is not None else None
