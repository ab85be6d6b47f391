"""The connection to Redis or Valkey (≥ 6.2): scripts by digest, one error for everything that is not an answer."""

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import NoScriptError, RedisError

from tenantry.foundation.errors import Fault, Invalid, Unavailable

_SCANNED: Final = 500
_SCHEMES: Final = ("redis", "rediss", "unix")
_Answer = TypeVar("_Answer")
_Execute = Callable[..., Awaitable[Any]]


class Script:
    """A Lua file beside this module; Redis knows it by its SHA-1 (an address, not a safeguard)."""

    __slots__ = ("digest", "source")

    def __init__(self, name: str) -> None:
        self.source = (files("tenantry.foundation.caches") / "lua" / f"{name}.lua").read_text("ascii")
        self.digest = sha1(self.source.encode("ascii"), usedforsecurity=False).hexdigest()


class RedisLink:
    """A bounded pool. A command that has no answer after `timeout_seconds` raises Unavailable `caches_unavailable`.

    A broken connection is tried once more at once; a time-out is not, it may have been executed.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 0.5, max_connections: int = 32) -> None:
        if urlsplit(url).scheme not in _SCHEMES:
            raise Invalid(
                "caches_url_malformed",
                "the key-value store's URL begins with redis://, rediss:// or unix://",
                field="url",
            )
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionBroken,)),
            protocol=2,
            redis_connect_func=self._greet,
        )
        self._on_connect: list[Callable[[], None]] = []
        self._redis: Redis = Redis.from_pool(pool)
        self._execute = cast("_Execute", self._redis.execute_command)

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call `callback` at each new connection, before its first command."""
        self._on_connect.append(callback)

    async def _greet(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        for callback in self._on_connect:
            callback()

    async def command(self, *parts: str | bytes | int) -> Any:
        return await self._asked(lambda: self._execute(*parts))

    async def run(self, script: Script, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        try:
            return await self._asked(lambda: self._execute("EVALSHA", script.digest, len(keys), *keys, *arguments))
        except NoScriptError:
            # A fresh or flushed server: EVAL runs it and makes the digest known.
            return await self._asked(lambda: self._execute("EVAL", script.source, len(keys), *keys, *arguments))

    async def run_all(self, *calls: tuple[Script, Sequence[str], Sequence[str | bytes | int]]) -> list[Any]:
        """Run scripts in this order, in one round trip; not a transaction."""
        try:
            return await self._asked(lambda: self._pipelined(calls, by_digest=True))
        except NoScriptError:
            return await self._asked(lambda: self._pipelined(calls, by_digest=False))

    async def remove_below(self, prefix: str) -> int:
        """Remove all keys that begin so, by SCAN, which blocks nobody; tells how many. `prefix` holds no wildcard."""
        removed, cursor = 0, b"0"
        while True:
            cursor, found = await self.command("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", _SCANNED)
            if found:
                removed += await self.command("UNLINK", *found)
            if cursor in (b"0", 0):
                return removed

    async def _pipelined(
        self, calls: Sequence[tuple[Script, Sequence[str], Sequence[str | bytes | int]]], *, by_digest: bool
    ) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for script, keys, arguments in calls:
                how = ("EVALSHA", script.digest) if by_digest else ("EVAL", script.source)
                pipe.execute_command(*how, len(keys), *keys, *arguments)
            return await pipe.execute()

    async def ready(self) -> None:
        """Refuse a server that drops keys when its memory is full: it would drop nonces, and so admit replays."""
        memory = await self._asked(lambda: self._redis.info("memory"))
        if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
            raise Fault(
                "caches_evict",
                f"Redis evicts keys (maxmemory-policy {memory.get('maxmemory_policy')}); set it to noeviction",
            )

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    @staticmethod
    async def _asked(call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        try:
            return await call()
        except NoScriptError:
            raise
        except (RedisError, OSError) as error:
            # The kind of failure only: messages may quote addresses, commands or credentials.
            raise Unavailable(
                "caches_unavailable",
                f"the key-value store did not answer ({type(error).__name__}); nothing was admitted, a retry is safe",
                layer="caches",
            ) from None
