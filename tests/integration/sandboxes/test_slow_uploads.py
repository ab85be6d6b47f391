"""Uploads that come slowly hold up nobody else; one that stops coming is refused and leaves nothing."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.integration.api.conftest import serving_beside
from tests.integration.api.test_sockets import serving
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import until
from tests.integration.sandboxes.living import Living, start, stop

THREADS = min(32, (os.cpu_count() or 1) + 4)
"""As many as Python gives the default executor."""
IDLE = 2


def begun(living: Living, name: str, *, port: int | None = None) -> socket.socket:
    """Begin an upload of which one byte comes."""
    place = urlsplit(living.ground.installation.api)
    sending = socket.create_connection((place.hostname, port or place.port))
    sending.sendall(
        f"PUT {place.path}{living.path}/files?path={name} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {living.key}\r\nContent-Length: 100000\r\n\r\nx".encode()
    )
    return sending


def unfinished(living: Living) -> int:
    names = living.sh("ls -A /workspace")["stdout"].split()
    return sum(name.startswith(".tenantry-") for name in names)


def finished(living: Living, path: str = "/workspace") -> list[str]:
    return sorted(living.sh(f"ls -A {path}")["stdout"].split())


@pytest.fixture(scope="module")
def slow(make_ground: MakeGround) -> Iterator[Living]:
    made = start(make_ground(persistence_mode="full"), "slow")
    yield made
    stop(made)


def test_uploads_of_one_tenant_that_send_nothing_hold_up_no_other(slow: Living, make_ground: MakeGround) -> None:
    other = start(make_ground(persistence_mode="full"), "other")
    with contextlib.ExitStack() as stack:
        for number in range(THREADS):
            stack.enter_context(begun(slow, f"slow{number}"))
        until(lambda: unfinished(slow) == THREADS, seconds=20)
        assert other.files().status_code == 200
        assert slow.files().status_code == 200
        job = other.ground.client.post(
            other.ground.jobs,
            params={"wait": 20},
            json={"command": ["sh", "-c", "echo x > /outputs/x"], "artifacts": ["outputs/**"]},
            timeout=60,
        ).json()
        assert job["status"] == "succeeded", job
        assert other.client.post(f"{other.path}/stop", params={"wait": 20}, timeout=60).json()["status"] == "stopped"
    until(lambda: unfinished(slow) == 0, seconds=20)
    assert finished(slow) == ["outputs"]


async def test_one_that_stops_coming_is_refused_and_one_that_moves_goes_on(slow: Living, installation: Any) -> None:
    server = installation.settings.server.model_copy(update={"upload_idle_seconds": IDLE})
    settings = installation.settings.model_copy(update={"server": server})
    async with serving_beside(settings) as beside, serving(beside) as served:
        await asyncio.to_thread(_refused, slow, served.port)
        await asyncio.to_thread(_not_imported, slow, served.port)
        await asyncio.to_thread(_taken, slow, served.port)


def _refused(slow: Living, port: int) -> None:
    with begun(slow, "stops", port=port) as sending:
        sending.settimeout(30)
        said = b"".join(iter(lambda: sending.recv(1 << 16), b""))
    assert said.startswith(b"HTTP/1.1 408 "), said
    assert b'"body_slow"' in said
    until(lambda: unfinished(slow) == 0, seconds=20)
    assert "stops" not in finished(slow)


def _not_imported(slow: Living, port: int) -> None:
    """An archive of an image is an upload as any."""
    place = urlsplit(slow.ground.installation.api)
    with socket.create_connection((place.hostname, port)) as sending:
        sending.sendall(
            f"POST {place.path}/workspaces/{slow.ground.workspace}/images?name=stops HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {slow.key}\r\nContent-Type: application/x-tar\r\n"
            "Content-Length: 100000\r\n\r\nx".encode()
        )
        sending.settimeout(30)
        said = b"".join(iter(lambda: sending.recv(1 << 16), b""))
    assert said.startswith(b"HTTP/1.1 408 "), said
    home = slow.ground.installation.home / slow.ground.tenant.region
    assert not list(home.glob("*/images/uploads/*"))


def _taken(slow: Living, port: int) -> None:
    """It takes longer than the bound, and never stops for as long."""
    with begun(slow, "moves", port=port) as sending:
        sending.settimeout(IDLE / 2)
        for _ in range(4):
            with pytest.raises(TimeoutError):
                sending.recv(1)  # no answer yet
            sending.sendall(b"x")
        sending.settimeout(30)
        sending.sendall(bytes(100_000 - 5))
        assert sending.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert slow.files("moves").json()["file"]["size_bytes"] == 100_000
