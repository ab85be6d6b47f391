"""Roles, groups, members, and what somebody may do: in the chosen workspace, or with `--tenant` in a tenant."""

from typing import Annotated

import typer

from tenantry.client.calls import given
from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, IN_WORKSPACE, Invocation, command

ROLES = typer.Typer(help="Named sets of permissions.", no_args_is_help=True)
GROUPS = typer.Typer(help="Principals that share bindings.", no_args_is_help=True)
MEMBERS = typer.Typer(help="Who belongs to a tenant.", no_args_is_help=True)

RoleArgument = Annotated[str, typer.Argument(metavar="ROLE", help="slug")]
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="id")]
MemberArgument = Annotated[str, typer.Argument(metavar="MEMBER", help="id")]
PrincipalArgument = Annotated[str, typer.Argument(metavar="PRINCIPAL", help="id of a user or service account")]
PermissionOption = Annotated[
    list[str] | None, typer.Option("--permission", metavar="RESOURCE:ACTION", help="may be repeated")
]
DescriptionOption = Annotated[str | None, typer.Option("--description")]


def register(app: typer.Typer) -> None:
    app.add_typer(ROLES, name="role")
    app.add_typer(GROUPS, name="group")
    app.add_typer(MEMBERS, name="member")
    command(app, "explain", options=IN_WORKSPACE, example="tenantry explain job:create --environment prod")(explain)
    command(app, "permissions", options=IN_PLACE, example="tenantry permissions --principal svc_01h4")(permissions)


@command(ROLES, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry role list --output json")
def list_roles(cli: Invocation) -> None:
    """List roles, built-in ones and the tenant's own."""
    columns = (("ROLE", "slug"), ("BUILT IN", "built_in"), ("PERMISSIONS", "permissions"))
    cli.show_list(cli.client.roles.list(**cli.place, **cli.page), columns)


@command(
    ROLES,
    "create",
    options=IN_PLACE,
    example="tenantry role create reader --permission job:read --permission sandbox:read",
)
def create_role(
    cli: Invocation, role: RoleArgument, *, held: PermissionOption = None, description: DescriptionOption = None
) -> None:
    """Define a role; nobody defines more than they hold."""
    made = cli.client.roles.create(slug=role, permissions=held or [], description=description, **cli.place)
    cli.show(made)


@command(ROLES, "get", options=IN_PLACE, example="tenantry role get operator")
def get_role(cli: Invocation, role: RoleArgument) -> None:
    """Show a role."""
    cli.show(cli.client.roles.get(role, **cli.place))


@command(ROLES, "update", options=IN_PLACE, example="tenantry role update reader --permission job:read")
def update_role(
    cli: Invocation,
    role: RoleArgument,
    *,
    held: PermissionOption = None,
    description: DescriptionOption = None,
    if_match: IfMatchOption = None,
) -> None:
    """Set what a role holds, for everybody who has it."""
    changes = given(permissions=held, description=description)
    cli.show(cli.client.roles.update(role, changes, if_match=if_match, **cli.place))


@command(ROLES, "delete", options=IN_PLACE, example="tenantry role delete reader")
def delete_role(cli: Invocation, role: RoleArgument) -> None:
    """Delete a role that nobody has."""
    cli.show(cli.client.roles.delete(role, **cli.place), done=f"deleted {role}")


@command(GROUPS, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry group list --tenant acme")
def list_groups(cli: Invocation) -> None:
    """List groups."""
    columns = (("ID", "id"), ("NAME", "name"), ("DESCRIPTION", "description"))
    cli.show_list(cli.client.groups.list(**cli.place, **cli.page), columns)


@command(GROUPS, "create", options=IN_PLACE, example="tenantry group create release-team --tenant acme")
def create_group(
    cli: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    description: DescriptionOption = None,
) -> None:
    """Make an empty group; give it roles with `binding create`."""
    cli.show(cli.client.groups.create(name=name, description=description, **cli.place))


@command(GROUPS, "delete", options=IN_PLACE, example="tenantry group delete grp_01h455vb4pex5vsknk084sn02q")
def delete_group(cli: Invocation, group: GroupArgument) -> None:
    """Delete a group with its bindings."""
    cli.show(cli.client.groups.delete(group, **cli.place), done=f"deleted {group}")


@command(GROUPS, "members", options=(*IN_PLACE, *IN_PAGES), example="tenantry group members grp_01h4 --tenant acme")
def list_group_members(cli: Invocation, group: GroupArgument) -> None:
    """List who is in a group."""
    columns = (("TYPE", "principal.type"), ("PRINCIPAL", "principal.id"), ("ADDED", "added_at"))
    cli.show_list(cli.client.groups.members(group, **cli.place, **cli.page), columns)


@command(GROUPS, "add", options=IN_PLACE, example="tenantry group add grp_01h4 usr_01h4 --tenant acme")
def add_group_member(cli: Invocation, group: GroupArgument, principal: PrincipalArgument) -> None:
    """Let a principal in."""
    cli.show(cli.client.groups.add(group, principal=principal, **cli.place))


@command(GROUPS, "remove", options=IN_PLACE, example="tenantry group remove grp_01h4 usr_01h4 --tenant acme")
def remove_group_member(cli: Invocation, group: GroupArgument, principal: PrincipalArgument) -> None:
    """Take a principal out, everywhere within a second."""
    cli.show(cli.client.groups.remove(group, principal=principal, **cli.place), done=f"removed {principal}")


@command(MEMBERS, "list", options=("tenant", *IN_PAGES), example="tenantry member list --tenant acme")
def list_members(cli: Invocation) -> None:
    """List the users of the tenant, by default the credential's own."""
    columns = (("ID", "id"), ("NAME", "name"), ("EMAIL", "email"), ("STATUS", "status"))
    cli.show_list(cli.client.members.list(tenant=cli.home_tenant, **cli.page), columns)


@command(MEMBERS, "disable", options=("tenant",), example="tenantry member disable usr_01h455vb4pex5vsknk084sn02q")
def disable_member(cli: Invocation, member: MemberArgument) -> None:
    """Refuse a user with every credential of theirs, everywhere within a second."""
    cli.show(cli.client.members.update(member, {"status": "disabled"}, tenant=cli.home_tenant))


@command(MEMBERS, "enable", options=("tenant",), example="tenantry member enable usr_01h455vb4pex5vsknk084sn02q")
def enable_member(cli: Invocation, member: MemberArgument) -> None:
    """Let a disabled user in again."""
    cli.show(cli.client.members.update(member, {"status": "active"}, tenant=cli.home_tenant))


@command(
    MEMBERS, "logins", options=("tenant", *IN_PAGES), example="tenantry member logins usr_01h455vb4pex5vsknk084sn02q"
)
def list_member_logins(cli: Invocation, member: MemberArgument) -> None:
    """List the logins of a user that still hold."""
    columns = (("ID", "id"), ("KIND", "kind"), ("SINCE", "created_at"), ("LAST SEEN", "last_seen_at"))
    cli.show_list(cli.client.logins.list(tenant=cli.home_tenant, member=member, **cli.page), columns)


@command(MEMBERS, "logout", options=("tenant",), example="tenantry member logout usr_01h455vb4pex5vsknk084sn02q")
def log_member_out(
    cli: Invocation,
    member: MemberArgument,
    *,
    login: Annotated[str | None, typer.Option("--login", metavar="LGN", help="this one alone")] = None,
) -> None:
    """End all logins of a user, or one of them, everywhere within a second."""
    if login is not None:
        ended = cli.client.logins.end(login, tenant=cli.home_tenant, member=member)
        cli.show(ended, done=f"ended {login}")
        return
    cli.show(cli.client.logins.end_all(tenant=cli.home_tenant, member=member))


def permissions(
    cli: Invocation,
    *,
    principal: Annotated[str | None, typer.Option("--principal", metavar="ID", help="default: this credential")] = None,
) -> None:
    """List what somebody may do there, and by what."""
    found = cli.client.members.permissions(principal=principal, **cli.place)
    items = [{**item, "when": ""} for item in found["permissions"]]
    items += [{**item, "when": "depends"} for item in found["conditional"]]
    cli.show_items(items, (("PERMISSION", "permission"), ("BY", "by"), ("WHEN", "when"), ("REASON", "reason")))


def explain(
    cli: Invocation,
    permission: Annotated[str, typer.Argument(metavar="RESOURCE:ACTION")],
    *,
    environment: Annotated[str | None, typer.Option("--environment", metavar="SLUG")] = None,
    labels: Annotated[list[str] | None, typer.Option("--label", metavar="NAME=VALUE")] = None,
    principal: Annotated[str | None, typer.Option("--principal", metavar="ID", help="default: this credential")] = None,
) -> None:
    """Say whether something would be allowed, by what, and what is missing; nothing is done."""
    named = dict(label.partition("=")[::2] for label in labels) if labels else None
    more = given(environment=environment, labels=named, principal=principal)
    cli.show(cli.client.explain(permission=permission, workspace=cli.workspace, **more))
