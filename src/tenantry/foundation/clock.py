"""Time, injected: a test turns it by hand, so nothing sleeps.

`now` is aware UTC and may jump (NTP, an operator); it dates records. `monotonic` never goes back and measures
durations: leases, time-outs, cache ages. Never subtract two `now`s to decide anything.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; comparable inside one process only."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
