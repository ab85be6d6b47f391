"""Resource methods that are written once and called on either client.

A method builds a call; the decorator says what happens to it. Bound to a resource of the synchronous client it
returns what the call answers, bound to the asynchronous client an awaitable (or asynchronous iterator) of the same.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from tenantry.client.calls import Call

if TYPE_CHECKING:
    from tenantry.client.async_transport import AsyncTransport
    from tenantry.client.channels import AsyncChannel, Channel
    from tenantry.client.logs import LogEvent
    from tenantry.client.pages import AsyncPages, Pages, Plan
    from tenantry.client.saving import Saving
    from tenantry.client.sync_transport import SyncTransport

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Resource(Generic[T]):
    """Methods over one noun, bound to a transport."""

    def __init__(self, transport: T) -> None:
        self.transport = transport


def _bound(instance: Any, build: Callable[..., Any], act: Callable[..., Any]) -> Any:
    @wraps(build)
    def method(*args: Any, **kwargs: Any) -> Any:
        return act(build(instance, *args, **kwargs))

    return method


class Operation(Generic[P, R]):
    """One request, one answer."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[R]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: "Resource[SyncTransport]", owner: Any = None) -> Callable[P, R]: ...
    @overload
    def __get__(self, instance: "Resource[AsyncTransport]", owner: Any = None) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else _bound(instance, self._build, instance.transport.send)


class Listing(Generic[P, R]):
    """A list in pages, read while it is iterated."""

    def __init__(self, build: Callable[Concatenate[Any, P], "Plan[R]"]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: "Resource[SyncTransport]", owner: Any = None) -> "Callable[P, Pages[R]]": ...
    @overload
    def __get__(self, instance: "Resource[AsyncTransport]", owner: Any = None) -> "Callable[P, AsyncPages[R]]": ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else _bound(instance, self._build, instance.transport.pages)


class Following(Generic[P]):
    """A log as it grows: the method names the stream and the sequence number after which to begin."""

    def __init__(self, build: Callable[Concatenate[Any, P], tuple[Call[Any], int | None]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: "Resource[SyncTransport]", owner: Any = None) -> "Callable[P, Generator[LogEvent]]": ...
    @overload
    def __get__(
        self, instance: "Resource[AsyncTransport]", owner: Any = None
    ) -> "Callable[P, AsyncGenerator[LogEvent]]": ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self

        def follow(built: tuple[Call[Any], int | None]) -> Any:
            call, after_seq = built
            return instance.transport.follow(call, after_seq=after_seq)

        return _bound(instance, self._build, follow)


class Download(Generic[P]):
    """Content that becomes a file; answers its size in bytes."""

    def __init__(self, build: Callable[Concatenate[Any, P], "Saving"]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: "Resource[SyncTransport]", owner: Any = None) -> Callable[P, int]: ...
    @overload
    def __get__(self, instance: "Resource[AsyncTransport]", owner: Any = None) -> Callable[P, Awaitable[int]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else _bound(instance, self._build, instance.transport.save)


class Connecting(Generic[P]):
    """A connection that goes both ways."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[Any]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: "Resource[SyncTransport]", owner: Any = None) -> "Callable[P, Channel]": ...
    @overload
    def __get__(
        self, instance: "Resource[AsyncTransport]", owner: Any = None
    ) -> "Callable[P, Awaitable[AsyncChannel]]": ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else _bound(instance, self._build, instance.transport.connect)
