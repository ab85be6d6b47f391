from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tenantry import __version__
from tenantry.client.errors import ClientError
from tenantry.foundation.errors import TenantryError
from tenantry.interfaces.cli.commands import (
    access,
    audit,
    evidence,
    grants,
    image,
    job,
    limits,
    login,
    notification,
    overlays,
    people,
    policy,
    proofs,
    providers,
    sandbox,
    secret,
    tenant,
    usage,
    workspace,
)
from tenantry.interfaces.cli.exits import exit_for
from tenantry.interfaces.cli.faults import report
from tenantry.interfaces.cli.invocation import OutputOption, Shared, WorkspaceOption
from tenantry.interfaces.cli.output import Format

_HELP = """
A fenced place for every organisation, team and agent.

Begin with `tenantry login`, choose with `tenantry workspace use`, then `tenantry job run -- CMD…`. Every command tells
more with --help.

\b
Exit codes: 0 done (`job run`, `sandbox exec`: the command's own),
2 usage, 3 refused, 4 not found, 5 conflict, 6 over a limit, 7 unavailable,
124 the job timed out, 130 cancelled, 1 anything else.
"""


class _Root(TyperGroup):
    """Turns every error the product raises on purpose into a message and an exit code; all others are bugs and show."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except (ClientError, TenantryError) as error:
            shared = ctx.obj if isinstance(ctx.obj, Shared) else Shared()
            report(error, output=shared.output)
            raise typer.Exit(exit_for(error)) from error


def build_app() -> typer.Typer:
    """Everything that needs a server; the processes themselves are added by who composes them.

    Commands added later share the options before the command (`ctx.find_root().obj`, a `Shared`) and the exit codes.
    """
    app = typer.Typer(
        name="tenantry",
        cls=_Root,
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        # A traceback with local variables would print keys.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_options)
    rooms = (
        *(login, tenant, workspace, overlays, access, proofs, people, providers),
        *(grants, limits, usage, policy, job, sandbox, image, secret, notification, audit, evidence),
    )
    for module in rooms:
        module.register(app)
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


def _options(
    ctx: typer.Context,
    *,
    output: OutputOption = None,
    workspace: WorkspaceOption = None,
    version: Annotated[
        bool, typer.Option("--version", help="print the version and leave", is_eager=True, callback=_version)
    ] = False,
) -> None:
    del version  # its callback has answered
    ctx.obj = Shared(output=output or Format.TABLE, workspace=workspace)
