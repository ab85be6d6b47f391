"""`tenant move` and the operations on whole tenants."""

import time
from typing import Annotated, Final

import typer

from tenantry.client.errors import BadRequest
from tenantry.client.types import TenantOperation
from tenantry.interfaces.cli.invocation import IN_PAGES, Invocation, command
from tenantry.interfaces.cli.output import say

GROUP = typer.Typer()

_LOOK_SECONDS: Final = 0.5
_OPEN: Final = ("waiting", "running")

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="id or slug")]
OperationArgument = Annotated[str, typer.Argument(metavar="OPERATION", help="id, as `tenant operations` shows it")]


@command(GROUP, "move", example="tenantry tenant move acme --isolation schema_level --wait")
def move(
    cli: Invocation,
    tenant: TenantArgument,
    *,
    isolation: Annotated[
        str | None, typer.Option("--isolation", help="row_level, schema_level or database_level")
    ] = None,
    region: Annotated[str | None, typer.Option("--region", help="a second administrator must confirm it")] = None,
    grace: Annotated[
        int | None, typer.Option("--grace", metavar="SECONDS", help="how long the old place is kept; default 3600")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="until the tenant works at its new place")] = False,
) -> None:
    """Move an organisation to another isolation strategy or region; reads go on, writes wait a moment."""
    if isolation is None and region is None:
        raise BadRequest("nowhere_to_move", "no place to move to was named", remedy="--isolation or --region")
    operation = cli.client.tenants.move(tenant, isolation=isolation, region=region, grace_seconds=grace)
    if wait:
        operation = _followed(cli, tenant, operation)
    cli.show(operation)
    if operation["status"] == "waiting":
        say(f"another administrator confirms it: tenantry tenant confirm {tenant} {operation['id']}")
    if operation["status"] in ("failed", "cancelled"):
        raise typer.Exit(1)


@command(GROUP, "operations", options=IN_PAGES, example="tenantry tenant operations acme --limit 5")
def operations(cli: Invocation, tenant: TenantArgument) -> None:
    """List moves, exports, imports and erasures of an organisation, newest first."""
    columns = (("ID", "id"), ("KIND", "kind"), ("STATUS", "status"), ("STEP", "step"), ("FAILURE", "failure"))
    cli.show_list(cli.client.tenants.operations(tenant, **cli.page), columns)


@command(GROUP, "confirm", example="tenantry tenant confirm acme opn_01h455vb4pex5vsknk084sn02q")
def confirm(cli: Invocation, tenant: TenantArgument, operation: OperationArgument) -> None:
    """Agree to a move that another administrator has asked for."""
    cli.show(cli.client.tenants.confirm(tenant, operation))


@command(GROUP, "cancel", example="tenantry tenant cancel acme opn_01h455vb4pex5vsknk084sn02q")
def cancel(
    cli: Invocation,
    tenant: TenantArgument,
    operation: OperationArgument,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="until the tenant is as it was")] = False,
) -> None:
    """Call off a move: until the organisation is at its new place, what was done is put back."""
    called_off = cli.client.tenants.cancel(tenant, operation)
    if wait:
        called_off = _followed(cli, tenant, called_off)
    cli.show(called_off)


def _followed(cli: Invocation, tenant: str, operation: TenantOperation) -> TenantOperation:
    """Show each step until the operation has ended, or only waits to remove the old place."""
    told = ""
    while operation["status"] in _OPEN and operation["step"] != "close":
        doing = "putting back" if operation.get("ending") else operation["status"]
        now = f"{doing}: {operation['step']} {operation.get('failure') or ''}".strip()
        if now != told:
            say(now)
            told = now
        time.sleep(_LOOK_SECONDS)
        operation = cli.client.tenants.operation(tenant, operation["id"])
    return operation
