"""Keys, service accounts, roles, bindings and members: in the chosen workspace, or with `--tenant` in a tenant."""

from typing import Annotated

import typer

from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.output import Format, say

KEYS = typer.Typer(help="API keys.", no_args_is_help=True)
SERVICE_ACCOUNTS = typer.Typer(help="Principals that are programs.", no_args_is_help=True)
ROLES = typer.Typer(help="Named sets of permissions.", no_args_is_help=True)
BINDINGS = typer.Typer(help="Who has which role.", no_args_is_help=True)
MEMBERS = typer.Typer(help="Who belongs to a workspace or tenant.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(KEYS, name="key")
    app.add_typer(SERVICE_ACCOUNTS, name="service-account")
    app.add_typer(ROLES, name="role")
    app.add_typer(BINDINGS, name="binding")
    app.add_typer(MEMBERS, name="member")


@command(
    KEYS, "create", options=IN_PLACE, example="tenantry key create build --role ci --expires-at 2030-01-01T00:00:00Z"
)
def create_key(
    cli: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    roles: Annotated[list[str], typer.Option("--role", help="slug; may be repeated")],
    permissions: Annotated[list[str] | None, typer.Option("--permission", help="narrow the roles to these")] = None,
    expires_at: Annotated[str | None, typer.Option("--expires-at", metavar="RFC3339")] = None,
    service_account: Annotated[str | None, typer.Option("--service-account", metavar="SVC")] = None,
    networks: Annotated[list[str] | None, typer.Option("--allow-network", metavar="CIDR")] = None,
) -> None:
    """Create a key and show its secret, once."""
    key = cli.client.keys.create(
        name=name,
        roles=roles,
        permissions=permissions,
        expires_at=expires_at,
        service_account=service_account,
        allowed_networks=networks,
        **cli.place,
    )
    cli.show(key)
    if "secret" not in key:
        # A repeated request is answered again without secrets.
        say(f"the answer with the secret was lost on its way: revoke {key.get('id')} and create another")
    elif cli.output is Format.TABLE:
        say("keep the secret now: it is not shown again")


@command(KEYS, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry key list --tenant acme")
def list_keys(cli: Invocation) -> None:
    """List keys, never their secrets."""
    columns = (("ID", "id"), ("NAME", "name"), ("STATUS", "status"), ("ROLES", "roles"), ("EXPIRES", "expires_at"))
    cli.show_list(cli.client.keys.list(**cli.place, **cli.page), columns)


@command(KEYS, "revoke", options=IN_PLACE, example="tenantry key revoke key_01h455vb4pex5vsknk084sn02q")
def revoke_key(cli: Invocation, key: Annotated[str, typer.Argument(metavar="KEY", help="id, not the secret")]) -> None:
    """Make a key useless at once and for good."""
    cli.show(cli.client.keys.revoke(key, **cli.place), done=f"revoked {key}")


@command(SERVICE_ACCOUNTS, "create", options=IN_WORKSPACE, example="tenantry service-account create deploy-bot")
def create_service_account(cli: Invocation, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Create a service account; give it a key with `key create --service-account`."""
    cli.show(cli.client.service_accounts.create(name=name, workspace=cli.workspace))


@command(SERVICE_ACCOUNTS, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry service-account list")
def list_service_accounts(cli: Invocation) -> None:
    """List service accounts."""
    columns = (("ID", "id"), ("NAME", "name"), ("STATUS", "status"))
    cli.show_list(cli.client.service_accounts.list(workspace=cli.workspace, **cli.page), columns)


@command(ROLES, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry role list --output json")
def list_roles(cli: Invocation) -> None:
    """List roles, built-in ones and the tenant's own."""
    columns = (("ROLE", "slug"), ("NAME", "name"), ("PERMISSIONS", "permissions"))
    cli.show_list(cli.client.roles.list(**cli.place, **cli.page), columns)


@command(
    BINDINGS, "create", options=IN_PLACE, example="tenantry binding create usr_01h455vb4pex5vsknk084sn02q operator"
)
def create_binding(
    cli: Invocation,
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="id of a user or service account")],
    role: Annotated[str, typer.Argument(metavar="ROLE", help="slug")],
) -> None:
    """Give a principal a role."""
    cli.show(cli.client.bindings.create(principal=principal, role=role, **cli.place))


@command(BINDINGS, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry binding list --tenant acme")
def list_bindings(cli: Invocation) -> None:
    """List who has which role."""
    columns = (("ID", "id"), ("TYPE", "principal.type"), ("PRINCIPAL", "principal.id"), ("ROLE", "role"))
    cli.show_list(cli.client.bindings.list(**cli.place, **cli.page), columns)


@command(BINDINGS, "delete", options=IN_PLACE, example="tenantry binding delete bnd_01h455vb4pex5vsknk084sn02q")
def delete_binding(cli: Invocation, binding: Annotated[str, typer.Argument(metavar="BINDING", help="id")]) -> None:
    """Take a role back."""
    cli.show(cli.client.bindings.delete(binding, **cli.place), done=f"deleted {binding}")


@command(MEMBERS, "list", options=("tenant", *IN_PAGES), example="tenantry member list --tenant acme")
def list_members(cli: Invocation) -> None:
    """List the users of the tenant, by default the credential's own."""
    columns = (("ID", "id"), ("NAME", "name"), ("EMAIL", "email"), ("STATUS", "status"))
    tenant = cli.tenant or cli.client.me()["tenant"]["id"]
    cli.show_list(cli.client.members.list(tenant=tenant, **cli.page), columns)
