from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.client.types import Owner
from tenantry.interfaces.cli.commands import declared, moves, offboarding
from tenantry.interfaces.cli.commands.assignments import nested
from tenantry.interfaces.cli.invocation import IN_PAGES, Invocation, command
from tenantry.interfaces.cli.output import Format, say

GROUP = typer.Typer(help="Organisations on this installation.", no_args_is_help=True)
GROUP.add_typer(declared.GROUP)
GROUP.add_typer(moves.GROUP)
GROUP.add_typer(offboarding.GROUP)

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="id or slug")]
ReasonOption = Annotated[str, typer.Option("--reason", help="why; kept in the audit trail")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="a member to change; dots go down a level, values may be JSON"),
]
IfMatchOption = Annotated[
    str | None, typer.Option("--if-match", metavar="ETAG", help="only if it is this version; else the one it is now")
]


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="tenant")


@command(
    GROUP,
    "create",
    example="tenantry tenant create acme --name 'Acme Inc.' --plan starter --region eu --owner-email ada@acme.example",
)
def create(
    cli: Invocation,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="2 to 40 of a-z, 0-9 and -")],
    *,
    plan: Annotated[str, typer.Option("--plan", help="free, starter, professional, enterprise or your own")],
    region: Annotated[str, typer.Option("--region", help="where its content stays: us, eu, …")],
    owner_email: Annotated[str, typer.Option("--owner-email")],
    owner_name: Annotated[str | None, typer.Option("--owner-name", help="default: the e-mail address")] = None,
    name: Annotated[str | None, typer.Option("--name", help="default: the slug")] = None,
    more: SetOption = None,
) -> None:
    """Create an organisation; shows its owner's first key, once."""
    owner = Owner(email=owner_email, name=owner_name or owner_email)
    fields = nested(more, option="--set")
    if clash := {"name", "slug", "plan", "region", "owner"} & fields.keys():
        raise BadRequest("assignment_repeated", f"--set cannot name {', '.join(sorted(clash))}: these have options")
    tenant = cli.client.tenants.create(name=name or slug, slug=slug, plan=plan, region=region, owner=owner, **fields)
    cli.show(tenant)
    if "bootstrap_key" in tenant and cli.output is Format.TABLE:
        say("keep bootstrap_key.secret now: it is not shown again")


@command(GROUP, "list", options=IN_PAGES, example="tenantry tenant list --limit 0")
def list_(cli: Invocation) -> None:
    """List organisations."""
    columns = (("ID", "id"), ("SLUG", "slug"), ("STATUS", "status"), ("REGION", "region"), ("ISOLATION", "isolation"))
    cli.show_list(cli.client.tenants.list(**cli.page), columns)


@command(GROUP, "get", example="tenantry tenant get acme")
def get(cli: Invocation, tenant: TenantArgument) -> None:
    """Show one organisation."""
    cli.show(cli.client.tenants.get(tenant))


@command(
    GROUP, "update", example="tenantry tenant update acme --set plan=professional --set settings.retention_days=30"
)
def update(
    cli: Invocation, tenant: TenantArgument, *, changes: SetOption = None, if_match: IfMatchOption = None
) -> None:
    """Change some of its members."""
    fields = nested(changes, option="--set")
    if not fields:
        raise BadRequest("nothing_to_change", "nothing to change was named", remedy="--set NAME=VALUE")
    version = if_match or cli.client.tenants.etag(tenant)
    cli.show(cli.client.tenants.update(tenant, fields, if_match=version))


@command(GROUP, "suspend", example="tenantry tenant suspend acme --reason 'unpaid since May'")
def suspend(cli: Invocation, tenant: TenantArgument, *, reason: ReasonOption) -> None:
    """Refuse its requests and stop what it runs."""
    cli.show(cli.client.tenants.suspend(tenant, reason=reason))


@command(GROUP, "resume", example="tenantry tenant resume acme")
def resume(cli: Invocation, tenant: TenantArgument) -> None:
    """Let a suspended organisation work again."""
    cli.show(cli.client.tenants.resume(tenant))


@command(GROUP, "delete", example="tenantry tenant delete acme --yes")
def delete(
    cli: Invocation,
    tenant: TenantArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    if_match: IfMatchOption = None,
) -> None:
    """Delete an organisation: its erasure is scheduled, `restore` takes it back until then."""
    if not yes:
        typer.confirm(f"Delete tenant {tenant} with everything in it?", abort=True, err=True)
    version = if_match or cli.client.tenants.etag(tenant)
    cli.show(cli.client.tenants.delete(tenant, if_match=version), done=f"deleted {tenant}")


@command(GROUP, "restore", example="tenantry tenant restore acme")
def restore(cli: Invocation, tenant: TenantArgument) -> None:
    """Take a deletion back before the erasure."""
    cli.show(cli.client.tenants.restore(tenant))
