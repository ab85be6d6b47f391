from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tenantry.client.archives import ArchiveUpload, DirectoryUpload, Progress
from tenantry.client.calls import Call, Upload, delete, get, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.types import Image, PullProgress

T = TypeVar("T")

_UNPACKING_SECONDS = 600
_PULLING_SECONDS = 3600


class Images(Resource[T]):
    """Root file systems sandboxes start from."""

    @Listing
    def list(self, workspace: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[Image]:
        return Plan(call=get("workspaces", workspace, "images"), limit=limit, cursor=cursor)

    @Operation
    def import_archive(
        self, workspace: str, *, name: str, path: Path, form: str = "docker", progress: Progress | None = None
    ) -> Call[Image]:
        """Upload a tar: `form` is `docker` (of `docker save`), `oci` (an image layout) or `directory` (a root).

        `progress` is told the bytes sent so far, again from zero when an attempt is repeated.
        """
        upload = ArchiveUpload(path=path, progress=progress) if progress else ArchiveUpload(path=path)
        return _import(workspace, name=name, form=form, upload=upload)

    @Operation
    def import_directory(
        self, workspace: str, *, name: str, path: Path, form: str = "directory", progress: Progress | None = None
    ) -> Call[Image]:
        """Upload a directory as root file system, or with `form` `oci` the image whose layout it is.

        Devices, sockets and pipes in it are left out.
        """
        upload = DirectoryUpload(path=path, progress=progress) if progress else DirectoryUpload(path=path)
        return _import(workspace, name=name, form=form, upload=upload)

    @Operation
    def pull(
        self,
        workspace: str,
        *,
        reference: str,
        username: str | None = None,
        password: str | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Call[Image]:
        """Have the server pull an image from a registry, and wait; the same again where nothing has changed there.

        `progress` is told how far it is, some times a second; the pull then ends with the connection. It runs in
        whatever thread or loop this call does.
        """
        body = {"reference": reference, "username": username, "password": password}
        given = {name: value for name, value in body.items() if value is not None}
        call: Call[Image] = post("workspaces", workspace, "images", "pull", json=given, wait_seconds=_PULLING_SECONDS)
        return replace(call, progress=progress)

    @Operation
    def delete(self, workspace: str, image: str) -> Call[None]:
        return delete("workspaces", workspace, "images", image)


def _import(workspace: str, *, name: str, form: str, upload: Upload) -> Call[Image]:
    query = {"name": name, "format": form}
    return post("workspaces", workspace, "images", query=query, upload=upload, wait_seconds=_UNPACKING_SECONDS)
