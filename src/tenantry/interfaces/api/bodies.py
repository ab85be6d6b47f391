"""Reads a request's body: bounded, strict JSON, no surprises."""

import asyncio
from typing import Any, Final

from starlette.requests import Request

from tenantry.foundation.errors import Invalid
from tenantry.kit.strict_json import NotStrictError, parse_json

BODY_SECONDS: Final = 30.0
DOCUMENTS: Final = frozenset({"application/json", "application/yaml", "application/x-yaml", "text/yaml"})
"""What a document may be announced as (RFC 9512); its parser takes either, since JSON is YAML."""


class StrictRequest(Request):
    """A request whose JSON is read by the strict parser, once."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            try:
                self._json = parse_json(await self.body())
            except NotStrictError as error:
                raise Invalid("body_unreadable", f"body: {error}", layer="api") from None
        return self._json


async def read_body(request: StrictRequest, *, limit: int, document: bool = False) -> bytes:
    """Read the body, at most `limit` bytes; raises Invalid `body_too_large` before more is kept in memory.

    A body that is not announced as JSON is refused here, so that nothing below guesses. A `document` may be YAML, too,
    and is left as it is: its reader tells lines.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _collected(request, limit=limit)
    except TimeoutError:
        raise Invalid("body_slow", f"body: did not arrive within {BODY_SECONDS:.0f} s", layer="api") from None
    request._body = body  # noqa: SLF001 - Starlette's own cache of the body, which `body()` reads
    if body:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (DOCUMENTS if document else ("application/json",)):
            sent = "application/yaml or application/json" if document else "application/json"
            raise Invalid("content_type_unsupported", f"Content-Type: send {sent}", layer="api")
        if not document:
            await request.json()
    return body


async def _collected(request: Request, *, limit: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> Invalid:
    return Invalid("body_too_large", f"body: larger than {limit} bytes", layer="api", limit=limit)
