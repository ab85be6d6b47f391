from typing import Annotated

import typer

from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, Invocation, command

GROUP = typer.Typer(help="Who did what, and with which outcome.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="audit")


@command(
    GROUP,
    "query",
    options=(*IN_PLACE, *IN_PAGES),
    example="tenantry audit query --outcome denied --since 2030-01-01T00:00:00Z --limit 0",
)
def query(
    cli: Invocation,
    *,
    actor: Annotated[str | None, typer.Option("--actor", help="id of who acted")] = None,
    action: Annotated[str | None, typer.Option("--action", help="a prefix: job. finds all of jobs")] = None,
    resource: Annotated[str | None, typer.Option("--resource", help="id or type of what it was done to")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="success, denied or error")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="RFC3339")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="RFC3339")] = None,
) -> None:
    """Search the audit trail of the tenant, or with --workspace of one workspace."""
    columns = (
        ("WHEN", "occurred_at"),
        ("ACTOR", "actor.id"),
        ("ACTION", "action"),
        ("TYPE", "resource.type"),
        ("RESOURCE", "resource.id"),
        ("OUTCOME", "outcome"),
        ("REASON", "reason"),
    )
    events = cli.client.audit.query(
        actor=actor,
        action=action,
        resource=resource,
        outcome=outcome,
        since=since,
        until=until,
        workspace=cli.workspace_id(cli.named_workspace) if cli.named_workspace else None,
        tenant=cli.tenant,
        **cli.page,
    )
    cli.show_list(events, columns)
