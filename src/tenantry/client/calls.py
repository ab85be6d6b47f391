"""A request as data: described once, sent by either transport.

Paths are built of segments and every segment is quoted, so an id from elsewhere stays an id.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from tenantry.client.errors import BadRequest

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

QueryValue = str | float | bool | Sequence[str] | None

API = ("api", "v1")
IDEMPOTENCY_KEY = "Idempotency-Key"
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Upload(Protocol):
    """A body that is read as it is sent, and read again when the request is."""

    @property
    def size_bytes(self) -> int | None:
        """None when only reading it to the end would tell."""
        ...

    def chunks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` has lower-case names; `body` is the parsed JSON, None without content."""

    status: int
    headers: Mapping[str, str]
    body: Any


def body_of(answer: Answer) -> Any:
    return answer.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[R_co]):
    """`document` is a text of YAML or JSON, sent as it stands: the server tells what is wrong with it by line.

    `accept` names statuses beside 2xx that are answers; `wait_seconds` is how long the server may hold it. `progress`
    hears how far the work is, again from its beginning where an attempt is repeated.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    json: Mapping[str, object] | None = field(default=None, repr=False)
    upload: Upload | None = None
    document: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    accept: frozenset[int] = frozenset()
    wait_seconds: float = 0
    progress: Callable[[Any], object] | None = field(default=None, repr=False)
    parse: Callable[[Answer], R_co] = body_of

    @property
    def replayable(self) -> bool:
        """Sending it twice has the effect of sending it once."""
        return self.method in _SAFE_METHODS or IDEMPOTENCY_KEY in self.headers


def path_of(*segments: str) -> str:
    """Quote and join; raises BadRequest for a segment that would change the path's meaning."""
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise BadRequest("id_malformed", f"{segment!r} is no id")
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def query_of(query: Mapping[str, QueryValue] | None) -> tuple[tuple[str, str], ...]:
    """Leave out None; a sequence repeats its name."""
    pairs: list[tuple[str, str]] = []
    for name, value in (query or {}).items():
        if isinstance(value, bool):
            pairs.append((name, "true" if value else "false"))
        elif isinstance(value, str | int | float):
            pairs.append((name, str(value)))
        elif value is not None:
            pairs.extend((name, item) for item in value)
    return tuple(pairs)


def given(**fields: object) -> dict[str, object]:
    """Leave out None: what the caller did not say is the server's to decide."""
    return {name: value for name, value in fields.items() if value is not None}


def get(*segments: str, query: Mapping[str, QueryValue] | None = None) -> Call[Any]:
    return Call(method="GET", path=path_of(*API, *segments), query=query_of(query))


def post(
    *segments: str,
    json: Mapping[str, object] | None = None,
    upload: Upload | None = None,
    query: Mapping[str, QueryValue] | None = None,
    wait_seconds: float = 0,
    idempotency_key: str | None = None,
) -> Call[Any]:
    """Carry a fresh Idempotency-Key unless one is given, the same on every attempt."""
    return Call(
        method="POST",
        path=path_of(*API, *segments),
        query=query_of(query),
        json=None if upload else (json or {}),
        upload=upload,
        headers={IDEMPOTENCY_KEY: idempotency_key or str(uuid.uuid4())},
        wait_seconds=wait_seconds,
    )


def patch(*segments: str, json: Mapping[str, object], if_match: str | None = None) -> Call[Any]:
    headers = {"If-Match": if_match} if if_match else {}
    return Call(method="PATCH", path=path_of(*API, *segments), json=json, headers=headers)


def put(*segments: str, json: Mapping[str, object], if_match: str | None = None) -> Call[Any]:
    headers = {"If-Match": if_match} if if_match else {}
    return Call(method="PUT", path=path_of(*API, *segments), json=json, headers=headers)


def delete(*segments: str, if_match: str | None = None, query: Mapping[str, QueryValue] | None = None) -> Call[Any]:
    headers = {"If-Match": if_match} if if_match else {}
    return Call(method="DELETE", path=path_of(*API, *segments), query=query_of(query), headers=headers)


def place_of(workspace: str | None, tenant: str | None) -> tuple[str, str]:
    """Begin the path of what lies in a workspace or a tenant; raises BadRequest unless exactly one is given."""
    if workspace is not None and tenant is None:
        return "workspaces", workspace
    if tenant is not None and workspace is None:
        return "tenants", tenant
    raise BadRequest("place_ambiguous", "give exactly one of workspace and tenant")


def etag_of(answer: Answer) -> str | None:
    return answer.headers.get("etag")
