"""Chat services by apprise, in children that are started when first needed and leave when they have been idle."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.types import Address, Message

_CHILD: Final = "tenantry.capabilities.notifications.adapters.chat_child"
_CHILDREN: Final = 2
_SECONDS: Final = 20.0
_IDLE_SECONDS: Final = 60.0
_LASTING: Final = frozenset({"address_invalid", "address_private"})
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class ChatSender:
    """The `Sender` port for apprise's services."""

    def __init__(self, *, allow_private: bool, seconds: float = _SECONDS, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._allow_private = allow_private
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._idle: list[_Child] = []
        self._at_once = asyncio.Semaphore(_CHILDREN)

    async def send(self, address: Address, message: Message) -> None:
        asked = {
            "url": address.text,
            "title": message.title,
            "body": message.body,
            "allow_private": self._allow_private,
        }
        async with self._at_once:
            child = self._idle.pop() if self._idle else _Child()
            child.stay()
            try:
                async with asyncio.timeout(self._seconds):
                    code = await child.ask(asked)
            except TimeoutError:
                await child.end()
                raise NotSentError("timed_out") from None
            except (OSError, ValueError):
                await child.end()
                raise NotSentError("service_failed") from None
            except BaseException:
                await child.end()
                raise
            self._idle.append(child)
            child.leave_after(self._idle_seconds, self._forget)
        if code is not None:
            raise NotSentError(code, lasting=code in _LASTING)

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().end()

    def _forget(self, child: "_Child") -> None:
        if child in self._idle:
            self._idle.remove(child)


class _Child:
    """One process. It is asked one thing at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def ask(self, asked: dict[str, object]) -> str | None:
        """Give the code of its answer; raises ValueError or OSError when it is gone."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", _CHILD),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"HOME": "/nonexistent"},
                cwd="/",
            )
        given, taken = self._process.stdin, self._process.stdout
        if given is None or taken is None:
            raise ValueError("the child has no pipes")
        given.write(json.dumps(asked).encode() + b"\n")
        await given.drain()
        code = json.loads(await taken.readline())["code"]
        return None if code is None else str(code)

    def stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def leave_after(self, seconds: float, forget: "Callable[[_Child], None]") -> None:
        self._leaving = asyncio.create_task(self._leave(seconds, forget))

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.stay()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()

    async def _leave(self, seconds: float, forget: "Callable[[_Child], None]") -> None:
        await asyncio.sleep(seconds)
        forget(self)
        self._leaving = None
        await self.end()
