"""Just-in-time grants and approvals of the chosen workspace."""

from typing import Annotated

import typer

from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command

GRANTS = typer.Typer(help="Roles for a bounded time.", no_args_is_help=True)
APPROVALS = typer.Typer(help="Decisions that people owe.", no_args_is_help=True)

_GRANT = "jit_01h455vb4pex5vsknk084sn02q"
_APPROVAL = "apr_01h455vb4pex5vsknk084sn02q"
GrantArgument = Annotated[str, typer.Argument(metavar="GRANT", help="id")]
ApprovalArgument = Annotated[str, typer.Argument(metavar="APPROVAL", help="id")]
PrincipalOption = Annotated[str | None, typer.Option("--principal")]
StatusOption = Annotated[str | None, typer.Option("--status")]
CommentOption = Annotated[str | None, typer.Option("--comment", help="kept as long as the workspace keeps content")]


def register(app: typer.Typer) -> None:
    app.add_typer(GRANTS, name="grant")
    app.add_typer(APPROVALS, name="approval")


@command(
    GRANTS,
    "request",
    options=IN_WORKSPACE,
    example="tenantry grant request deployer --provider gcp --minutes 60 --reason 'roll back the release'",
)
def request_grant(
    cli: Invocation,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="slug; at a provider viewer, deployer or admin")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="why; it stays in the history")],
    minutes: Annotated[int | None, typer.Option("--minutes", help="from the approval on; 60 unless told")] = None,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="gcp, aws, azure, …")] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="give it to another at once, as an administrator")
    ] = None,
) -> None:
    """Ask for a role for a bounded time; others approve it."""
    grant = cli.client.grants.request(
        cli.workspace, role=role, reason=reason, minutes=minutes, provider=provider, principal=principal
    )
    cli.show(grant)


@command(GRANTS, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry grant list --status active")
def list_grants(
    cli: Invocation,
    *,
    status: StatusOption = None,
    principal: Annotated[str | None, typer.Option("--principal")] = None,
) -> None:
    """List grants, newest first; those that ended stay."""
    columns = (
        ("ID", "id"),
        ("STATUS", "status"),
        ("PRINCIPAL", "principal.id"),
        ("ROLE", "role"),
        ("PROVIDER", "provider"),
        ("EXPIRES", "expires_at"),
        ("APPROVAL", "approval"),
    )
    found = cli.client.grants.list(cli.workspace, status=status, principal=principal, **cli.page)
    cli.show_list(found, columns)


@command(GRANTS, "get", options=IN_WORKSPACE, example=f"tenantry grant get {_GRANT}")
def get_grant(cli: Invocation, grant: GrantArgument) -> None:
    """Show one, whatever became of it."""
    cli.show(cli.client.grants.get(cli.workspace, grant))


@command(GRANTS, "extend", options=IN_WORKSPACE, example=f"tenantry grant extend {_GRANT} --minutes 30")
def extend_grant(
    cli: Invocation, grant: GrantArgument, *, minutes: Annotated[int, typer.Option("--minutes", help="so many more")]
) -> None:
    """Ask for more time; others approve it."""
    cli.show(cli.client.grants.extend(cli.workspace, grant, minutes=minutes))


@command(GRANTS, "revoke", options=IN_WORKSPACE, example=f"tenantry grant revoke {_GRANT} --reason done")
def revoke_grant(
    cli: Invocation, grant: GrantArgument, *, reason: Annotated[str | None, typer.Option("--reason")] = None
) -> None:
    """End a grant, or withdraw what asks for one, everywhere within a second."""
    cli.show(cli.client.grants.revoke(cli.workspace, grant, reason=reason))


@command(GRANTS, "revoke-all", options=IN_WORKSPACE, example="tenantry grant revoke-all usr_01h455vb4pex5vsknk084sn02q")
def revoke_all_grants(
    cli: Invocation, principal: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="id")]
) -> None:
    """End all grants of a principal in the workspace."""
    ended = cli.client.grants.revoke_all(cli.workspace, principal=principal)
    cli.show_items(ended["items"], (("ID", "id"), ("STATUS", "status"), ("ROLE", "role")))


@command(APPROVALS, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry approval list --status pending")
def list_approvals(cli: Invocation, *, status: StatusOption = None) -> None:
    """List approvals, newest first."""
    columns = (
        ("ID", "id"),
        ("STATUS", "status"),
        ("SUMMARY", "summary"),
        ("BY", "requested_by"),
        ("APPROVED", "approved"),
        ("NEEDED", "needed"),
        ("EXPIRES", "expires_at"),
    )
    cli.show_list(cli.client.approvals.list(cli.workspace, status=status, **cli.page), columns)


@command(APPROVALS, "get", options=IN_WORKSPACE, example=f"tenantry approval get {_APPROVAL}")
def get_approval(cli: Invocation, approval: ApprovalArgument) -> None:
    """Show one with its votes."""
    cli.show(cli.client.approvals.get(cli.workspace, approval))


@command(APPROVALS, "approve", options=IN_WORKSPACE, example=f"tenantry approval approve {_APPROVAL} --minutes 30")
def approve(
    cli: Invocation,
    approval: ApprovalArgument,
    *,
    comment: CommentOption = None,
    minutes: Annotated[int | None, typer.Option("--minutes", help="shorter than what is asked for")] = None,
) -> None:
    """Approve what its digest says; never one's own."""
    cli.show(cli.client.approvals.approve(cli.workspace, approval, comment=comment, minutes=minutes))


@command(APPROVALS, "reject", options=IN_WORKSPACE, example=f"tenantry approval reject {_APPROVAL} --comment 'not now'")
def reject(cli: Invocation, approval: ApprovalArgument, *, comment: CommentOption = None) -> None:
    """Reject: one is enough."""
    cli.show(cli.client.approvals.reject(cli.workspace, approval, comment=comment))
