"""ID tokens of identity providers, checked as OpenID Connect Core 1.0 §3.1.3.7 says, and no less strictly.

Only keys that the issuer publishes itself verify: what a token's header says of keys (`jwk`, `jku`, `x5u`, `x5c`) is
not looked at. Only signatures by private keys count, so a public key is never taken for a shared secret.
"""

import base64
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tenantry.kit.strict_json import NotStrictError, parse_json

LARGEST: Final = 16 << 10
_OLDEST: Final = timedelta(minutes=15)
"""How long ago a token may have been made: a flow lasts ten minutes."""
_RSA: Final = ("RSA", None)
_ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), _RSA),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
_LONGEST_SUBJECT: Final = 255
"""OpenID Connect Core §2."""
_DOTS: Final = 2
"""A compact JWS (RFC 7515 §3.1) has three parts."""
_SMALLEST_RSA: Final = 2048
_LARGEST_RSA: Final = 8192
_PUBLIC_MEMBERS: Final = ("kty", "crv", "x", "y", "n", "e")


class IdTokenRefusedError(Exception):
    """An id token that does not count; the reason is a stable word for the trail, never shown to who brought it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownKeyError(IdTokenRefusedError):
    """No published key fits: the issuer may have a newer one."""


@dataclass(frozen=True, slots=True)
class Expected:
    issuer: str
    client_id: str
    nonce: str
    now: datetime
    skew: timedelta
    """How far the tenant lets its providers' clocks be from ours, either way."""


def read_id_token(text: str, *, keys: Sequence[Mapping[str, Any]], expected: Expected) -> dict[str, Any]:
    """Verify; gives the claims. Raises UnknownKeyError, IdTokenRefusedError."""
    if len(text) > LARGEST or not text.isascii() or text.count(".") != _DOTS:
        raise IdTokenRefusedError("malformed")
    header = _header(text)
    claims = _payload(text, header=header, keys=keys)
    _require_meant_for_us(claims, expected)
    _require_now(claims, expected)
    if claims.get("nonce") != expected.nonce:
        raise IdTokenRefusedError("nonce")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
        raise IdTokenRefusedError("subject")
    return claims


def _header(text: str) -> dict[str, Any]:
    head = text.partition(".")[0]
    try:
        header = parse_json(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (NotStrictError, ValueError):
        raise IdTokenRefusedError("malformed") from None
    if not isinstance(header, dict):
        raise IdTokenRefusedError("malformed")
    if header.get("alg") not in _ALGORITHMS:
        raise IdTokenRefusedError("algorithm")
    if header.get("typ", "JWT") not in ("JWT", "jwt") or "crit" in header:
        raise IdTokenRefusedError("type")
    if not isinstance(header.get("kid", ""), str):
        raise IdTokenRefusedError("malformed")
    return header


def _payload(text: str, *, header: Mapping[str, Any], keys: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from joserfc import jws
    from joserfc.errors import JoseError, SecurityWarning
    from joserfc.jwk import import_key

    fitting = [key for key in keys if _fits(key, header)]
    if not fitting:
        raise UnknownKeyError("key_unknown")
    if "kid" not in header and len(fitting) > 1:  # §10.1: with several keys a token names its own
        raise IdTokenRefusedError("key_unnamed")
    registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
    registry.max_header_length = LARGEST
    try:
        key = import_key({name: fitting[0][name] for name in _PUBLIC_MEMBERS if name in fitting[0]})
        with warnings.catch_warnings():
            # RFC 9864 has renamed EdDSA; providers still say it, and the curve is checked here.
            warnings.simplefilter("ignore", SecurityWarning)
            payload = jws.deserialize_compact(text.encode(), key, registry=registry).payload
        claims = parse_json(payload or b"")
    except (JoseError, NotStrictError, ValueError, TypeError, KeyError):
        raise IdTokenRefusedError("signature") from None
    if not isinstance(claims, dict):
        raise IdTokenRefusedError("malformed")
    return claims


def _fits(key: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    """Whether a published key may verify this token: named by it, of its algorithm's kind, for signatures."""
    kind, curve = _ALGORITHMS[header["alg"]]
    if key.get("kty") != kind or (curve is not None and key.get("crv") != curve):
        return False
    if key.get("use", "sig") != "sig" or key.get("alg", header["alg"]) != header["alg"]:
        return False
    if "key_ops" in key and (not isinstance(key["key_ops"], list) or "verify" not in key["key_ops"]):
        return False
    if kind == "RSA" and not _SMALLEST_RSA <= _bits(key.get("n")) <= _LARGEST_RSA:
        return False
    return "kid" not in header or key.get("kid") == header["kid"]


def _bits(modulus: Any) -> int:
    """Bits of a number in base64url, to the byte; it is minimal by RFC 7518 §6.3.1.1."""
    return len(modulus) * 6 // 8 * 8 if isinstance(modulus, str) else 0


def _require_meant_for_us(claims: Mapping[str, Any], expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise IdTokenRefusedError("issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences:
        raise IdTokenRefusedError("audience")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != expected.client_id:
        raise IdTokenRefusedError("authorized_party")


def _require_now(claims: Mapping[str, Any], expected: Expected) -> None:
    now, skew = expected.now.timestamp(), expected.skew.total_seconds()
    expires, issued, starts = (_moment(claims, name) for name in ("exp", "iat", "nbf"))
    if expires is None or issued is None:
        raise IdTokenRefusedError("moments")
    if now - skew >= expires:
        raise IdTokenRefusedError("expired")
    if issued > now + skew or (starts is not None and starts > now + skew):
        raise IdTokenRefusedError("not_yet")
    if issued < now - skew - _OLDEST.total_seconds():
        raise IdTokenRefusedError("stale")


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 40:
        raise IdTokenRefusedError("moments")
    return float(value)
