"""Calls to addresses that a tenant has named: bounded, and never into our own network.

A name is resolved once, every address it has is judged, and the connection goes to one of those: what a second look
would say does not matter. TLS is checked against the name. Redirects and proxies of the environment are not followed.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from tenantry.foundation.errors import Denied, Unavailable
from tenantry.kit.public_addresses import Ip, may_reach

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS: Final = 4.0
_WHOLE_SECONDS: Final = 10.0
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content_type: str
    body: bytes


class Outgoing:
    """A client for such calls. `allow_private`: also this machine and its networks, and http on loopback (laptops)."""

    def __init__(self, *, allow_private: bool, limit: int, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: whom to trust; without it, whom the machine trusts."""
        self._allow_private = allow_private
        self._limit = limit
        self._trusted = tls

    async def get(self, url: str, *, headers: dict[str, str] | None = None) -> Reply:
        return await self._send("GET", url, headers=headers)

    async def post_form(self, url: str, form: dict[str, str], *, headers: dict[str, str] | None = None) -> Reply:
        return await self._send("POST", url, headers=headers, form=form)

    async def _send(
        self, method: str, url: str, *, headers: dict[str, str] | None, form: dict[str, str] | None = None
    ) -> Reply:
        """Send; raises Denied `address_refused`, Unavailable `address_unreachable`, `answer_too_large`."""
        import httpx

        try:
            async with asyncio.timeout(_WHOLE_SECONDS), self._client() as client:
                asked = httpx.URL(url)
                address = await self._judged(asked.scheme, asked.host, asked.port)
                request = client.build_request(
                    method,
                    asked.copy_with(host=address),
                    headers={
                        "Host": asked.netloc.decode("ascii"),
                        "Accept": "application/json",
                        "Accept-Encoding": "identity",
                        **(headers or {}),
                    },
                    data=form,
                    extensions={"sni_hostname": asked.host},
                )
                response = await client.send(request, stream=True)
                try:
                    kind = response.headers.get("content-type", "")
                    return Reply(response.status_code, kind, await self._read(response))
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            # Without the text of the error, which may quote the request.
            what = "did not answer in time" if isinstance(error, TimeoutError | httpx.TimeoutException) else "failed"
            raise Unavailable(
                "address_unreachable", f"the call {what}: {type(error).__name__}", layer="outgoing"
            ) from None

    async def _judged(self, scheme: str, name: str, port: int | None) -> str:
        """Give one of the addresses of a name, to be connected to."""
        addresses = await judged_addresses(name, port or _PORTS.get(scheme, 0), allow_private=self._allow_private)
        on_loopback = self._allow_private and all(address.is_loopback for address in addresses)
        if scheme != "https" and not (scheme == "http" and on_loopback):
            raise address_refused("it is not https")
        return str(addresses[0])

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

        return httpx.AsyncClient(
            verify=self._tls,
            timeout=httpx.Timeout(_WHOLE_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._trusted or ssl.create_default_context()


async def judged_addresses(name: str, port: int, *, allow_private: bool) -> list[Ip]:
    """Resolve a name once and judge every address it has; raises Denied `address_refused`, OSError for no such name."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    addresses = [ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    if not addresses or not all(may_reach(address, allow_private=allow_private) for address in addresses):
        raise address_refused("it lies in a network that is not to be asked from here")
    return list(dict.fromkeys(addresses))


def address_refused(reason: str) -> Denied:
    return Denied("address_refused", f"this address is not called: {reason}", layer="outgoing")
