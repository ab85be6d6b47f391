"""Calls to addresses that a tenant has named: bounded, and never into our own network.

A name is resolved once, every address it has is judged, and the connection goes to one of those: what a second look
would say does not matter. TLS is checked against the name. Redirects and proxies of the environment are not followed.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx

from tenantry.foundation.errors import Denied, Unavailable

_CONNECT_SECONDS: Final = 4.0
_WHOLE_SECONDS: Final = 10.0
_NAT64: Final = IPv6Network("64:ff9b::/96")
_IPV4_BYTES: Final = 4


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

    async def _read(self, response: httpx.Response) -> bytes:
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

    def _client(self) -> httpx.AsyncClient:
        """Open a client for one call: such calls are seldom, and share no connection."""
        transport = _Pinned(httpx.AsyncHTTPTransport(verify=self._tls), self._allow_private)
        return httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(_WHOLE_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


class _Pinned(httpx.AsyncBaseTransport):
    """Sends a request to an address that was judged, under the name it was asked for."""

    def __init__(self, inner: httpx.AsyncHTTPTransport, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        addresses = [ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        if not addresses or not all(may_reach(address, allow_private=self._allow_private) for address in addresses):
            raise address_refused("it lies in a network that is not to be asked from here")
        on_loopback = self._allow_private and all(address.is_loopback for address in addresses)
        if request.url.scheme != "https" and not (request.url.scheme == "http" and on_loopback):
            raise address_refused("it is not https")
        request.url = request.url.copy_with(host=str(addresses[0]))
        request.extensions = {**request.extensions, "sni_hostname": name}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def address_refused(reason: str) -> Denied:
    return Denied("address_refused", f"this address is not called: {reason}", layer="outgoing")


def may_reach(address: IPv4Address | IPv6Address, *, allow_private: bool) -> bool:
    """Judge an address, also one that is written inside another: mapped, 6to4, Teredo, NAT64."""
    inner = _inner_addresses(address)
    if inner:
        return all(may_reach(each, allow_private=allow_private) for each in inner)
    if address.is_loopback:
        return allow_private
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    return address.is_global or (allow_private and address.is_private)


def _inner_addresses(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    if isinstance(address, IPv4Address):
        return []
    found = [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner is not None]
    if address.teredo is not None:
        found += address.teredo
    if address in _NAT64:
        found.append(IPv4Address(address.packed[-_IPV4_BYTES:]))
    return found
