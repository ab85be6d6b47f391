from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.choices import store_workspace
from tenantry.interfaces.cli.commands import environment
from tenantry.interfaces.cli.commands.assignments import nested
from tenantry.interfaces.cli.commands.tenant import IfMatchOption, ReasonOption, SetOption
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.output import Format, say

_USER_PREFIX = "usr_"
GROUP = typer.Typer(help="Where work happens inside a tenant.", no_args_is_help=True)

WorkspaceArgument = Annotated[str, typer.Argument(metavar="WS", help="id, name or path")]
OfTenantOption = Annotated[str | None, typer.Option("--tenant", help="id or slug; default: the credential's")]


def register(app: typer.Typer) -> None:
    GROUP.add_typer(environment.GROUP, name="environment")
    app.add_typer(GROUP, name="workspace")


@command(GROUP, "create", example="tenantry workspace create ci --path teams/core/test --setting retention_days=7")
def create(
    cli: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    tenant: OfTenantOption = None,
    path: Annotated[str | None, typer.Option("--path", help="its address, such as teams/core/test")] = None,
    region: Annotated[str | None, typer.Option("--region", help="the tenant's; any other is refused")] = None,
    owner: Annotated[
        str | None,
        typer.Option("--owner", metavar="TYPE:ID", help="user, team or ai-agent; default: whose the path is, else you"),
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--setting", metavar="NAME=VALUE")] = None,
) -> None:
    """Create a workspace."""
    workspace = cli.client.workspaces.create(
        name=name,
        tenant=tenant,
        path=path,
        region=region,
        owner=_owner(owner) if owner else None if path else _self(cli),
        settings=nested(settings, option="--setting") or None,
    )
    cli.show(workspace)


def _self(cli: Invocation) -> dict[str, str] | None:
    """Who is logged in, where that is a user; for a program the server says what it needs."""
    principal = cli.client.me().get("principal", {})
    for name in ("acts_for", "id"):
        if str(principal.get(name, "")).startswith(_USER_PREFIX):
            return {"type": "user", "id": principal[name]}
    return None


def _owner(text: str) -> dict[str, str]:
    kind, separator, identity = text.partition(":")
    if not separator or not identity:
        raise BadRequest("owner_malformed", "--owner takes TYPE:ID, such as team:core")
    return {"type": kind, "id": identity}


@command(GROUP, "list", options=IN_PAGES, example="tenantry workspace list")
def list_(cli: Invocation, *, tenant: OfTenantOption = None) -> None:
    """List workspaces."""
    columns = (("ID", "id"), ("NAME", "name"), ("PATH", "path"), ("STATUS", "status"), ("REGION", "region"))
    cli.show_list(cli.client.workspaces.list(tenant=tenant, **cli.page), columns)


@command(GROUP, "get", example="tenantry workspace get teams/core/test")
def get(cli: Invocation, workspace: WorkspaceArgument) -> None:
    """Show one workspace."""
    cli.show(cli.client.workspaces.get(cli.workspace_id(workspace)))


@command(GROUP, "update", example="tenantry workspace update ci --set settings.persistence_mode=full")
def update(
    cli: Invocation, workspace: WorkspaceArgument, *, changes: SetOption = None, if_match: IfMatchOption = None
) -> None:
    """Change some of its members."""
    fields = nested(changes, option="--set")
    if not fields:
        raise BadRequest("nothing_to_change", "nothing to change was named", remedy="--set NAME=VALUE")
    identity = cli.workspace_id(workspace)
    version = if_match or cli.client.workspaces.etag(identity)
    cli.show(cli.client.workspaces.update(identity, fields, if_match=version))


@command(GROUP, "archive", example="tenantry workspace archive ci --yes")
def archive(
    cli: Invocation,
    workspace: WorkspaceArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    if_match: IfMatchOption = None,
) -> None:
    """End a workspace; its records stay."""
    identity = cli.workspace_id(workspace)
    if not yes:
        typer.confirm(f"Archive workspace {workspace}?", abort=True, err=True)
    version = if_match or cli.client.workspaces.etag(identity)
    cli.show(cli.client.workspaces.archive(identity, if_match=version), done=f"archived {identity}")


@command(GROUP, "suspend", example="tenantry workspace suspend ci --reason 'key leaked'")
def suspend(cli: Invocation, workspace: WorkspaceArgument, *, reason: ReasonOption) -> None:
    """Refuse its requests and stop what it runs."""
    cli.show(cli.client.workspaces.suspend(cli.workspace_id(workspace), reason=reason))


@command(GROUP, "resume", example="tenantry workspace resume ci")
def resume(cli: Invocation, workspace: WorkspaceArgument) -> None:
    """Let a suspended workspace work again."""
    cli.show(cli.client.workspaces.resume(cli.workspace_id(workspace)))


@command(GROUP, "use", example="tenantry workspace use ci")
def use(cli: Invocation, workspace: WorkspaceArgument) -> None:
    """Choose the workspace of later commands, for the server logged in at."""
    chosen = cli.client.workspaces.get(cli.workspace_id(workspace))
    store_workspace(url=cli.client.transport.url, workspace=chosen["id"])
    if cli.output is Format.JSON:
        cli.show(chosen)
    say(f"using {chosen['id']} {chosen.get('name', '')}")


@command(GROUP, "current", options=IN_WORKSPACE, example="tenantry workspace current")
def current(cli: Invocation) -> None:
    """Show the workspace that commands work in, and what says so."""
    workspace = cli.client.workspaces.get(cli.workspace)
    if cli.output is Format.JSON:
        cli.show({**workspace, "chosen_by": cli.chosen_by})
        return
    cli.show(workspace)
    say(f"chosen by {cli.chosen_by}")
