"""The connection to Redis or Valkey (≥ 6.2): scripts by digest, one error for everything that is not an answer."""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import NoScriptError, RedisError, ResponseError

from tenantry.foundation.errors import Fault, Invalid, Unavailable

_SCANNED: Final = 500
_SCHEMES: Final = ("redis", "rediss", "unix")
_Part: TypeAlias = str | bytes | int
_Command: TypeAlias = tuple[_Part, ...]
# Its stub says a tuple of one.
_pack: Final[Callable[[_Command], bytes]] = cast("Any", pack_command)


class Script:
    """A Lua file beside this module; Redis knows it by its SHA-1 (an address, not a safeguard)."""

    __slots__ = ("digest", "source")

    def __init__(self, name: str) -> None:
        self.source = (files("tenantry.foundation.caches") / "lua" / f"{name}.lua").read_text("ascii")
        self.digest = sha1(self.source.encode("ascii"), usedforsecurity=False).hexdigest()


class RedisLink:
    """At most `max_connections`. What has no answer after `timeout_seconds` raises Unavailable `caches_unavailable`.

    A broken connection is tried once more at once; a time-out is not, it may have been executed. It stands on the
    library's connections and protocol, without its client and pool: those cost half as much again as a round trip.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 0.5, max_connections: int = 32) -> None:
        if urlsplit(url).scheme not in _SCHEMES:
            raise Invalid(
                "caches_url_malformed",
                "the key-value store's URL begins with redis://, rediss:// or unix://",
                field="url",
            )
        # It reads the URL and makes connections; none is ever taken from it.
        self._made = ConnectionPool.from_url(
            url, socket_timeout=None, protocol=2, redis_connect_func=self._greet, max_connections=max_connections
        )
        self._timeout_seconds = timeout_seconds
        self._room = asyncio.Semaphore(max_connections)
        self._idle: list[AbstractConnection] = []
        self._on_connect: list[Callable[[], None]] = []

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call `callback` at each new connection, before its first command."""
        self._on_connect.append(callback)

    async def _greet(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        for callback in self._on_connect:
            callback()

    async def command(self, *parts: _Part) -> Any:
        return (await self._asked((parts,)))[0]

    async def run(self, script: Script, keys: Sequence[str], *arguments: _Part) -> Any:
        return (await self.run_all((script, keys, arguments)))[0]

    async def run_all(self, *calls: tuple[Script, Sequence[str], Sequence[_Part]]) -> list[Any]:
        """Run scripts in this order, in one round trip; not a transaction."""
        try:
            return await self._asked(
                [("EVALSHA", script.digest, len(keys), *keys, *arguments) for script, keys, arguments in calls]
            )
        except NoScriptError:
            # A fresh or flushed server: EVAL runs it and makes the digest known.
            return await self._asked(
                [("EVAL", script.source, len(keys), *keys, *arguments) for script, keys, arguments in calls]
            )

    async def remove_below(self, prefix: str) -> int:
        """Remove all keys that begin so, by SCAN, which blocks nobody; tells how many. `prefix` holds no wildcard."""
        removed, cursor = 0, b"0"
        while True:
            cursor, found = await self.command("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", _SCANNED)
            if found:
                removed += await self.command("UNLINK", *found)
            if cursor in (b"0", 0):
                return removed

    async def info(self, section: str) -> dict[str, str]:
        """Ask what the server tells of itself: https://valkey.io/commands/info."""
        told: bytes = await self.command("INFO", section)
        return dict(line.split(":", 1) for line in told.decode("utf-8", "replace").splitlines() if ":" in line)

    async def ready(self) -> None:
        """Refuse a server that drops keys when its memory is full: it would drop nonces, and so admit replays."""
        memory = await self.info("memory")
        policy = memory.get("maxmemory_policy", "")
        if memory.get("maxmemory", "0") != "0" and policy != "noeviction":
            raise Fault("caches_evict", f"Redis evicts keys (maxmemory-policy {policy}); set it to noeviction")

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect()

    async def _asked(self, commands: Sequence[_Command]) -> list[Any]:
        sent = [_pack(command) for command in commands]
        try:
            async with asyncio.timeout(self._timeout_seconds), self._room:
                try:
                    return await self._exchange(self._idle.pop() if self._idle else None, sent, len(commands))
                except ConnectionBroken:
                    return await self._exchange(None, sent, len(commands))
        except NoScriptError:
            raise
        except (RedisError, OSError) as error:
            # The kind of failure only: messages may quote addresses, commands or credentials.
            raise Unavailable(
                "caches_unavailable",
                f"the key-value store did not answer ({type(error).__name__}); nothing was admitted, a retry is safe",
                layer="caches",
            ) from None

    async def _exchange(self, connection: AbstractConnection | None, sent: list[bytes], answers: int) -> list[Any]:
        """Send and read as many answers; a connection is kept only when nothing of this call can be left in it."""
        connection = connection or self._made.make_connection()  # type: ignore[no-untyped-call]
        refused: RedisError | None = None
        told: list[Any] = []
        try:
            await connection.send_packed_command(sent, check_health=False)
            for _ in range(answers):
                try:
                    told.append(await connection.read_response())
                except ResponseError as error:
                    refused = refused or error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        if refused is not None:
            raise refused
        return told
