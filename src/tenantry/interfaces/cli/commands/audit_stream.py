"""Streams of a tenant's audit events to elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.invocation import IN_PAGES, Invocation, command
from tenantry.interfaces.cli.output import Format, say
from tenantry.interfaces.cli.secret_input import read_secret

STREAMS = typer.Typer(help="Events sent on as they come: to a webhook, files, or the objects.", no_args_is_help=True)

StreamArgument = Annotated[str, typer.Argument(metavar="STREAM", help="id")]
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
    actions: Annotated[
        list[str] | None, typer.Option("--action", help="these alone; login. is all of logins; repeat")
    ] = None,
    outcomes: Annotated[
        list[str] | None, typer.Option("--outcome", help="success, denied or error alone; repeat")
    ] = None,
    resource_types: Annotated[list[str] | None, typer.Option("--resource-type", help="these alone; repeat")] = None,
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
    wanted = {"actions": actions, "outcomes": outcomes, "resource_types": resource_types}
    stream = cli.client.audit_streams.create(
        name=name,
        kind=kind,
        format=form,
        address=address,
        directory=directory,
        filter={each: values for each, values in wanted.items() if values},
        after=after,
    )
    cli.show(stream)
    if stream.get("secret") and cli.output is Format.TABLE:
        say("keep the secret now: it is not shown again")


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
