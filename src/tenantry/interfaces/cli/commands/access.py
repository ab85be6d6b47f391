"""Keys, service accounts and bindings: in the chosen workspace, or with `--tenant` in a tenant."""

from typing import Annotated

import typer

from tenantry.client.access_types import Key
from tenantry.client.calls import given
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.output import Format, say

KEYS = typer.Typer(help="API keys.", no_args_is_help=True)
SERVICE_ACCOUNTS = typer.Typer(help="Principals that are programs.", no_args_is_help=True)
BINDINGS = typer.Typer(help="Who has which role.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(KEYS, name="key")
    app.add_typer(SERVICE_ACCOUNTS, name="service-account")
    app.add_typer(BINDINGS, name="binding")


@command(KEYS, "create", options=IN_PLACE, example="tenantry key create build --role ci --allow-network 203.0.113.0/24")
def create_key(
    cli: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    roles: Annotated[list[str] | None, typer.Option("--role", help="slug; may be repeated")] = None,
    permissions: Annotated[
        list[str] | None, typer.Option("--permission", help="besides the roles; may be repeated")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", metavar="RFC3339", help="default: after identity.key_days")
    ] = None,
    service_account: Annotated[str | None, typer.Option("--service-account", metavar="SVC")] = None,
    networks: Annotated[list[str] | None, typer.Option("--allow-network", metavar="CIDR")] = None,
    delegated: Annotated[
        bool, typer.Option("--delegated", help="for an agent: never more than you may do, at any moment")
    ] = False,
) -> None:
    """Create a key and show its secret, once."""
    key = cli.client.keys.create(
        name=name,
        roles=roles or [],
        permissions=permissions,
        expires_at=expires_at,
        service_account=service_account,
        allowed_networks=networks,
        delegated=delegated or None,
        **cli.place,
    )
    _show_secret(cli, key)


@command(KEYS, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry key list --tenant acme")
def list_keys(cli: Invocation) -> None:
    """List keys, never their secrets."""
    columns = (("ID", "id"), ("NAME", "name"), ("STATUS", "status"), ("ROLES", "roles"), ("EXPIRES", "expires_at"))
    cli.show_list(cli.client.keys.list(**cli.place, **cli.page), columns)


@command(
    KEYS, "rotate", options=IN_PLACE, example="tenantry key rotate key_01h455vb4pex5vsknk084sn02q --grace-hours 48"
)
def rotate_key(
    cli: Invocation,
    key: Annotated[str, typer.Argument(metavar="KEY", help="id, not the secret")],
    *,
    grace_hours: Annotated[int, typer.Option("--grace-hours", min=24, max=48, help="how long the old one works")] = 24,
) -> None:
    """Replace a key by a new one that may do the same, and show its secret, once."""
    _show_secret(cli, cli.client.keys.rotate(key, grace_hours=grace_hours, **cli.place))


def _show_secret(cli: Invocation, key: Key) -> None:
    cli.show(key)
    if "secret" not in key:
        # A repeated request is answered again without secrets.
        say(f"the answer with the secret was lost on its way: revoke {key.get('id')} and create another")
    elif cli.output is Format.TABLE:
        say("keep the secret now: it is not shown again")


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


@command(SERVICE_ACCOUNTS, "disable", options=IN_WORKSPACE, example="tenantry service-account disable svc_01h455vb4pex")
def disable_service_account(cli: Invocation, account: Annotated[str, typer.Argument(metavar="SVC")]) -> None:
    """Refuse a service account with all it proves itself by, everywhere within a second."""
    cli.show(cli.client.service_accounts.update(account, {"status": "disabled"}, workspace=cli.workspace))


@command(SERVICE_ACCOUNTS, "enable", options=IN_WORKSPACE, example="tenantry service-account enable svc_01h455vb4pex")
def enable_service_account(cli: Invocation, account: Annotated[str, typer.Argument(metavar="SVC")]) -> None:
    """Let a disabled service account in again."""
    cli.show(cli.client.service_accounts.update(account, {"status": "active"}, workspace=cli.workspace))


@command(
    BINDINGS, "create", options=IN_PLACE, example="tenantry binding create usr_01h455vb4pex5vsknk084sn02q operator"
)
def create_binding(
    cli: Invocation,
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="id of a user, service account or group")],
    role: Annotated[str, typer.Argument(metavar="ROLE", help="slug")],
    *,
    deny: Annotated[bool, typer.Option("--deny", help="deny what the role holds, whatever else allows it")] = False,
    environments: Annotated[
        list[str] | None, typer.Option("--environment", metavar="SLUG", help="only there; may be repeated")
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="only for things with it; repeatable")
    ] = None,
    paths: Annotated[
        list[str] | None, typer.Option("--path", help="only below this beginning of a workspace's path; repeatable")
    ] = None,
) -> None:
    """Give a principal or group a role, or deny it."""
    condition = given(environments=environments, labels=_values_of(labels), paths=paths)
    binding = cli.client.bindings.create(
        principal=principal, role=role, effect="deny" if deny else None, condition=condition or None, **cli.place
    )
    cli.show(binding)


def _values_of(labels: list[str] | None) -> dict[str, list[str]] | None:
    """Collect the values of each label; raises BadParameter for one without `=`."""
    values: dict[str, list[str]] = {}
    for label in labels or ():
        name, equals, value = label.partition("=")
        if not equals:
            raise typer.BadParameter(f"{label!r} is not NAME=VALUE", param_hint="--label")
        values.setdefault(name, []).append(value)
    return values or None


@command(BINDINGS, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry binding list --tenant acme")
def list_bindings(cli: Invocation) -> None:
    """List who has which role."""
    columns = (
        ("ID", "id"),
        ("TYPE", "principal.type"),
        ("PRINCIPAL", "principal.id"),
        ("EFFECT", "effect"),
        ("ROLE", "role"),
        ("CONDITION", "condition"),
    )
    cli.show_list(cli.client.bindings.list(**cli.place, **cli.page), columns)


@command(BINDINGS, "delete", options=IN_PLACE, example="tenantry binding delete bnd_01h455vb4pex5vsknk084sn02q")
def delete_binding(cli: Invocation, binding: Annotated[str, typer.Argument(metavar="BINDING", help="id")]) -> None:
    """Take a role back, or lift a denial."""
    cli.show(cli.client.bindings.delete(binding, **cli.place), done=f"deleted {binding}")
