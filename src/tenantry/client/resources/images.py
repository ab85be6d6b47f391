from pathlib import Path
from typing import TypeVar

from tenantry.client.archives import ArchiveUpload, DirectoryUpload, Progress
from tenantry.client.calls import Call, Upload, delete, get, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.types import Image

T = TypeVar("T")

_UNPACKING_SECONDS = 600


class Images(Resource[T]):
    """Root file systems sandboxes start from."""

    @Listing
    def list(self, workspace: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[Image]:
        return Plan(call=get("workspaces", workspace, "images"), limit=limit, cursor=cursor)

    @Operation
    def import_archive(
        self, workspace: str, *, name: str, path: Path, form: str = "docker", progress: Progress | None = None
    ) -> Call[Image]:
        """Upload a tar: `form` is `docker` (written by `docker save`) or `directory` (a root file system).

        `progress` is told the bytes sent so far, again from zero when an attempt is repeated.
        """
        upload = ArchiveUpload(path=path, progress=progress) if progress else ArchiveUpload(path=path)
        return _import(workspace, name=name, form=form, upload=upload)

    @Operation
    def import_directory(
        self, workspace: str, *, name: str, path: Path, progress: Progress | None = None
    ) -> Call[Image]:
        """Upload a directory as root file system; devices, sockets and pipes in it are left out."""
        upload = DirectoryUpload(path=path, progress=progress) if progress else DirectoryUpload(path=path)
        return _import(workspace, name=name, form="directory", upload=upload)

    @Operation
    def delete(self, workspace: str, image: str) -> Call[None]:
        return delete("workspaces", workspace, "images", image)


def _import(workspace: str, *, name: str, form: str, upload: Upload) -> Call[Image]:
    query = {"name": name, "format": form}
    return post("workspaces", workspace, "images", query=query, upload=upload, wait_seconds=_UNPACKING_SECONDS)
