import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.terminal import is_terminal, one_line

GROUP = typer.Typer(help="Root file systems sandboxes start from.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="image")


@command(GROUP, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry image list")
def list_(cli: Invocation) -> None:
    """List the images of a workspace."""
    columns = (("ID", "id"), ("NAME", "name"), ("BYTES", "size_bytes"), ("DIGEST", "digest"))
    cli.show_list(cli.client.images.list(cli.workspace, **cli.page), columns)


@command(GROUP, "import", options=IN_WORKSPACE, example="tenantry image import python.tar --name python:3.12")
def import_(
    cli: Invocation,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="what `docker save` wrote, or a directory", exists=True)],
    *,
    name: Annotated[str, typer.Option("--name", help="what jobs will call it")],
    form: Annotated[
        str | None, typer.Option("--format", help="of a tar: docker (default), or directory for a bare file system")
    ] = None,
) -> None:
    """Upload an image: a tar file, or a directory that is sent as one.

    Devices, sockets and pipes in a directory are left out.
    """
    workspace = cli.workspace
    with _progress(name) as progress:
        if path.is_dir():
            if form not in {None, "directory"}:
                raise BadRequest("format_conflict", f"{path} is a directory and cannot be of format {form}")
            image = cli.client.images.import_directory(workspace, name=name, path=path, progress=progress)
        else:
            image = cli.client.images.import_archive(
                workspace, name=name, path=path, form=form or "docker", progress=progress
            )
    cli.show(image)


@command(GROUP, "remove", options=IN_WORKSPACE, example="tenantry image remove img_01h455vb4pex5vsknk084sn02q")
def remove(cli: Invocation, image: Annotated[str, typer.Argument(metavar="IMAGE", help="id")]) -> None:
    """Remove an image; jobs that run from it go on."""
    cli.show(cli.client.images.delete(cli.workspace, image), done=f"removed {image}")


@contextmanager
def _progress(name: str) -> Generator[Callable[[int], object] | None]:
    """Bytes sent, on a terminal."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(one_line(name), total=None)
        yield lambda sent: shown.update(task, completed=sent)
