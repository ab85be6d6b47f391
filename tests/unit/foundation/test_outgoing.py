"""Calls to addresses that tenants name reach nothing of ours, and take no more than their bound."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.authority import Authority, Issued

from tenantry.foundation.errors import Denied, TenantryError, Unavailable
from tenantry.foundation.outgoing import Outgoing
from tenantry.kit.public_addresses import may_reach

OURS = [
    "127.0.0.1",
    "127.9.9.9",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::a00:1",
]
NOBODYS = ["0.0.0.0", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "::"]  # noqa: S104 - judged, not listened on
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_world_may_be_reached(address: str) -> None:
    assert may_reach(ip_address(address), allow_private=False)


@pytest.mark.parametrize("address", OURS)
def test_our_own_networks_only_where_that_is_allowed(address: str) -> None:
    assert not may_reach(ip_address(address), allow_private=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"])
def test_where_it_is_allowed_they_are_reached(address: str) -> None:
    assert may_reach(ip_address(address), allow_private=True)


@pytest.mark.parametrize("address", [*NOBODYS, "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"])
def test_metadata_and_what_is_no_host_never(address: str) -> None:
    assert not may_reach(ip_address(address), allow_private=True)
    assert not may_reach(ip_address(address), allow_private=False)


async def _refusal(outgoing: Outgoing, url: str) -> TenantryError:
    with pytest.raises(TenantryError) as caught:
        await outgoing.get(url)
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x",
        "https://localhost/x",
        "https://[::1]/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://127.1/x",
        "https://169.254.169.254/latest",
        "http://localhost:1/x",
    ],
)
async def test_no_spelling_of_an_own_address_is_called(url: str) -> None:
    error = await _refusal(Outgoing(allow_private=False, limit=1000), url)
    assert isinstance(error, Denied), error
    assert error.code == "address_refused"


@asynccontextmanager
async def _answering(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"https://localhost:{port}/" if tls else f"http://127.0.0.1:{port}/"


def _head(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


async def test_an_answer_is_read_to_its_bound_and_no_further() -> None:
    async with _answering(_head(b"x" * 1000)) as url:
        outgoing = Outgoing(allow_private=True, limit=1000)
        assert len((await outgoing.get(url)).body) == 1000
    async with _answering(_head(b"x" * 1001)) as url:
        error = await _refusal(Outgoing(allow_private=True, limit=1000), url)
        assert (type(error), error.code) == (Unavailable, "answer_too_large")


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with _answering(_head(b"", "302 Found", "Location: http://127.0.0.1:1/elsewhere\r\n")) as url:
        outgoing = Outgoing(allow_private=True, limit=1000)
        assert (await outgoing.get(url)).status == 302


async def test_what_does_not_answer_is_told_without_what_was_sent() -> None:
    error = await _refusal(Outgoing(allow_private=True, limit=1000), "http://127.0.0.1:1/?secret=canary")
    assert error.code == "address_unreachable"
    assert "canary" not in str(error)


def _serving(issued: Issued, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.write(folder, "server"))
    return context


async def test_tls_is_checked_against_the_name_though_the_address_is_pinned(tmp_path: Path) -> None:
    authority = Authority()
    trusted = ssl.create_default_context(cafile=authority.write(tmp_path))
    async with _answering(_head(b"{}"), _serving(authority.issue("localhost", server=True), tmp_path)) as url:
        reply = await Outgoing(allow_private=True, limit=1000, tls=trusted).get(url)
        assert (reply.status, reply.body) == (200, b"{}")
        # The same certificate is nobody's where its authority is not trusted, and names no other host.
        assert (await _refusal(Outgoing(allow_private=True, limit=1000), url)).code == "address_unreachable"
    async with _answering(_head(b"{}"), _serving(authority.issue("another"), tmp_path)) as url:
        error = await _refusal(Outgoing(allow_private=True, limit=1000, tls=trusted), url)
        assert error.code == "address_unreachable"
