"""Server-sent events from bytes (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).

Lines are split on CR, LF and CRLF alone: `str.splitlines`, which httpx uses, also splits on U+2028 and others that may
stand unescaped in JSON.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tenantry.client.errors import BadAnswer

LONGEST_EVENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """`id` is the last one the stream named, as a browser would report it."""

    name: str
    id: str
    data: str


class EventDecoder:
    """Feed it what arrives, in any portions; a new connection needs a new decoder."""

    def __init__(self) -> None:
        self.retry_milliseconds: int | None = None
        self._buffer = b""
        self._skip_line_feed = False
        self._held = 0
        self._name = ""
        self._id = ""
        self._data: list[str] = []

    def feed(self, portion: bytes) -> Iterator[ServerEvent]:
        """Raise BadAnswer for an event of more than 16 MiB."""
        if self._skip_line_feed and portion:
            portion = portion.removeprefix(b"\n")
            self._skip_line_feed = False
        self._skip_line_feed = portion.endswith(b"\r")
        self._held += len(portion)
        *lines, self._buffer = (self._buffer + portion).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            event = self._line(line.decode("utf-8", "replace"))
            if event is not None:
                yield event
        if self._held > LONGEST_EVENT_BYTES:
            raise BadAnswer("event_too_large", f"an event is longer than {LONGEST_EVENT_BYTES} bytes")

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_milliseconds = int(value)
        return None

    def _dispatch(self) -> ServerEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._held = "", [], len(self._buffer)
        return ServerEvent(name, self._id, "\n".join(data)) if data else None
