"""Files that jobs were given."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response

from tenantry.capabilities.access.types import Permission
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Page
from tenantry.interfaces.api.unit import unit_of

routes = RouteRegistry()


class InputAnswer(Answer):
    path: str
    size_bytes: int
    sha256: str


@routes.get("/workspaces/{ws}/jobs/{job}/inputs", needs=Permission.JOB_READ)
async def list_inputs(request: Request, ws: str, job: str) -> Page[InputAnswer]:
    """What the job was given, all of it, with sizes and digests; they remain when the content is gone."""
    unit = unit_of(request)
    found = await unit.jobs.get(parse_id(Prefix.JOB, job), workspace_id=unit.workspace_id)
    return Page[InputAnswer](items=[render(each) for each in found.inputs], next_cursor=None)


@routes.get(
    "/workspaces/{ws}/jobs/{job}/inputs/{input}/content",
    needs=Permission.JOB_READ,
    media_type="application/octet-stream",
)
async def get_input(request: Request, ws: str, job: str, input: str) -> Response:  # noqa: A002 - a name of the path
    """The content of the input with this SHA-256, as long as the job's output is kept."""
    unit = unit_of(request)
    found = await unit.jobs.read_input(parse_id(Prefix.JOB, job), input, workspace_id=unit.workspace_id)
    unit.show_tag(input)
    name = quote(found.path.rpartition("/")[2], safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "sandbox",
    }
    return Response(found.content, media_type="application/octet-stream", headers=headers)


def render(described: Mapping[str, Any]) -> InputAnswer:
    return InputAnswer(path=described["path"], size_bytes=described["size_bytes"], sha256=described["sha256"])
