"""A log stream that survives its connections.

The server numbers log lines; after a break the stream is asked for again with `Last-Event-ID`, and a line that comes
twice is passed on once. The stream is over when the server says `end`.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx

from tenantry.client.calls import Call
from tenantry.client.errors import BadAnswer
from tenantry.client.logs import LogEvent, job_end, log_line
from tenantry.client.retries import RetryPolicy, Trial, unreachable
from tenantry.client.sse import EventDecoder

_LONGEST_RETRY_MILLISECONDS = 30_000
_NO_CONTENT = 204
_OK = 200


class Follower:
    """What both transports ask between connections; does no I/O itself."""

    def __init__(self, *, call: Call[Any], policy: RetryPolicy, url: str, after_seq: int | None) -> None:
        self._over = False
        self._call = call
        self._policy = policy
        self._url = url
        self._last_seq = after_seq
        self._decoder = EventDecoder()
        self._trial = self._fresh_trial()
        self._opened = False
        self._idle = 0

    def is_over(self) -> bool:
        """Whether the server said `end`, or that there is nothing to follow."""
        return self._over

    def headers(self) -> dict[str, str]:
        """For the next connection."""
        self._decoder = EventDecoder()
        self._opened = False
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        if self._last_seq is not None:
            headers["Last-Event-ID"] = str(self._last_seq)
        return headers

    def opened(self, response: httpx.Response) -> bool:
        """Whether this answer is the stream; raises BadAnswer for a page that is none."""
        if response.status_code == _NO_CONTENT:
            self._over = True
            return False
        if response.status_code != _OK:
            return False
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise BadAnswer("stream_expected", f"{self._url} did not answer with an event stream")
        self._opened = True
        self._trial = self._fresh_trial()
        return True

    def feed(self, portion: bytes) -> Iterator[LogEvent]:
        for event in self._decoder.feed(portion):
            self._idle = 0
            if event.name not in {"log", "end"}:
                continue
            try:
                content = json.loads(event.data)
            except ValueError as error:
                raise BadAnswer("log_malformed", "an event of a log is not JSON") from error
            if event.name == "end":
                self._over = True
                yield job_end(content)
                return
            line = log_line(content)
            if self._last_seq is None or line.seq > self._last_seq:
                self._last_seq = line.seq
                yield line

    def delay_after_refusal(self, response: httpx.Response) -> float | None:
        return self._trial.delay_after(response)

    def delay_after_break(self, error: httpx.RequestError | None) -> float:
        """Seconds until the next connection; raises ConnectionFailed when none could be opened often enough.

        A stream that was open resets the count: jobs run for hours and proxies close what is silent.
        """
        if not self._opened and error is not None:
            return self._trial.delay_after_error(error)
        if error is not None and not isinstance(error, httpx.TransportError):
            raise unreachable(self._url, error) from error
        self._idle += 1
        asked = min(self._decoder.retry_milliseconds or 0, _LONGEST_RETRY_MILLISECONDS) / 1000
        return max(asked, self._policy.backoff(self._idle))

    def _fresh_trial(self) -> Trial:
        return Trial(call=self._call, policy=self._policy, url=self._url)
