"""Calls to addresses that a tenant has named: bounded, and never into our own network.

A name is resolved once, every address it has is judged, and the connection goes to one of those: what a second look
would say does not matter. TLS is checked against the name. Redirects and proxies of the environment are not followed.
"""

import asyncio
import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

from tenantry.foundation.errors import Unavailable

_CONNECT_SECONDS: Final = 4.0
_WHOLE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content_type: str
    body: bytes


class Outgoing:
    """A client for such calls. `allow_private`: also this machine and its networks, and http on loopback (laptops)."""

    def __init__(self, *, allow_private: bool, limit: int) -> None:
        self._allow_private = allow_private
        self._limit = limit

    async def get(self, url: str, *, headers: dict[str, str] | None = None) -> Reply:
        return await self._send("GET", url, headers=headers)

    async def post_form(self, url: str, form: dict[str, str], *, headers: dict[str, str] | None = None) -> Reply:
        return await self._send("POST", url, headers=headers, form=form)

    async def _send(
        self, method: str, url: str, *, headers: dict[str, str] | None, form: dict[str, str] | None = None
    ) -> Reply:
        """Send; raises Denied `address_refused`, Unavailable `address_unreachable`, `answer_too_large`."""
        import httpx

        asked = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        try:
            async with (
                asyncio.timeout(_WHOLE_SECONDS),
                self._client() as client,
                client.stream(method, url, headers=asked, data=form) as response,
            ):
                return Reply(response.status_code, response.headers.get("content-type", ""), await self._read(response))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            # Without the text of the error, which may quote the request.
            what = "did not answer in time" if isinstance(error, TimeoutError | httpx.TimeoutException) else "failed"
            raise Unavailable(
                "address_unreachable", f"the call {what}: {type(error).__name__}", layer="outgoing"
            ) from None

    async def _read(self, response: "httpx.Response") -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_raw():  # as sent: what would have to be unpacked was not asked for
            size += len(part)
            if size > self._limit:
                raise Unavailable(
                    "answer_too_large", f"the answer is longer than {self._limit} bytes", layer="outgoing"
                )
            parts.append(part)
        return b"".join(parts)

    def _client(self) -> "httpx.AsyncClient":
        """Open a client for one call: such calls are seldom, and share no connection."""
        import httpx

        from tenantry.foundation.pinned_transport import PinnedTransport

        transport = PinnedTransport(httpx.AsyncHTTPTransport(verify=self._tls), self._allow_private)
        return httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(_WHOLE_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()
