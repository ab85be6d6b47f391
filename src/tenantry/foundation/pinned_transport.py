"""The transport of `Outgoing`; loaded by its first call, as an idle server does without an HTTP client."""

import asyncio
import socket
from ipaddress import ip_address

import httpx

from tenantry.foundation.errors import Denied
from tenantry.kit.public_addresses import may_reach


class PinnedTransport(httpx.AsyncBaseTransport):
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
