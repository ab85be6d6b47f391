from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.commands.image_progress import pulling, uploading
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.output import Format
from tenantry.interfaces.cli.secret_input import read_secret

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
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="what `docker save` wrote, a layout, or a directory", exists=True)
    ],
    *,
    name: Annotated[str, typer.Option("--name", help="what jobs will call it")],
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="docker (default of a tar), oci for an image layout, directory for a bare file system"
        ),
    ] = None,
) -> None:
    """Upload an image: a tar file, or a directory that is sent as one.

    Devices, sockets and pipes in a directory are left out.
    """
    workspace = cli.workspace
    with uploading(name) as progress:
        if path.is_dir():
            if form not in {None, "directory", "oci"}:
                raise BadRequest("format_conflict", f"{path} is a directory and cannot be of format {form}")
            image = cli.client.images.import_directory(
                workspace, name=name, path=path, form=form or "directory", progress=progress
            )
        else:
            image = cli.client.images.import_archive(
                workspace, name=name, path=path, form=form or "docker", progress=progress
            )
    cli.show(image)


@command(GROUP, "pull", options=IN_WORKSPACE, example="tenantry image pull docker.io/library/python:3.12-slim")
def pull(
    cli: Invocation,
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="registry/repository:tag or …@sha256:…")],
    *,
    username: Annotated[str | None, typer.Option("--username", help="at the registry; used once, not kept")] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="has the password; else it is asked for", exists=True)
    ] = None,
) -> None:
    """Have the server pull an image from a registry; jobs name it by its reference.

    Pulled again, it is what the registry has by then. Standard error shows how far it is; an interrupt ends it.
    """
    password = read_secret("Password", password_file) if username is not None else None
    workspace = cli.workspace
    with pulling(reference, quiet=cli.output is Format.JSON) as progress:
        image = cli.client.images.pull(
            workspace, reference=reference, username=username, password=password, progress=progress
        )
    cli.show(image)


@command(GROUP, "remove", options=IN_WORKSPACE, example="tenantry image remove img_01h455vb4pex5vsknk084sn02q")
def remove(cli: Invocation, image: Annotated[str, typer.Argument(metavar="IMAGE", help="id")]) -> None:
    """Remove an image; jobs that run from it go on."""
    cli.show(cli.client.images.delete(cli.workspace, image), done=f"removed {image}")
