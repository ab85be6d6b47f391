"""A server that says over HTTP what a test has it say, and keeps what it was asked."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.oci import Made


@dataclass(frozen=True)
class Asked:
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def begin(self) -> int:
        """Where what is asked for begins."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


Say = Callable[[Asked], bytes | None]
"""None: the connection is closed without a word."""


@dataclass
class Speaker:
    name: str = ""
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    def paths(self) -> list[str]:
        return [each.path for each in self.asked]


@asynccontextmanager
async def speaking(say: Say, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Speaker]:
    speaker = Speaker()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            target = urlsplit(first.split(" ")[1])
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            asked = Asked(target.path, parse_qs(target.query), headers)
            speaker.asked.append(asked)
            writer.write(say(asked) or b"")
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        speaker.name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield speaker


def reply(body: bytes = b"", status: int = 200, *, length: int | None = None, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def serve_image(made: Made, overrides: Mapping[str, Say] | None = None) -> Say:
    """Say what a registry says of an image under any name; `overrides` are asked first, by how a path ends."""

    def say(asked: Asked) -> bytes | None:
        for end, instead in (overrides or {}).items():
            if asked.path.endswith(end):
                return instead(asked)
        name = asked.path.rpartition("/")[2]
        if "/manifests/" in asked.path:
            raw, kind = made.manifests.get(name, (made.top, made.top_type))
            return reply(raw, Content_Type=kind)
        content = made.blobs.get(name)
        if content is None:
            return reply(status=404)
        if "range" not in asked.headers:
            return reply(content)
        place = f"bytes {asked.begin}-{len(content) - 1}/{len(content)}"
        return reply(content[asked.begin :], 206, Content_Range=place)

    return say
