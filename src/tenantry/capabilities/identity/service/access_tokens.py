"""Our own access tokens (RFC 9068): who, where, which login, for 15 minutes. Never what anybody may do.

All of ours have the same header, so a token's is compared as a whole before anything of it is parsed: an algorithm, a
key or an address of a key that a token names itself cannot even be read.
"""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.identity.types import Login
from tenantry.foundation.derivation import derive_key
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.kit.strict_json import NotStrictError, parse_json

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey

LIFETIME: Final = timedelta(minutes=15)
LARGEST: Final = 2048
AUDIENCE: Final = "urn:tenantry:api"
CLIENT: Final = "tenantry"
_ALGORITHM: Final = "Ed25519"
_PURPOSE: Final = "access-token"
_KEY_ID_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token of ours says, its signature verified. Whether its login still holds the database knows."""

    tenant_id: UUID
    region: str
    user_id: UUID
    login_id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class _Jose:
    """The keys in their form for JOSE; made at the first token, because the library is no idle server's business."""

    private: "OKPKey"
    public: "OKPKey"
    header: dict[str, Any]
    issuer: str
    head: str
    """The encoded header, with its dot: how each token of ours begins."""


class AccessTokens:
    """Signs and reads them, by a key derived from the installation's: the same in every process."""

    def __init__(self, signing_key: bytes) -> None:
        self._signing_key = signing_key

    @cached_property
    def _jose(self) -> _Jose:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from joserfc.jwk import OKPKey

        secret = derive_key(self._signing_key, purpose=_PURPOSE)
        shown = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        curve: dict[str, str | list[str]] = {"kty": "OKP", "crv": "Ed25519", "x": _base64url(shown)}
        private = OKPKey.import_key({**curve, "d": _base64url(secret)})
        key_id = hashlib.sha256(shown).hexdigest()[:_KEY_ID_LENGTH]
        header = {"alg": _ALGORITHM, "typ": "at+jwt", "kid": key_id}
        return _Jose(
            private=private,
            public=OKPKey.import_key(curve),
            header=header,
            issuer=f"urn:tenantry:installation:{key_id}",
            head=_signed({}, header=header, key=private).partition(".")[0] + ".",
        )

    def issue(self, login: Login, *, tenant_id: UUID, region: str, now: datetime) -> tuple[str, int]:
        """Make one of a login; gives the text and its seconds."""
        issued = int(now.timestamp())
        expires = min(issued + int(LIFETIME.total_seconds()), int(login.expires_at.timestamp()))
        text = _signed(
            {
                "iss": self._jose.issuer,
                "aud": AUDIENCE,
                "client_id": CLIENT,
                "sub": format_id(Prefix.USER, login.user_id),
                "tid": format_id(Prefix.TENANT, tenant_id),
                "reg": region,
                "lgn": format_id(Prefix.LOGIN, login.login_id),
                "iat": issued,
                "exp": expires,
                "jti": secrets.token_urlsafe(12),
            },
            header=self._jose.header,
            key=self._jose.private,
        )
        return text, expires - issued

    def read(self, text: str, *, now: datetime) -> AccessToken | None:
        """Verify; None for whatever is not a valid token of ours, without saying why."""
        if len(text) > LARGEST or not text.startswith(self._jose.head):
            return None
        from joserfc import jws
        from joserfc.errors import JoseError

        try:
            found = jws.deserialize_compact(text.encode("ascii"), self._jose.public, algorithms=[_ALGORITHM])
            claims = parse_json(found.payload or b"")
            return self._token(claims, now=now)
        except (JoseError, NotStrictError, Invalid, ValueError, TypeError, KeyError):
            return None

    def _token(self, claims: Any, *, now: datetime) -> AccessToken | None:
        issued, expires = claims["iat"], claims["exp"]
        if claims["iss"] != self._jose.issuer or claims["aud"] != AUDIENCE or type(issued) is not int:
            return None
        if not all(isinstance(claims[name], str) for name in ("tid", "reg", "sub", "lgn")):
            return None
        if type(expires) is not int or not now.timestamp() < expires <= issued + LIFETIME.total_seconds():
            return None
        return AccessToken(
            tenant_id=parse_id(Prefix.TENANT, claims["tid"]),
            region=claims["reg"],
            user_id=parse_id(Prefix.USER, claims["sub"]),
            login_id=parse_id(Prefix.LOGIN, claims["lgn"]),
            expires_at=datetime.fromtimestamp(expires, UTC),
        )


def looks_like_token(text: str) -> bool:
    """Say whether a credential is a JWT rather than a key: by its form alone."""
    return text.count(".") == 2  # noqa: PLR2004 - a compact JWS (RFC 7515 §3.1)


def _signed(claims: dict[str, Any], *, header: dict[str, Any], key: "OKPKey") -> str:
    from joserfc import jws

    payload = json.dumps(claims, separators=(",", ":")).encode()
    return jws.serialize_compact(dict(header), payload, key, algorithms=[_ALGORITHM])


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
