"""Identity providers over HTTPS: discovery, keys, code exchange, userinfo.

What an issuer publishes is public and kept by its address for all tenants. Keys are asked for anew when a token names
one that is not known (rotation), a bounded number of times a minute: who sends made-up key ids moves nothing.
"""

import base64
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus, urlsplit

from tenantry.capabilities.identity.errors import issuer_unreachable, issuer_unusable
from tenantry.capabilities.identity.types import IssuerMetadata, Redemption
from tenantry.foundation.clock import Clock
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.outgoing import Outgoing, Reply
from tenantry.kit.strict_json import NotStrictError, parse_json

ANSWER_BYTES: Final = 256 << 10
_KEPT_SECONDS: Final = 600.0
_KEPT_ISSUERS: Final = 500
_ASKS_A_MINUTE: Final = 6
_MINUTE: Final = 60.0
_MOST_KEYS: Final = 100
_OK: Final = 200
_BROKEN: Final = 500
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


@dataclass(slots=True)
class _Known:
    """What is kept of an issuer, with the moments at which it was asked."""

    metadata: IssuerMetadata
    metadata_at: float
    keys: Sequence[Mapping[str, Any]] = ()
    keys_at: float = float("-inf")
    asked_at: deque[float] = field(default_factory=lambda: deque(maxlen=_ASKS_A_MINUTE))


class HttpIssuers:
    """The `Issuers` port."""

    def __init__(self, *, outgoing: Outgoing, clock: Clock) -> None:
        self._outgoing = outgoing
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def metadata(self, issuer: str) -> IssuerMetadata:
        known = self._known.get(issuer)
        now = self._clock.monotonic()
        if known is not None and now - known.metadata_at < _KEPT_SECONDS:
            return known.metadata
        document = _document(await self._get(issuer.rstrip("/") + _WELL_KNOWN))
        metadata = _metadata(document, issuer=issuer)
        if known is not None and known.metadata.jwks_uri == metadata.jwks_uri:
            known.metadata, known.metadata_at = metadata, now
        else:
            self._known[issuer] = _Known(metadata, now)
        while len(self._known) > _KEPT_ISSUERS:
            self._known.popitem(last=False)
        return metadata

    async def keys(self, metadata: IssuerMetadata, *, anew: bool = False) -> Sequence[Mapping[str, Any]]:
        now = self._clock.monotonic()
        known = self._known.get(metadata.issuer) or _Known(metadata, now)
        fresh = now - known.keys_at < _KEPT_SECONDS
        asked_enough = len(known.asked_at) == _ASKS_A_MINUTE and now - known.asked_at[0] < _MINUTE
        if (fresh and not anew) or asked_enough:
            return known.keys
        known.asked_at.append(now)
        published = _document(await self._get(metadata.jwks_uri)).get("keys")
        if not isinstance(published, list) or len(published) > _MOST_KEYS:
            raise issuer_unusable("publishes no usable keys")
        known.keys = tuple(key for key in published if isinstance(key, dict))
        known.keys_at = now
        return known.keys

    async def redeem(
        self,
        metadata: IssuerMetadata,
        *,
        client_id: str,
        secret: str | None,
        code: str,
        verifier: str,
        callback: str,
    ) -> Redemption:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": callback,
            "code_verifier": verifier,
        }
        headers = {}
        if secret is None:
            form["client_id"] = client_id
        elif metadata.posts_secret:
            form |= {"client_id": client_id, "client_secret": secret}
        else:
            # RFC 6749 §2.3.1: both are form-encoded first.
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        reply = await self._reached(self._outgoing.post_form(metadata.token_endpoint, form, headers=headers))
        answer = _document(reply)
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise issuer_unusable("gave no id token")
        return Redemption(id_token, access_token)

    async def userinfo(self, metadata: IssuerMetadata, *, access_token: str) -> Mapping[str, Any]:
        if metadata.userinfo_endpoint is None:
            return {}
        if not access_token.isascii() or not access_token.isprintable():
            raise issuer_unusable("gave an access token that no header holds")
        headers = {"Authorization": f"Bearer {access_token}"}
        return _document(await self._reached(self._outgoing.get(metadata.userinfo_endpoint, headers=headers)))

    async def _get(self, url: str) -> Reply:
        return await self._reached(self._outgoing.get(url))

    async def _reached(self, call: Any) -> Reply:
        try:
            reply: Reply = await call
        except Unavailable as error:
            raise issuer_unreachable(f"cannot be asked ({error.code})") from None
        if reply.status >= _BROKEN:
            raise issuer_unreachable(f"is out of order ({reply.status})")
        return reply


def _document(reply: Reply) -> dict[str, Any]:
    """Read a JSON object; what a refusal says is not told on, it may quote what was sent."""
    if reply.status != _OK:
        raise issuer_unusable(f"refused a call ({reply.status})")
    if reply.content_type.partition(";")[0].strip().lower() not in ("application/json", "application/jwk-set+json"):
        raise issuer_unusable("answered with something else than JSON")
    try:
        document = parse_json(reply.body)
    except NotStrictError:
        raise issuer_unusable("answered with unreadable JSON") from None
    if not isinstance(document, dict):
        raise issuer_unusable("answered with something else than an object")
    return document


def _metadata(document: Mapping[str, Any], *, issuer: str) -> IssuerMetadata:
    if document.get("issuer") != issuer:  # OpenID Connect Discovery 1.0 §4.3: exactly
        raise issuer_unusable("calls itself by another name than it was configured with")
    needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    found = {name: _endpoint(document, name, issuer=issuer) for name in needed}
    if None in found.values():
        raise issuer_unusable("names not all its endpoints")
    methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return IssuerMetadata(
        issuer=issuer,
        userinfo_endpoint=_endpoint(document, "userinfo_endpoint", issuer=issuer),
        posts_secret=isinstance(methods, list) and "client_secret_basic" not in methods,
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        **{name: str(value) for name, value in found.items()},
    )


def _endpoint(document: Mapping[str, Any], name: str, *, issuer: str) -> str | None:
    """Take an address that is as safe as the issuer's: https, or http where the issuer itself is a local one."""
    value = document.get(name)
    if value is None:
        return None
    schemes = {"https", urlsplit(issuer).scheme}
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise issuer_unusable(f"has an unreadable {name}")
    try:
        parts = urlsplit(value)
    except ValueError:
        raise issuer_unusable(f"has an unreadable {name}") from None
    if parts.scheme not in schemes or not parts.hostname or "@" in parts.netloc or "#" in value:
        raise issuer_unusable(f"has an unusable {name}")
    return value
