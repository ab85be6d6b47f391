"""A transport for httpx that connects to judged addresses alone, for calls of many requests or of long answers.

A module of its own, as it loads httpx: import it where a client is made.
"""

import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

import httpx

from tenantry.foundation.outgoing import address_refused, judged_addresses

_PORTS: Final = {"https": 443, "http": 80}
_TRIED: Final = 3


class Permit(NamedTuple):
    """Whether an address may lie in private networks, and be asked without TLS."""

    private: bool = False
    plain: bool = False


class JudgedTransport(httpx.AsyncBaseTransport):
    """Resolves the host of each request once, judges all its addresses, and connects to one of those.

    No connection serves two requests: one opened for a name would be taken for another of the same address.
    A request's body is sent again when an address does not answer, so it must not be a stream.
    """

    def __init__(self, permit: Callable[[httpx.URL], Permit], *, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: whom to trust; without it, whom the machine trusts."""
        self._permit = permit
        self._inner = httpx.AsyncHTTPTransport(
            verify=tls or ssl.create_default_context(),
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send; raises Denied `address_refused`, else what httpx raises."""
        url, permit = request.url, self._permit(request.url)
        if url.scheme != "https" and not (url.scheme == "http" and permit.plain):
            raise address_refused("it is not https")
        if url.userinfo:
            raise address_refused("it holds a name and a password")
        try:
            addresses = await judged_addresses(_name(url), url.port or _PORTS[url.scheme], allow_private=permit.private)
        except (OSError, UnicodeError):
            raise httpx.ConnectError("the name has no address") from None
        tried = addresses[:_TRIED]
        for address in tried:
            try:
                return await self._inner.handle_async_request(_pinned(request, str(address)))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if address == tried[-1]:
                    raise
        raise httpx.ConnectError("no address")

    async def aclose(self) -> None:
        await self._inner.aclose()


def _name(url: httpx.URL) -> str:
    """Give the host as it is asked for, not as it is shown: without letters beyond ASCII."""
    return url.raw_host.decode("ascii")


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    """Make the request one to an address, under the name it was for."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": _name(request.url)},
    )
