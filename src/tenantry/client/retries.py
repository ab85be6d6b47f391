"""When an attempt may be repeated, and how long to wait before.

Repeated: requests that were never sent (no connection), whatever they are; reads and POSTs with an Idempotency-Key
after a broken connection, 502, 503 or 504, or while the server still works on an earlier attempt; anything that
answered 429 with `Retry-After`, for it was not carried out. Waiting doubles from `base_seconds` with jitter unless the
server says how long (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from tenantry.client.calls import IDEMPOTENCY_KEY, Call
from tenantry.client.errors import BadAnswer, ClientError, ConnectionFailed

_TRANSIENT = frozenset({502, 503, 504})
_CONFLICT = 409
_WHEN_ASKED = frozenset({_CONFLICT, 425, 429})
_TOO_MANY = 429
_IN_PROGRESS = "in_progress"
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`attempts` counts the first one; a `Retry-After` above `longest_wait_seconds` is not waited for but raised."""

    attempts: int = 4
    base_seconds: float = 0.25
    longest_backoff_seconds: float = 8.0
    longest_wait_seconds: float = 30.0

    def backoff(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, 1 and up."""
        ceiling = min(self.longest_backoff_seconds, self.base_seconds * 2.0 ** min(failures - 1, 16))
        return ceiling * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing


class Trial:
    """One call's attempts."""

    def __init__(self, *, call: Call[Any], policy: RetryPolicy, url: str) -> None:
        self._call = call
        self._policy = policy
        self._url = url
        self._failures = 0

    def delay_after_error(self, error: httpx.RequestError) -> float:
        """Seconds until the next attempt; raises ConnectionFailed when there is none."""
        self._failures += 1
        may_repeat = self._call.replayable or isinstance(error, _NEVER_SENT)
        if not isinstance(error, httpx.TransportError) or not may_repeat or self._failures >= self._policy.attempts:
            raise unreachable(self._url, error) from error
        return self._policy.backoff(self._failures)

    def delay_after(self, response: httpx.Response) -> float | None:
        """Seconds until the next attempt, None when this answer is the last."""
        status = response.status_code
        asked = retry_after_seconds(response)
        repeats = (
            (self._call.replayable and status in _TRANSIENT)
            or (self._call.replayable and status in _WHEN_ASKED and asked is not None)
            or (status == _TOO_MANY and asked is not None)
            or (IDEMPOTENCY_KEY in self._call.headers and _is_in_progress(response))
        )
        if not repeats or status in self._call.accept:
            return None
        self._failures += 1
        if self._failures >= self._policy.attempts:
            return None
        if asked is None:
            return self._policy.backoff(self._failures)
        return asked if asked <= self._policy.longest_wait_seconds else None


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Read RFC 9110 §10.2.3: seconds, or a date, which is compared to the server's own clock."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        return max(0.0, (until - parsedate_to_datetime(response.headers["date"])).total_seconds())
    except (ValueError, TypeError, KeyError):
        return None


def _is_in_progress(response: httpx.Response) -> bool:
    """Whether an earlier attempt with the same Idempotency-Key, whose answer was lost, is still being carried out."""
    if response.status_code != _CONFLICT:
        return False
    try:
        members = response.json()
    except ValueError:
        return False
    return isinstance(members, dict) and members.get("code") == _IN_PROGRESS


def unreachable(url: str, error: httpx.RequestError) -> ClientError:
    """Name the fault without the request, which holds the key."""
    if isinstance(error, httpx.DecodingError):
        return BadAnswer("answer_undecodable", f"the answer of {url} cannot be decoded")
    what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
    return ConnectionFailed(
        "server_unreachable", f"{url} {what} ({type(error).__name__})", remedy="is it up? `tenantry up` starts one here"
    )
