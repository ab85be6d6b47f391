"""What callers may rely on, whichever adapter is behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self
from uuid import UUID


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`max_requests` per `window_ms`, with `burst` at once (default: `max_requests`), of which this call takes `cost`.

    So the 101st immediate call of 100 a minute is refused, and one more is admitted every 600 ms. Over any span the
    admitted cost never passes rate · span + burst. `name` is one of `[A-Za-z0-9._-]`, up to 128 characters; limits
    that differ in window need different names.
    """

    tenant: UUID
    name: str
    max_requests: int
    window_ms: int
    burst: int | None = None
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Truth value: admitted or not.

    `retry_after_ms` is 0 when admitted, else the wait after which the same call would pass. `limiting` indexes the
    limit that decided: the longest wait when refused, the least `remaining` (in units of cost) when admitted.
    """

    allowed: bool
    retry_after_ms: int
    remaining: int
    limiting: int

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Standing:
    """`remaining` units of cost 1 would be admitted now; after `reset_ms` without a call the limit is untouched."""

    remaining: int
    reset_ms: int


class RateLimiter(Protocol):
    async def admit(self, limits: Sequence[RateLimit]) -> Verdict:
        """Charge all limits or none, in one round trip (GCRA, integer microseconds).

        All limits of a call belong to one tenant and differ in name. Raises Invalid for numbers out of range and for a
        cost no wait would admit, Unavailable when the store cannot tell. A retry after Unavailable may charge twice.
        """
        ...

    async def look(self, limits: Sequence[RateLimit]) -> Sequence[Standing]:
        """Tell how each limit stands, in their order, and charge nothing; one round trip. Raises as `admit` does."""
        ...


@dataclass(frozen=True, slots=True)
class EtagEntry:
    """`etag` is 32 hexadecimal characters of the value's SHA-256, unquoted."""

    etag: str
    value: bytes


class CasOutcome(StrEnum):
    STORED = "stored"
    CHANGED = "changed"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class CasResult:
    """Truth value: stored or not. `etag` is the one now in force, None when there is none."""

    outcome: CasOutcome
    etag: str | None

    def __bool__(self) -> bool:
        return self.outcome is CasOutcome.STORED


class EtagStore(Protocol):
    """A cache: an entry may go before its time, never stay after it, and never be seen by another tenant.

    Methods take the tenant of the call, else the one the store was made for (`for_tenant`), else raise Invalid
    `tenant_missing`. `resource` is one of `[A-Za-z0-9._/=-]`, up to 256 characters; a value up to 1 MiB. A foreign
    entry is exactly an absent one. All raise Unavailable when the store cannot tell; retries are safe, except that a
    repeated `compare_and_set` whose first answer was lost reports CHANGED.
    """

    def for_tenant(self, tenant: UUID) -> Self:
        """Share the store, with `tenant` as the default."""
        ...

    async def find(self, resource: str, *, tenant: UUID | None = None) -> EtagEntry | None: ...

    async def find_all(self, resources: Sequence[str], *, tenant: UUID | None = None) -> Sequence[EtagEntry | None]:
        """Find several of one tenant, as they are at one moment, in one round trip."""
        ...

    async def put(self, resource: str, value: bytes, *, tenant: UUID | None = None, ttl_ms: int | None = None) -> str:
        """Store and return the new ETag."""
        ...

    async def compare_and_set(
        self,
        resource: str,
        *,
        expected: str | None,
        value: bytes,
        tenant: UUID | None = None,
        ttl_ms: int | None = None,
    ) -> CasResult:
        """Store if `expected` is the ETag in force; None: if there is no entry."""
        ...

    async def delete(self, resource: str, *, tenant: UUID | None = None) -> None: ...


class ReplayOutcome(StrEnum):
    ALLOWED = "allowed"
    REPLAYED = "replayed"
    TOO_OLD = "too_old"
    IN_FUTURE = "in_future"


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """Truth value: allowed or not."""

    outcome: ReplayOutcome

    def __bool__(self) -> bool:
        return self.outcome is ReplayOutcome.ALLOWED


class ReplayGuard(Protocol):
    """Each nonce of a tenant passes once. Ask only after the signature was verified.

    What the guard has forgotten (restart, flush, fail-over, eviction, a clock set back) it refuses as TOO_OLD: calls
    dated before that moment do not pass. What remains is a call its signer dated ahead of the moment, by at most
    `clock_skew_ms`: keep that small.
    """

    def for_tenant(self, tenant: UUID) -> Self:
        """Share the guard, with `tenant` as the default."""
        ...

    async def allow_once(
        self,
        nonce: str,
        timestamp_ms: int,
        *,
        tenant: UUID | None = None,
        window_ms: int | None = None,
        clock_skew_ms: int = 5_000,
    ) -> ReplayVerdict:
        """Allow a nonce signed at `timestamp_ms` (Unix) within the last `window_ms`, at most `clock_skew_ms` ahead.

        `window_ms` may narrow the guard's own window, never widen it: nonces are remembered no longer than that.
        `nonce` is one of `[A-Za-z0-9._~+/=-]`, up to 128 characters. Raises Unavailable when the store cannot tell; a
        retry may then find its own nonce REPLAYED.
        """
        ...


class Caches(Protocol):
    """The three ports of one cell. `ready` is called once at start, `close` at the end."""

    @property
    def limiter(self) -> RateLimiter: ...

    @property
    def etags(self) -> EtagStore: ...

    @property
    def replays(self) -> ReplayGuard: ...

    async def ready(self) -> None:
        """Raise Unavailable when the store does not answer, Fault when its configuration would forget nonces."""
        ...

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call back when the store may be another, or what it was before: at each new connection to it."""
        ...

    async def forget(self, tenant: UUID) -> int:
        """Remove every entry of a tenant, its nonces too; tells how many. Raises Unavailable; a retry is safe.

        For a tenant that is gone: signed calls of one that lives on could be replayed.
        """
        ...

    async def close(self) -> None: ...
