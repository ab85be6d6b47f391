from pathlib import Path
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


@command(GROUP, "checkpoint", example="tenantry audit checkpoint --to acme.checkpoint")
def checkpoint(
    cli: Invocation,
    *,
    to: Annotated[Path | None, typer.Option("--to", help="write the signed note to this file, to be kept")] = None,
) -> None:
    """Show the newest signed checkpoint of the log: whoever keeps one sees later whether the log begins with it."""
    found = cli.client.audit.checkpoint()
    if to is not None:
        to.write_text(found["note"], encoding="utf-8")
    cli.show({name: found[name] for name in ("origin", "size", "root", "made_at")} | {"note": found["note"]})


@command(GROUP, "proof", example="tenantry audit proof evt_01hq2m8x3v4w5y6z7a8b9c0d1e")
def proof(cli: Invocation, event: Annotated[str, typer.Argument(metavar="EVENT", help="id of an event")]) -> None:
    """Prove that an event is in the log: its leaf, and the path from there to a signed checkpoint (RFC 9162)."""
    cli.show(cli.client.audit.proof(event))
