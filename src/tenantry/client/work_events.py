"""An answer that comes as events: how far the work is, and at last what would have been the answer."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from tenantry.client.errors import BadAnswer
from tenantry.client.receipts import HEADER
from tenantry.client.sse import EventDecoder

EVENTS = "text/event-stream"
_PROBLEM = "application/problem+json"
_FIRST_ERROR = 400


def is_events(response: httpx.Response) -> bool:
    """Where there is nothing to follow, what was asked with events is answered without."""
    return str(response.headers.get("content-type", "")).startswith(EVENTS)


def cut_off() -> httpx.RequestError:
    return httpx.RemoteProtocolError("the events ended before the answer")


class WorkEvents:
    """What both transports do with the events; does no I/O itself."""

    def __init__(self, progress: Callable[[Any], object]) -> None:
        self._progress = progress
        self._receipts: list[tuple[str, str]] = []
        self._decoder = EventDecoder()

    def feed(self, portion: bytes) -> httpx.Response | None:
        """Pass on what is told; gives the answer once it has come. Raises BadAnswer for events that are none."""
        for event in self._decoder.feed(portion):
            if event.name not in {"progress", "receipt", "done", "error"}:
                continue
            try:
                content = json.loads(event.data)
            except ValueError as error:
                raise BadAnswer("event_malformed", "an event is not JSON") from error
            if not isinstance(content, dict):
                raise BadAnswer("event_malformed", "an event is no object")
            if event.name == "progress":
                self._progress(content)
            elif event.name == "receipt":
                self._receipts.append((HEADER, str(content.get("note"))))
            elif event.name == "done":
                return httpx.Response(200, json=content, headers=self._receipts)
            else:
                return _refusal(content)
        return None


def _refusal(content: dict[str, Any]) -> httpx.Response:
    """Make the answer that the problem document would have been, had nothing been told before."""
    status = content.get("status")
    if not isinstance(status, int) or not _FIRST_ERROR <= status <= 599:  # noqa: PLR2004 - the last of HTTP's
        raise BadAnswer("event_malformed", "an error without its status")
    seconds = content.pop("retry_after_seconds", None)
    headers = {"Retry-After": str(round(seconds))} if isinstance(seconds, int | float) else {}
    return httpx.Response(status, content=json.dumps(content), headers={"Content-Type": _PROBLEM, **headers})
