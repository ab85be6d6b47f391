"""Sandboxes that live, and what one does in them."""

import typer

from tenantry.interfaces.cli.commands import sandbox_exec, sandbox_files, sandbox_port
from tenantry.interfaces.cli.invocation import IN_WORKSPACE, command

GROUP = typer.Typer(help="Sandboxes that live: commands, terminals, files and ports of one.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="sandbox")


def register_access(group: typer.Typer) -> None:
    """Add what speaks with a running sandbox."""
    command(
        group, "exec", example="tenantry sandbox exec dev -- make test", passes_arguments=True, options=IN_WORKSPACE
    )(sandbox_exec.run)
    command(group, "shell", example="tenantry sandbox shell dev", passes_arguments=True, options=IN_WORKSPACE)(
        sandbox_exec.shell
    )
    command(group, "files", example="tenantry sandbox files dev src", options=IN_WORKSPACE)(sandbox_files.files)
    command(group, "cp", example="tenantry sandbox cp ./src dev:/src", options=IN_WORKSPACE)(sandbox_files.copy)
    command(group, "port", example="tenantry sandbox port dev 8080 --local 3000", options=IN_WORKSPACE)(
        sandbox_port.port
    )


register_access(GROUP)
