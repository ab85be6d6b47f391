"""Real servers for the contract suites: started here on a private socket or an ephemeral loopback port, ended here."""

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.ending import ended

from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.clock import Clock, SystemClock
from tenantry.foundation.errors import Unavailable

START_SECONDS = 30
TRIALS = 1
"""Connections of the fixture's own to a Redis, by which it sees that it listens."""


class TurnedClock:
    """A clock that stands until a test turns it; `jump` moves only the wall clock, as an operator would."""

    def __init__(self) -> None:
        self._now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def turn(self, *, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, *, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


class RedisServer:
    """A real redis-server without TCP; `start` and `stop` may be called again, what it held is then gone."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("redis-server is not installed: run `apt-get install -y redis-server`", pytrace=False)
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._command = [program, "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        self._command += ["--save", "", "--appendonly", "no", "--dir", str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            assert self._process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < deadline, "redis-server did not open its socket"
            time.sleep(0.01)

    def _listens(self) -> bool:
        """Its socket is there a moment before."""
        with socket.socket(socket.AF_UNIX) as trial:
            return trial.connect_ex(str(self.socket)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            ended(self._process)
            self._process = None

    def kill(self) -> None:
        """End it as a power failure would."""
        if self._process is not None:
            self._process.kill()
            ended(self._process)
            self._process = None
            self.socket.unlink()


@contextmanager
def running_redis(*options: str) -> Iterator[RedisServer]:
    # A short path: a socket's name holds at most 107 bytes.
    with TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A server of this test alone, to be stopped, stalled or flushed."""
    with running_redis() as server:
        yield server


@pytest.fixture
def start_redis() -> Callable[..., object]:
    return running_redis


Advance = Callable[[int], Awaitable[None]]


class CachesUnderTest:
    """One adapter behind the ports, and the way to let its time pass."""

    def __init__(self, name: str, caches: Caches, clock: Clock, advance: Advance) -> None:
        self.name = name
        self.caches = caches
        self.limiter = caches.limiter
        self.etags = caches.etags
        self.replays = caches.replays
        self.advance = advance
        self._clock = clock

    def now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


@pytest.fixture(params=["embedded", "redis"])
async def under_test(request: pytest.FixtureRequest) -> AsyncIterator[CachesUnderTest]:
    async with opened_caches(request) as caches:
        yield caches


async def _answers(caches: Caches) -> bool:
    try:
        await caches.ready()
    except Unavailable:
        return False
    return True


@asynccontextmanager
async def opened_caches(request: pytest.FixtureRequest) -> AsyncIterator[CachesUnderTest]:
    """The adapter that the parameter names."""
    if request.param == "embedded":
        turned = TurnedClock()

        async def turn(ms: int) -> None:
            turned.turn(seconds=ms / 1000)

        yield CachesUnderTest("embedded", open_caches(None, turned), turned, turn)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    real = SystemClock()

    async def wait(ms: int) -> None:
        # The server reads the machine's clock, which no test can turn: these waits are a few milliseconds.
        await asyncio.sleep((ms + 1) / 1000)

    caches = open_caches(server.url, real)
    async with asyncio.timeout(START_SECONDS):  # a machine under load may be late with the first answer
        while not await _answers(caches):
            pass
    yield CachesUnderTest(request.param, caches, real, wait)
    await caches.close()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a local S3 server process, started empty."""
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        address = _address_in(process.stderr)
        # Whatever it says later is read too: a full pipe would stop it.
        threading.Thread(target=_read_out, args=(process.stderr,), daemon=True).start()
        yield address
    finally:
        process.terminate()
        ended(process)
        process.stderr.close()


def _address_in(lines: Iterable[str]) -> str:
    for line in lines:
        found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", line)
        if found:
            return found.group(1)
    return pytest.fail("the S3 server ended before it listened", pytrace=False)


def _read_out(lines: Iterable[str]) -> None:
    with contextlib.suppress(ValueError):  # closed
        for _ in lines:
            pass
