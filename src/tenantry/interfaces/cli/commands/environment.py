from typing import Annotated

import typer

from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command

GROUP = typer.Typer(help="The tiers of a workspace.", no_args_is_help=True)

SlugArgument = Annotated[str, typer.Argument(metavar="SLUG")]


@command(GROUP, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry workspace environment list")
def list_(cli: Invocation) -> None:
    """List environments."""
    columns = (("SLUG", "slug"), ("KIND", "kind"), ("DESCRIPTION", "description"))
    cli.show_list(cli.client.workspaces.environments(cli.workspace, **cli.page), columns)


@command(
    GROUP, "add", options=IN_WORKSPACE, example="tenantry workspace environment add blue --kind prod --workspace shop"
)
def add(
    cli: Invocation,
    slug: SlugArgument,
    *,
    kind: Annotated[
        str | None, typer.Option("--kind", help="dev, test, staging or prod; default: what the slug says")
    ] = None,
    description: Annotated[str | None, typer.Option("--description")] = None,
) -> None:
    """Add an environment."""
    cli.show(cli.client.workspaces.add_environment(cli.workspace, slug=slug, kind=kind, description=description))


@command(GROUP, "remove", options=IN_WORKSPACE, example="tenantry workspace environment remove blue --yes")
def remove(
    cli: Invocation,
    slug: SlugArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    if_match: IfMatchOption = None,
) -> None:
    """Remove an environment."""
    workspace = cli.workspace
    if not yes:
        typer.confirm(f"Remove environment {slug}?", abort=True, err=True)
    cli.show(cli.client.workspaces.remove_environment(workspace, slug, if_match=if_match), done=f"removed {slug}")
