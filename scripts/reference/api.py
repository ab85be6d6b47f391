from collections.abc import Iterator
from typing import Any, cast

from scripts.reference.markdown import code, page, table
from scripts.reference.schemas import default_of, fields, named, references, type_of

from tenantry.interfaces.api.app import create_app
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import PREFIX, Mark, RouteSpec
from tenantry.interfaces.api.runtime import Runtime

_INTRODUCTION = f"""
Below `{PREFIX}`, unless the path is one of the first four. `Authorization: Bearer <API key>`. JSON in and out, unknown
fields in a request are refused. The same as OpenAPI 3.1: `{PREFIX}/openapi.json`.

*Needs* is the permission, or `public` (no credential) or `authenticated` (any valid one). *Held* says where: in the
`workspace` of the path; in the whole `tenant`; in `either`, the tenant or the one workspace that the key or
`X-Workspace-Id` names; `anywhere`, and only what lies there is shown.
"""
_NOTES = """
- **K**: an `Idempotency-Key` (1 to 200 printable characters) makes a repetition answer as before, less secrets, marked
  `Idempotency-Replayed: true`; with another request it is refused (`idempotency_key_reused`), while the first one runs
  too (`in_progress`).
- **P**: a platform credential may call it for the tenant that the path names.
- **C**: works in a suspended or archived workspace too. Reading always does.
- **S**: the body is streamed.
- **W**: a WebSocket. The handshake is judged as any request and refused as one; afterwards the credential is looked at
  twice a second. A browser's cookie counts only with an `Origin` that is ours. A message has 1 MiB at most.
- Lists take `limit` (1 to 200) and `cursor`, and answer `{"items": […], "next_cursor": …}`; a cursor is good for
  24 hours and for the very list it came from.
- Resources that can be changed answer with `ETag`; `If-Match` refuses a change of a newer version
  (`version_mismatch`), `If-None-Match` spares the body.
- Every answer has `X-Trace-Id`: that of a well-formed `traceparent`, else a new one.
- An answer that did something has a receipt a log in `Audit-Receipt`: in base64, the log's signature over the events
  (see `docs/how-to/keep-audit-checkpoints.md`). A replay has none.
- Refusals are problem documents: see [error codes](errors.md).
"""


def render() -> str:
    rooms = dict.fromkeys(_room(spec) for spec in ALL_ROUTES)
    document = create_app(cast("Runtime", None)).openapi()
    sections = [f"## {room.replace('_', ' ').capitalize()}\n\n{_routes(room)}" for room in rooms]
    bodies = [
        f"### `{spec.method} {spec.path}`\n\n{fields(body)}" for spec in ALL_ROUTES if (body := _body(spec, document))
    ]
    parts = [f"### {name}\n\n{fields(schema)}" for name, schema in _nested(document)]
    asked = [f"### `{spec.method} {spec.path}`\n\n{query}" for spec in ALL_ROUTES if (query := _query(spec, document))]
    return page(
        "REST API", _INTRODUCTION, _NOTES, *sections, "## Parameters", *asked, "## Request bodies", *bodies, *parts
    )


def _room(spec: RouteSpec) -> str:
    return spec.endpoint.__module__.rpartition(".")[2]


def _routes(room: str) -> str:
    rows = [
        [
            spec.method,
            code(spec.path),
            spec.needs if isinstance(spec.needs, Mark) else code(spec.needs),
            "" if isinstance(spec.needs, Mark) else spec.reach.value,
            str(spec.status),
            " ".join(_marks(spec)),
            " ".join((spec.endpoint.__doc__ or "").split()),
        ]
        for spec in ALL_ROUTES
        if _room(spec) == room
    ]
    return table(["Method", "Path", "Needs", "Held", "Status", "Notes", "What it does"], rows)


def _marks(spec: RouteSpec) -> Iterator[str]:
    yield from (
        mark
        for mark, true in (
            ("K", spec.replay is not None),
            ("P", spec.platform or ("tenant" in spec.parameters and spec.needs == "platform:admin")),
            ("C", spec.closed_too),
            ("S", spec.raw_body),
            ("W", spec.socket),
        )
        if true
    )


def _operation(spec: RouteSpec, document: dict[str, Any]) -> dict[str, Any]:
    paths = document["paths"]
    found = paths.get(f"{PREFIX}{spec.path}") or paths[spec.path]
    return cast("dict[str, Any]", found[spec.method.lower()])


def _query(spec: RouteSpec, document: dict[str, Any]) -> str:
    """Its own parameters: those of every list and those of the path are told once above."""
    given = [
        [code(each["name"]), type_of(each["schema"]), default_of(each["schema"]), each["schema"].get("description", "")]
        for each in _operation(spec, document).get("parameters", [])
        if each["in"] == "query" and each["schema"].get("description") not in _SHARED
    ]
    return table(["Parameter", "Type", "Default", "Meaning"], given) if given else ""


_SHARED = {"items of a page", "`next_cursor` of the page before"}


def _body(spec: RouteSpec, document: dict[str, Any]) -> dict[str, Any] | None:
    """Find the schema of its JSON body, if it takes one."""
    content = _operation(spec, document).get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    return document["components"]["schemas"][named(schema)] if "$ref" in schema else None


def _nested(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Schemas that bodies are made of, in order of their names."""
    schemas = document["components"]["schemas"]
    met: set[str] = set()
    waiting = [body for spec in ALL_ROUTES if (body := _body(spec, document))]
    while waiting:
        for name in references(waiting.pop()):
            if name not in met:
                met.add(name)
                waiting.append(schemas[name])
    yield from ((name, schemas[name]) for name in sorted(met))
