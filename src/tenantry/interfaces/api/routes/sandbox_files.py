"""Files in the /workspace of a running sandbox. Nothing is reached through a link, whatever lies there."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import Query, Request
from pydantic import AfterValidator, Field
from starlette.responses import Response

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.sandboxes.service import LiveFiles
from tenantry.engines.jail.file_types import FileChange, FileInfo, FileKind
from tenantry.foundation.errors import Conflict, Invalid, TenantryError
from tenantry.interfaces.api.job_forms import no_nul
from tenantry.interfaces.api.live import SANDBOX, Reached, note_read, reach
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, Moment
from tenantry.interfaces.api.streams import (
    EVENT_STREAM,
    KEEPALIVE_LOOKS,
    Held,
    admitted,
    event,
    first_of,
    refusal,
    stay,
    uploaded,
)
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_BYTES: Final = "application/octet-stream"
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_LONGEST: Final = 4096


PathText = Annotated[str, AfterValidator(no_nul), Field(max_length=_LONGEST)]
Where = Annotated[PathText, Query(description="below /workspace; empty is /workspace itself")]


class FileAnswer(Answer):
    path: str
    kind: str = Field(description="file, directory, link or other")
    size_bytes: int
    mode: str = Field(description="permission bits, octal")
    modified_at: Moment


class FilesAnswer(Answer):
    file: FileAnswer | None = Field(description="what the path names; null for /workspace itself")
    items: list[FileAnswer] = Field(description="what lies in it, of a directory; by name")


class MoveBody(Body):
    source: PathText = Field(min_length=1)
    target: PathText = Field(min_length=1)


class DirectoryBody(Body):
    path: PathText = Field(min_length=1)


async def _opened(unit: Unit, sandbox: str) -> tuple[Reached, LiveFiles]:
    reached = await reach(unit, sandbox)
    return reached, await unit.runtime.live.files(reached.place)


async def _changing(unit: Unit, sandbox: str, *, kind: str, path: str) -> LiveFiles:
    """Record a change and commit before it is made, so that none goes unrecorded and nothing is held meanwhile."""
    reached, files = await _opened(unit, sandbox)
    await unit.sandboxes.record_access(reached.sandbox, kind, path)
    await unit.settle()
    return files


@routes.get(
    f"{SANDBOX}/files",
    needs=Permission.SANDBOX_READ,
    feature=Feature.ORCHESTRATION,
    recorded=True,
    answer=FilesAnswer,
)
async def read_files(
    request: Request,
    ws: str,
    sandbox: str,
    path: Where = "",
    content: Annotated[
        bool, Query(description="the bytes of a file, or with Accept: application/octet-stream")
    ] = False,
    watch: Annotated[bool, Query(description="server-sent events of what changes below it, from now on")] = False,
) -> Any:
    """What a file is, what lies in a directory, what a file holds (whole or a `Range`), or what changes below it."""
    unit = unit_of(request)
    reached, files = await _opened(unit, sandbox)
    kind = "watch" if watch else "read" if content or _BYTES in request.headers.get("accept", "") else "list"
    note_read(unit, reached.sandbox, kind=kind, path=path)
    await unit.settle()
    if kind == "watch":
        return await _watched(unit, files, path)
    if kind == "read":
        return await _content(unit, files, path)
    found = await files.stat(path)
    inside = await files.list(path) if found.kind == FileKind.DIRECTORY else []
    return FilesAnswer(file=render(found), items=[render(each) for each in inside])


async def _content(unit: Unit, files: LiveFiles, path: str) -> Response:
    async with AsyncExitStack() as stack:
        stack.enter_context(unit.runtime.seats.taken(unit.scope.tenant_id))
        found, content = await files.read(path)
        stack.push_async_callback(_left, content)
        tag = f"{int(found.modified_at.timestamp() * 1_000_000):x}.{found.size_bytes:016x}"
        unit.show_tag(tag)
        first, last = _range(unit, found.size_bytes, tag)
        status, headers = _headers(found, first, last)
        body = _exactly(_while_admitted(unit, content), first, last - first + 1)
        return Held(body, held=stack.pop_all(), status_code=status, media_type=_BYTES, headers=headers)


def _headers(found: FileInfo, first: int, last: int) -> tuple[int, dict[str, str]]:
    whole = (first, last) == (0, found.size_bytes - 1) or not found.size_bytes
    name = quote(found.path.rpartition("/")[2], safe="")
    headers = {
        "Content-Length": str(last - first + 1),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "sandbox",
        "Accept-Ranges": "bytes",
    }
    if not whole:
        headers["Content-Range"] = f"bytes {first}-{last}/{found.size_bytes}"
    return 200 if whole else 206, headers


def _range(unit: Unit, size: int, tag: str) -> tuple[int, int]:
    """Tell the first and last byte that are asked for; raises Invalid `range_unsatisfiable`.

    One range alone is understood, and none of another version: then all of it is sent (RFC 9110 §14.2).
    """
    asked = _RANGE.fullmatch(unit.request.headers.get("range", "").strip())
    if asked is None or asked.groups() == ("", "") or unit.request.headers.get("if-range", f'"{tag}"') != f'"{tag}"':
        return 0, size - 1
    begin, end = asked.groups()
    first = int(begin) if begin else max(0, size - int(end))
    last = min(int(end), size - 1) if begin and end else size - 1
    if first > last or (not begin and not int(end)):
        raise Invalid("range_unsatisfiable", f"Range: the file has {size} bytes", layer="api", current=size)
    return first, last


async def _while_admitted(unit: Unit, content: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async for piece in admitted(unit, partial(anext, content, None)):
        if piece is not None:
            yield piece


async def _exactly(content: AsyncGenerator[bytes], skip: int, length: int) -> AsyncIterator[bytes]:
    """Give so many bytes after those that are skipped; raises Conflict `file_changed` where it has become shorter."""
    async with aclosing(content):
        async for piece in content:
            left, skip = piece[skip:], max(0, skip - len(piece))
            if left and length:
                yield left[:length]
                length -= min(length, len(left))
            if not length:
                return
    if length:
        raise Conflict("file_changed", "the file has become shorter while it was read: read it again", layer="api")


async def _left(content: AsyncIterator[Any]) -> None:
    if (close := getattr(content, "aclose", None)) is not None:
        await close()


async def _watched(unit: Unit, files: LiveFiles, path: str) -> Response:
    async with AsyncExitStack() as stack:
        stack.enter_context(unit.runtime.seats.taken(unit.scope.tenant_id))
        changes = await files.watch(path)
        stack.push_async_callback(_left, changes)
        return Held(_changes(unit, changes), held=stack.pop_all(), media_type=EVENT_STREAM)


async def _changes(unit: Unit, changes: AsyncIterator[FileChange]) -> AsyncIterator[str]:
    quiet = 0
    try:
        async for change in admitted(unit, partial(anext, changes, None)):
            quiet = quiet + 1 if change is None else 0
            if change is not None:
                moved = {"moved_from": change.moved_from} if change.moved_from else {}
                yield event("change", {"kind": change.kind.value, "path": change.path, **moved})
            elif quiet % KEEPALIVE_LOOKS == 0:
                yield ": still here\n\n"
        yield event("end", {})
    except TenantryError as error:
        yield event("refused", refusal(error))


@routes.put(
    f"{SANDBOX}/files",
    needs=Permission.SANDBOX_EXEC,
    feature=Feature.ORCHESTRATION,
    raw_body=True,
)
async def write_file(
    request: Request,
    ws: str,
    sandbox: str,
    path: Annotated[PathText, Query(min_length=1)],
    mode: Annotated[str, Query(pattern=r"^0?[0-7]{3}$", description="permission bits, octal")] = "644",
) -> FileAnswer:
    """Write a file, the body, whole or not at all, in place of one that was; it may come slowly, but has to come."""
    unit = unit_of(request)
    server = unit.runtime.settings.server
    most = server.max_upload_bytes
    files = await _changing(unit, sandbox, kind="write", path=path)
    with unit.runtime.seats.taken(unit.scope.tenant_id):
        body = uploaded(request, most, idle_seconds=server.upload_idle_seconds)
        writing = files.write(path, body, int(mode, 8), most_bytes=most)
        return render(await first_of(writing, stay(unit)))


@routes.delete(f"{SANDBOX}/files", needs=Permission.SANDBOX_EXEC, feature=Feature.ORCHESTRATION, status=204)
async def delete_file(
    request: Request,
    ws: str,
    sandbox: str,
    path: Annotated[PathText, Query(min_length=1)],
    recursive: Annotated[bool, Query(description="a directory with all that lies in it")] = False,
) -> None:
    """Delete a file, a link or an empty directory."""
    files = await _changing(unit_of(request), sandbox, kind="delete", path=path)
    await files.delete(path, recursive=recursive)


@routes.post(f"{SANDBOX}/files/move", needs=Permission.SANDBOX_EXEC, feature=Feature.ORCHESTRATION, replay=None)
async def move_file(request: Request, ws: str, sandbox: str, body: MoveBody) -> FileAnswer:
    """Give a file or directory another name, which must be free."""
    files = await _changing(unit_of(request), sandbox, kind="move", path=f"{body.source} → {body.target}")
    await files.move(body.source, body.target)
    return render(await files.stat(body.target))


@routes.post(
    f"{SANDBOX}/files/directory",
    needs=Permission.SANDBOX_EXEC,
    feature=Feature.ORCHESTRATION,
    replay=None,
)
async def make_directory(request: Request, ws: str, sandbox: str, body: DirectoryBody) -> FileAnswer:
    """Make a directory and those above it; one that is there stays as it is."""
    files = await _changing(unit_of(request), sandbox, kind="make_directory", path=body.path)
    await files.make_directory(body.path)
    return render(await files.stat(body.path))


def render(found: FileInfo) -> FileAnswer:
    return FileAnswer(
        path=found.path,
        kind=found.kind,
        size_bytes=found.size_bytes,
        mode=f"{found.mode:04o}",
        modified_at=found.modified_at,
    )
