"""One end of TLS over bytes that somebody else carries, so that who counts and cuts them sees each."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

_READ: Final = 64 << 10
_MOST_PENDING: Final = 1 << 20


class TlsEnd:
    """`read` gives bytes of the other side, none at its end; `write` carries bytes to it. Raises OSError as they do.

    One task may send while one receives. With `name` it is the client's end, and the other side must prove that name.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        read: Callable[[], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
        name: str | None = None,
    ) -> None:
        self._read, self._write = read, write
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=name is None, server_hostname=name)
        self._writing = asyncio.Lock()
        self._over = False
        self.ragged = False
        """Whether the other side ended without saying so, as one that is cut off does."""

    async def shake(self, first: bytes = b"") -> None:
        """Shake hands; `first` came before. Raises ssl.SSLError, SSLCertVerificationError where no proof is."""
        if first:
            self._came.write(first)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fetch()
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()  # why not, in an alert
                raise
            else:
                return await self._flush()

    async def receive(self) -> bytes:
        """Give what comes next, nothing at the end; an end that nobody announced is one too."""
        while True:
            try:
                return self._tls.read(_READ)
            except ssl.SSLWantReadError:
                if self._goes.pending > _MOST_PENDING:
                    raise ConnectionAbortedError("it has keys changed and reads nothing") from None
                if self._goes.pending and not self._writing.locked():
                    await self._flush()
                await self._fetch()
            except ssl.SSLError:
                if self._over:
                    self.ragged = True
                    return b""
                raise

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self._tls.write(data)
            await self._flush()

    async def close(self) -> None:
        """Say that nothing more comes."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _fetch(self) -> None:
        data = await self._read()
        if data:
            self._came.write(data)
        else:
            self._over = True
            self._came.write_eof()

    async def _flush(self) -> None:
        async with self._writing:  # records go in the order they were made
            while data := self._goes.read():
                await self._write(data)
