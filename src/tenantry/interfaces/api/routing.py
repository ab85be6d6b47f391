"""The registry of routes. Registering one without a permission or a mark is impossible: there is no default."""

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types import Action
from tenantry.capabilities.limits.types.quotas import Feature

PREFIX: Final = "/api/v1"
METHODS: Final = ("GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
"""Methods that are handed on to what a tenant itself serves; HEAD with GET."""
_HANDED_ON: Final = {"media_type": "*/*"}


class Mark(StrEnum):
    """Instead of a permission: `public` asks for no credential, `authenticated` for any valid one."""

    PUBLIC = "public"
    AUTHENTICATED = "authenticated"


class Reach(StrEnum):
    """In which place the permission must be held."""

    WORKSPACE = "workspace"
    """In the workspace that the path names."""
    TENANT = "tenant"
    """In the whole tenant; what is held in a workspace does not count."""
    EITHER = "either"
    """In the whole tenant, or in the one workspace that the credential or X-Workspace-Id names."""
    ANYWHERE = "anywhere"
    """In any workspace: the route shows those where it is held, and no others."""


Replay = Callable[[Any, str], Awaitable[Any]]
"""(unit, resource id) → what the first answer showed, less its secrets."""

Progress = Callable[[Any, Coroutine[Any, Any, Any]], Awaitable[Any]]
"""(unit, work) → the answer of the work, or one that tells how far the work is and its answer at last."""


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One route and what the guard must know of it.

    `platform`: an administrator of the installation may call it for the tenant named in the path.
    `erased_too`: it also tells of a tenant that was erased, from what the platform has kept of it.
    `visited`: an administrator of the installation may ask there for a way into the tenant that it names.
    `action`: what is counted of it besides being a request. `feature`: what the plan must include.
    `answer`: the model of what it answers, where it may also answer in other media types.
    `document`: its body is a text of YAML or JSON, which the handler reads as it stands.
    `closed_too`: it also works in a suspended or archived workspace. `raw_body`: it streams its body itself.
    `progress`: what does its work and tells how far it is, for a caller that asks for server-sent events.
    `recorded`: its handler records each use itself, with more than the guard knows of it.
    `socket`: a GET that becomes a WebSocket once the guard has let it through. `rest`: its last parameter is a path.
    """

    method: str
    path: str
    endpoint: Callable[..., Awaitable[Any]]
    needs: Permission | Mark
    status: int = 200
    replay: Replay | None = None
    platform: bool = False
    visited: bool = False
    closed_too: bool = False
    erased_too: bool = False
    raw_body: bool = False
    document: bool = False
    media_type: str | None = None
    answer: type[Any] | None = None
    narrowed: Reach | None = None
    action: Action | None = None
    feature: Feature | None = None
    progress: Progress | None = None
    recorded: bool = False
    socket: bool = False
    rest: bool = False

    @property
    def reads(self) -> bool:
        """Whether it changes nothing; a socket does whatever comes over it."""
        return self.method == "GET" and not self.socket

    @property
    def reach(self) -> Reach:
        """Where the permission must be held: told by the path, unless the route says otherwise."""
        if self.narrowed is not None:
            return self.narrowed
        return Reach.WORKSPACE if "ws" in self.parameters else Reach.TENANT

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(re.findall(r"{(\w+)}", self.path))


class RouteRegistry:
    """Routes of one room, collected by decorators and served by `app`."""

    def __init__(self) -> None:
        self._specs: list[RouteSpec] = []

    def __iter__(self) -> Iterator[RouteSpec]:
        return iter(self._specs)

    def get(self, path: str, *, needs: Permission | Mark, **options: Any) -> Callable[..., Any]:
        return self._add("GET", path, needs, options)

    def put(self, path: str, *, needs: Permission | Mark, **options: Any) -> Callable[..., Any]:
        return self._add("PUT", path, needs, options)

    def patch(self, path: str, *, needs: Permission | Mark, **options: Any) -> Callable[..., Any]:
        return self._add("PATCH", path, needs, options)

    def delete(self, path: str, *, needs: Permission | Mark, **options: Any) -> Callable[..., Any]:
        return self._add("DELETE", path, needs, options)

    def post(self, path: str, *, needs: Permission | Mark, replay: Replay | None, **options: Any) -> Callable[..., Any]:
        """Register a POST; `replay` renders the answer again for a repeated Idempotency-Key, None only where nothing
        is changed, or where repeating it leads to the same and the tenant may take no writes: no record is kept then.
        """
        return self._add("POST", path, needs, {"replay": replay, **options})

    def any(self, path: str, *, needs: Permission | Mark, **options: Any) -> Callable[..., Any]:
        """Register all methods of what is behind a path, which is handed on; the last parameter is the rest of it."""
        adds = [
            self._add(method, path, needs, {"rest": True, "raw_body": True, "recorded": True, **_HANDED_ON, **options})
            for method in METHODS
        ]

        def register(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            for add in adds:
                add(endpoint)
            return endpoint

        return register

    def socket(self, path: str, *, needs: Permission | Mark, **options: Any) -> Callable[..., Any]:
        """Register a WebSocket; its endpoint answers with an `Upgrade`, or refuses as any other."""
        return self._add("GET", path, needs, {"socket": True, "status": 101, "media_type": "websocket", **options})

    def _add(self, method: str, path: str, needs: Permission | Mark, options: dict[str, Any]) -> Callable[..., Any]:
        if not isinstance(needs, Permission | Mark):
            raise TypeError(f"{method} {path}: a route needs a permission, or the mark public or authenticated")

        def register(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            self._specs.append(RouteSpec(method=method, path=path, endpoint=endpoint, needs=needs, **options))
            return endpoint

        return register
