"""Images of a workspace."""

import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, Self

from fastapi import Query, Request
from pydantic import Field, StringConstraints, model_validator
from starlette.responses import Response

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.sandboxes.types import Image
from tenantry.engines.jail.registries import Credentials
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.foundation.settings import ServerSettings
from tenantry.interfaces.api.progress import in_events
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.streams import uploaded
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_NAME = r"^[a-z0-9]+(?:[._/-][a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$"
_Printable = Annotated[str, StringConstraints(pattern=r"^[!-~ ]+$", min_length=1, max_length=4096)]
_SOURCES = {"docker": "docker_archive", "oci": "oci_layout", "directory": "directory"}


class ImageAnswer(Answer):
    id: str
    name: str
    digest: str
    size_bytes: int = Field(description="what its root takes, unpacked: each entry in whole blocks of 4 KiB")
    source: str
    created_at: Moment
    created_by: str


class PullBody(Body):
    reference: str = Field(min_length=1, max_length=512, description="registry/repository:tag, or with @sha256:…")
    username: _Printable | None = Field(default=None, description="for the registry; used once, and not kept")
    password: _Printable | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self


async def _again(unit: Unit, resource_id: str) -> ImageAnswer:
    return render(await unit.images.get(parse_id(Prefix.IMAGE, resource_id), workspace_id=unit.workspace_id))


@routes.post(
    "/workspaces/{ws}/images",
    needs=Permission.IMAGE_ADMIN,
    replay=_again,
    status=201,
    raw_body=True,
    feature=Feature.SKILLS,
)
async def import_image(
    request: Request,
    ws: str,
    name: Annotated[str, Query(pattern=_NAME, max_length=200)],
    format: Annotated[Literal["docker", "oci", "directory"], Query()] = "docker",  # noqa: A002 - the parameter's public name
) -> ImageAnswer:
    """Import a tar (the body): of `docker save`, of an OCI image layout, or of a directory that is to be the root."""
    unit = unit_of(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-tar":
        raise Invalid("content_type_unsupported", "Content-Type: send application/x-tar", layer="api")
    with tempfile.TemporaryDirectory(prefix="import-", dir=await _incoming(unit)) as folder:
        archive = Path(folder) / "archive.tar"
        await _receive(request, archive, server=unit.runtime.settings.server)
        image = await unit.images.import_archive(
            workspace_id=unit.workspace_id, name=name, source=_SOURCES[format], archive=archive
        )
    unit.resource_id = format_id(Prefix.IMAGE, image.image_id)
    return render(image)


@routes.post(
    "/workspaces/{ws}/images/pull",
    needs=Permission.IMAGE_ADMIN,
    replay=_again,
    status=201,
    feature=Feature.SKILLS,
    progress=in_events,
)
async def pull_image(request: Request, ws: str, body: PullBody) -> ImageAnswer:
    """Pull an image from a registry that the installation lists, and wait for it.

    It is named by its completed reference. Pulled again it is the same while the registry has the same, else it is
    replaced. With `Accept: text/event-stream` it tells how far it is: events `progress` (reference, phase, and
    layers_done, layers_total, layers_unpacked, bytes_done, bytes_total), at last `done` with the image or `error` with
    the problem document. What is refused before the registry is asked is refused as ever. Such a pull ends with its
    connection.
    """
    unit = unit_of(request)
    credentials = Credentials(body.username, body.password) if body.username and body.password else None
    image = await unit.image_pulls.pull(
        body.reference,
        workspace_id=unit.workspace_id,
        credentials=credentials,
        tell=(lambda now: tell(asdict(now))) if (tell := unit.tell) is not None else None,
    )
    unit.resource_id = format_id(Prefix.IMAGE, image.image_id)
    return render(image)


@routes.get("/workspaces/{ws}/images", needs=Permission.IMAGE_READ)
async def list_images(
    request: Request,
    ws: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[ImageAnswer]:
    """The images of the workspace; `host` is always there besides them."""
    unit = unit_of(request)
    found = await unit.images.list_images(workspace_id=unit.workspace_id, after=after(unit, cursor), limit=limit + 1)
    items = [render(image) for image in found]
    return Page[ImageAnswer](**page(unit, items, ids=[i.image_id for i in found], limit=limit))


@routes.get("/workspaces/{ws}/images/{image}", needs=Permission.IMAGE_READ)
async def get_image(request: Request, ws: str, image: str) -> ImageAnswer:
    """One image."""
    return await _again(unit_of(request), image)


@routes.delete("/workspaces/{ws}/images/{image}", needs=Permission.IMAGE_ADMIN, status=204, media_type="")
async def remove_image(request: Request, ws: str, image: str) -> Response:
    """Forget an image; jobs that name it are refused from now on."""
    unit = unit_of(request)
    await unit.images.remove(parse_id(Prefix.IMAGE, image), workspace_id=unit.workspace_id)
    return Response(status_code=204)


async def _incoming(unit: Unit) -> Path:
    folder = unit.runtime.libraries[unit.scope.region].directory(unit.scope.tenant_id) / "uploads"
    await asyncio.to_thread(lambda: folder.mkdir(mode=0o700, parents=True, exist_ok=True))
    return folder


async def _receive(request: Request, archive: Path, *, server: ServerSettings) -> None:
    with await asyncio.to_thread(archive.open, "xb") as file:
        async for part in uploaded(request, server.max_upload_bytes, idle_seconds=server.upload_idle_seconds):
            await asyncio.to_thread(file.write, part)


def render(image: Image) -> ImageAnswer:
    return ImageAnswer(
        id=format_id(Prefix.IMAGE, image.image_id),
        name=image.name,
        digest=image.digest,
        size_bytes=image.size_bytes,
        source=image.source,
        created_at=image.created_at,
        created_by=image.created_by,
    )
