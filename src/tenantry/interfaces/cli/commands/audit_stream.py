"""Streams of a tenant's audit events to elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.client.log_types import AuditStream
from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PAGES, Invocation, command
from tenantry.interfaces.cli.output import Format, say
from tenantry.interfaces.cli.secret_input import read_secret

STREAMS = typer.Typer(help="Events sent on as they come: to a webhook, files, or the objects.", no_args_is_help=True)

StreamArgument = Annotated[str, typer.Argument(metavar="STREAM", help="id")]
ActionsOption = Annotated[
    list[str] | None, typer.Option("--action", help="these alone; login. is all of logins; repeat")
]
OutcomesOption = Annotated[list[str] | None, typer.Option("--outcome", help="success, denied or error alone; repeat")]
TypesOption = Annotated[list[str] | None, typer.Option("--resource-type", help="these alone; repeat")]
_ID = "ast_01h455vb4pex5vsknk084sn02q"


@command(
    STREAMS,
    "create",
    example="tenantry audit stream create siem --kind webhook --format ocsf --action login. --address-file address.txt",
)
def create(
    cli: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    kind: Annotated[str, typer.Option("--kind", help="webhook, file or object")],
    form: Annotated[str, typer.Option("--format", help="cloudevents, or ocsf (1.5.0)")] = "cloudevents",
    directory: Annotated[
        str | None, typer.Option("--directory", help="of files: a name in audit.stream_directories")
    ] = None,
    actions: ActionsOption = None,
    outcomes: OutcomesOption = None,
    resource_types: TypesOption = None,
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="begin behind this place, 0: with the first event; else now")
    ] = None,
    address_file: Annotated[
        Path | None, typer.Option("--address-file", help="file that holds a webhook's URL", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Make a stream, and show the secret that signs what a webhook is sent, once.

    Events come at least once, in the order of the sequence; drop by their id what comes twice. A webhook's address is
    read from --address-file, else asked for on a terminal, else read from standard input; never from arguments, which
    every user of this machine could see.
    """
    address = None
    if kind == "webhook" and not (address := read_secret("Address", address_file)):
        raise BadRequest("address_missing", "no address was given", remedy="--address-file FILE, or on standard input")
    stream = cli.client.audit_streams.create(
        name=name,
        kind=kind,
        format=form,
        address=address,
        directory=directory,
        filter=_filter(actions, outcomes, resource_types),
        after=after,
    )
    _show_with_secret(cli, stream)


@command(STREAMS, "update", example=f"tenantry audit stream update {_ID} --action login. --outcome denied")
def update(
    cli: Invocation,
    stream: StreamArgument,
    *,
    name: Annotated[str | None, typer.Option("--name", help="another name")] = None,
    form: Annotated[str | None, typer.Option("--format", help="cloudevents, or ocsf (1.5.0)")] = None,
    actions: ActionsOption = None,
    outcomes: OutcomesOption = None,
    resource_types: TypesOption = None,
    everything: Annotated[bool, typer.Option("--everything", help="send all events on: no filter any more")] = False,
    address_file: Annotated[
        Path | None, typer.Option("--address-file", help="file with a webhook's new URL", exists=True, dir_okay=False)
    ] = None,
    rotate_secret: Annotated[
        bool, typer.Option("--rotate-secret", help="of a webhook: sign by a new one, shown once")
    ] = False,
    if_match: IfMatchOption = None,
) -> None:
    """Change a stream where it is; what is not named stays.

    Of --action, --outcome and --resource-type those given are the whole filter from now on. Its place stays: to send
    again what another filter would have passed, use `replay`.
    """
    wanted = _filter(actions, outcomes, resource_types)
    if everything and wanted:
        raise BadRequest("filter_unclear", "--everything takes no --action, --outcome or --resource-type")
    changes: dict[str, object] = {"name": name, "format": form, "rotate_secret": rotate_secret or None}
    if address_file is not None and not (address := read_secret("Address", address_file)):
        raise BadRequest("address_missing", f"{address_file} is empty")
    if address_file is not None:
        changes["address"] = address
    if everything or wanted:
        changes["filter"] = wanted
    changes = {each: value for each, value in changes.items() if value is not None}
    if not changes:
        raise BadRequest("change_missing", "nothing says what to change", remedy="see --help")
    _show_with_secret(cli, cli.client.audit_streams.update(stream, changes, if_match=if_match))


@command(STREAMS, "list", options=IN_PAGES, example="tenantry audit stream list")
def list_(cli: Invocation) -> None:
    """List streams, never their addresses."""
    columns = (
        ("ID", "id"),
        ("NAME", "name"),
        ("KIND", "kind"),
        ("FORMAT", "format"),
        ("TO", "hint"),
        ("STATUS", "status"),
        ("POSITION", "position"),
        ("ERROR", "last_error"),
    )
    cli.show_list(cli.client.audit_streams.list(**cli.page), columns)


@command(STREAMS, "get", example=f"tenantry audit stream get {_ID}")
def get(cli: Invocation, stream: StreamArgument) -> None:
    """Show where a stream is, how far behind, what has failed, and when it tries again."""
    cli.show(cli.client.audit_streams.get(stream))


@command(STREAMS, "pause", example=f"tenantry audit stream pause {_ID}")
def pause(cli: Invocation, stream: StreamArgument) -> None:
    """Let a stream send nothing more, until it is resumed; its place is kept."""
    cli.show(cli.client.audit_streams.pause(stream))


@command(STREAMS, "resume", example=f"tenantry audit stream resume {_ID}")
def resume(cli: Invocation, stream: StreamArgument) -> None:
    """Go on behind the last event that was confirmed, at once; also instead of waiting for the next attempt."""
    cli.show(cli.client.audit_streams.resume(stream))


@command(STREAMS, "replay", example=f"tenantry audit stream replay {_ID} --after 0")
def replay(
    cli: Invocation,
    stream: StreamArgument,
    *,
    after: Annotated[int, typer.Option("--after", min=0, help="send again what stands behind this place; 0: all")],
) -> None:
    """Send again from behind a place of the sequence."""
    cli.show(cli.client.audit_streams.replay(stream, after=after))


@command(STREAMS, "remove", example=f"tenantry audit stream remove {_ID}")
def remove(cli: Invocation, stream: StreamArgument) -> None:
    """Remove a stream. What it has written stays where it is."""
    cli.show(cli.client.audit_streams.remove(stream), done=f"removed {stream}")


def _filter(
    actions: list[str] | None, outcomes: list[str] | None, resource_types: list[str] | None
) -> dict[str, list[str]]:
    wanted = {"actions": actions, "outcomes": outcomes, "resource_types": resource_types}
    return {each: values for each, values in wanted.items() if values}


def _show_with_secret(cli: Invocation, stream: AuditStream) -> None:
    cli.show(stream)
    if stream.get("secret") and cli.output is Format.TABLE:
        say("keep the secret now: it is not shown again")
