"""Requests to one registry: its tokens, redirects, and nothing of either that reaches anybody else.

What is secret, passwords and tokens, goes to the registry's own origin and to the realm it names; never into an error.
"""

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, Self

from tenantry.engines.jail.registries import (
    Credentials,
    ReferenceInvalid,
    Registries,
    RegistryDenied,
    RegistryUnavailable,
)
from tenantry.kit.image_references import Reference
from tenantry.kit.strict_json import NotStrictError, parse_json

if TYPE_CHECKING:
    import httpx

_READ_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 10.0
_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_TOKEN: Final = 64 << 10
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,32768}")
_CHALLENGE: Final = re.compile(r'\s*(?:,\s*)?([A-Za-z_]{1,32})\s*=\s*(?:"((?:[^"\\]|\\.){0,2000})"|([^\s",]{1,2000}))')
_OK, _PARTIAL, _UNAUTHENTICATED, _DENIED, _ABSENT, _SERVER_FAULT = 200, 206, 401, 403, 404, 500


class RegistryCalls:
    """GET requests for one repository. Use it as a context; one pull, one client, nothing kept after it."""

    def __init__(
        self,
        reference: Reference,
        *,
        registries: Registries,
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls`: whom to trust; without it, whom the machine trusts. Raises RegistryDenied for one not listed."""
        import httpx

        from tenantry.foundation.judged_transport import JudgedTransport, Permit

        registries.require(reference.registry)
        self._reference = reference
        self._base = httpx.URL(registries.address(reference.registry))
        self._basic = httpx.BasicAuth(credentials.username, credentials.password) if credentials else None
        self._authorization = ""
        self._client = httpx.AsyncClient(
            transport=JudgedTransport(lambda url: Permit(*registries.reach(url)), tls=tls),
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def get(self, path: str, *, headers: dict[str, str]) -> AsyncIterator["httpx.Response"]:
        """Open an answer of 200 or 206 whose body is to be read raw; asks for a token when it is told to.

        Raises RegistryDenied, ReferenceInvalid `image_not_in_registry`, RegistryUnavailable, Denied `address_refused`;
        httpx.TransportError for a connection that fails or breaks.
        """
        url = self._base.copy_with(path=f"/v2/{self._reference.repository}/{path}")
        response = await self._follow(url, headers)
        # Only the registry itself may say whom to show a password: not whoever it redirects to (CVE-2020-15157).
        if response.status_code == _UNAUTHENTICATED and _origin(response.url) == _origin(self._base):
            await response.aclose()
            await self._authenticate(response.headers.get_list("www-authenticate"))
            response = await self._follow(url, headers)
        try:
            self._require(response.status_code)
            yield response
        finally:
            await response.aclose()

    async def _follow(self, url: "httpx.URL", headers: dict[str, str]) -> "httpx.Response":
        """Go where redirects lead, whose addresses are judged like any; what authorizes stays with the registry."""
        import httpx

        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._send(url, headers)
            if response.status_code not in _REDIRECTS:
                return response
            await response.aclose()
            try:
                url = url.join(response.headers.get("location", ""))
            except httpx.InvalidURL:
                break
        raise RegistryUnavailable("registry_answer_invalid", "the registry sends on and on, or nowhere")

    async def _send(self, url: "httpx.URL", headers: dict[str, str]) -> "httpx.Response":
        import httpx

        asked = {"Accept-Encoding": "identity", "User-Agent": "Tenantry", **headers}
        if self._authorization and _origin(url) == _origin(self._base):
            asked["Authorization"] = self._authorization
        try:
            return await self._client.send(self._client.build_request("GET", url, headers=asked), stream=True)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError):
            raise RegistryUnavailable("registry_answer_invalid", "the registry names an address that is none") from None

    def _require(self, status: int) -> None:
        if status in (_OK, _PARTIAL):
            return
        name = self._reference.name
        if status in (_UNAUTHENTICATED, _DENIED):
            raise RegistryDenied(
                "registry_access_denied",
                f"{name}: the registry does not let this be pulled, or there is no such repository",
                allow_with=("username and password of somebody who may pull it",),
            )
        if status == _ABSENT:
            raise ReferenceInvalid("image_not_in_registry", f"{name} has no such tag, digest or layer")
        raise RegistryUnavailable("registry_unavailable", f"{self._reference.registry} answers with status {status}")

    async def _authenticate(self, challenges: list[str]) -> None:
        """Find what authorizes by what the registry asks for (distribution specification, token authentication)."""
        import httpx

        for challenge in challenges:
            scheme, _, rest = challenge.strip().partition(" ")
            if scheme.lower() == "basic" and self._basic is not None:
                request = httpx.Request("GET", self._base)
                self._authorization = next(self._basic.sync_auth_flow(request)).headers["Authorization"]
                return
            if scheme.lower() == "bearer":
                fields = {name.lower(): quoted or plain for name, quoted, plain in _CHALLENGE.findall(rest)}
                self._authorization = f"Bearer {await self._token(fields)}"
                return
        self._authorization = ""

    async def _token(self, challenge: dict[str, str]) -> str:
        """Ask the realm for a token to pull this repository with, whatever scope the registry names."""
        import httpx

        try:
            realm = httpx.URL(challenge.get("realm", ""))
        except httpx.InvalidURL:
            realm = httpx.URL()
        if realm.scheme != "https" and _origin(realm) != _origin(self._base):
            raise RegistryDenied(
                "registry_realm_refused",
                "the registry names a realm that is neither https nor its own",
            )
        query = {"scope": f"repository:{self._reference.repository}:pull"}
        if service := challenge.get("service"):
            query["service"] = service
        request = self._client.build_request(
            "GET", realm.copy_merge_params(query), headers={"Accept-Encoding": "identity", "User-Agent": "Tenantry"}
        )
        response = await self._client.send(request, stream=True, auth=self._basic)
        try:
            if response.status_code != _OK:
                self._require(_DENIED if response.status_code < _SERVER_FAULT else response.status_code)
            raw = await read_most(response, _MAX_TOKEN)
        finally:
            await response.aclose()
        try:
            told = parse_json(raw)
        except NotStrictError:
            told = None
        token = (told.get("token") or told.get("access_token")) if isinstance(told, dict) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise RegistryUnavailable("registry_answer_invalid", "the registry's realm gives no token")
        return token


async def read_most(response: "httpx.Response", most: int) -> bytes:
    """Read a body as it was sent; raises RegistryUnavailable `registry_answer_invalid` for one of more than `most`."""
    held = bytearray()
    async for chunk in response.aiter_raw():
        held += chunk
        if len(held) > most:
            raise RegistryUnavailable("registry_answer_invalid", f"an answer of the registry is longer than {most}")
    return bytes(held)


def _origin(url: "httpx.URL") -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
