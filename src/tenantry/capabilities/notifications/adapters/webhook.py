"""Webhooks: one signed POST of JSON.

    X-Tenantry-Delivery    the delivery's id: the same at each attempt
    X-Tenantry-Topic       what it is about
    X-Tenantry-Signature   t=<Unix seconds>,v1=<hex>: HMAC-SHA-256 under the channel's secret of `<t>.<body>`

The host is resolved once; the connection goes to an address that was examined, under the host's name for TLS and
`Host`. Redirects are answers like any other. Of an answer the status alone counts, its body is not read.
"""

import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from tenantry.capabilities.notifications.adapters.resolving import Resolver
from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.types import Address, Message
from tenantry.foundation.clock import Clock

if TYPE_CHECKING:
    import httpx

SIGNATURE: Final = "X-Tenantry-Signature"
DELIVERY: Final = "X-Tenantry-Delivery"
TOPIC: Final = "X-Tenantry-Topic"
_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0
_TRIED: Final = 3
_GONE: Final = 410
_PORTS: Final = {"http": 80, "https": 443}


class WebhookSender:
    """The `Sender` port for webhooks. Its HTTP client is loaded and opened by the first of them."""

    def __init__(self, resolver: Resolver, *, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: whom to trust; without it, whom the machine trusts."""
        self._resolver = resolver
        self._clock = clock
        self._tls = tls
        self._client: httpx.AsyncClient | None = None

    async def send(self, address: Address, message: Message) -> None:
        body = json.dumps({**message.document, "title": message.title, "body": message.body}).encode()
        told = {"Content-Type": "application/json", DELIVERY: message.delivery, TOPIC: message.topic}
        await self.post(address, body, headers=told)

    async def post(self, address: Address, body: bytes, *, headers: Mapping[str, str]) -> None:
        """Post a body, signed where the address has a secret; raises NotSentError. Another attempt may repeat it."""
        parts = urlsplit(address.text)
        host = parts.hostname or ""
        headers = {"User-Agent": "Tenantry", **headers}
        if address.secret is not None:
            headers[SIGNATURE] = sign(body, secret=address.secret, at=int(self._clock.now().timestamp()))
        targets = await self._resolver.resolve(host, parts.port or _PORTS[parts.scheme])
        status = await self._post(parts, targets[:_TRIED], headers=headers, body=body)
        if not 200 <= status < 300:  # noqa: PLR2004 - RFC 9110 §15.3
            raise NotSentError(f"http_{status}", lasting=status == _GONE)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _post(self, parts: SplitResult, targets: list[str], *, headers: Mapping[str, str], body: bytes) -> int:
        """Post to the first of the addresses that takes the connection; gives the status."""
        import httpx

        client = self._client = self._client or self._open()
        netloc = parts.netloc
        extensions = {"sni_hostname": parts.hostname} if parts.scheme == "https" else {}
        for number, target in enumerate(targets, 1):
            there = f"[{target}]" if ":" in target else target
            url = parts._replace(netloc=f"{there}:{parts.port or _PORTS[parts.scheme]}").geturl()
            request = client.build_request(
                "POST", url, content=body, headers={**headers, "Host": netloc}, extensions=extensions
            )
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if number == len(targets):
                    raise NotSentError(_code_of(error)) from None
            except httpx.TimeoutException:
                raise NotSentError("timed_out") from None
            except (httpx.HTTPError, httpx.InvalidURL):
                raise NotSentError("connection_failed") from None
            else:
                await answer.aclose()
                return answer.status_code
        raise NotSentError("connection_failed")

    def _open(self) -> "httpx.AsyncClient":
        import httpx

        # A connection serves one request: nothing of one tenant's is there for the next.
        return httpx.AsyncClient(
            verify=self._tls or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(_SECONDS, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_keepalive_connections=0),
        )


def sign(body: bytes, *, secret: str, at: int) -> str:
    """Make the signature's header: who has the secret checks it over the bytes received, and that `t` is recent."""
    mac = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def _code_of(error: Exception) -> str:
    """Tell a certificate that is not trusted from a port where nobody listens; the text is not told on."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "tls_failed"
        cause = cause.__cause__ or cause.__context__
    return "connection_failed"
