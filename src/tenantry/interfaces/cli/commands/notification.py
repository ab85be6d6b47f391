"""Channels that are told of events: of the chosen workspace, or with `--tenant` of a tenant."""

from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, Invocation, command
from tenantry.interfaces.cli.output import Format, say
from tenantry.interfaces.cli.secret_input import read_secret

GROUP = typer.Typer(help="Who is told what happens.", no_args_is_help=True)
CHANNELS = typer.Typer(help="Webhooks, e-mail and chat services.", no_args_is_help=True)
GROUP.add_typer(CHANNELS, name="channel")

ChannelArgument = Annotated[str, typer.Argument(metavar="CHANNEL", help="id")]


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="notification")


@command(
    CHANNELS,
    "create",
    options=IN_PLACE,
    example="tenantry notification channel create pager --kind webhook --topic 'grant.*' --address-file address.txt",
)
def create(
    cli: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    kind: Annotated[str, typer.Option("--kind", help="webhook, email or apprise")],
    topics: Annotated[list[str], typer.Option("--topic", help="as grant.active, grant.* or *; may be repeated")],
    address_file: Annotated[
        Path | None, typer.Option("--address-file", help="file that holds the address", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Make a channel and show the secret that signs a webhook's deliveries, once.

    The address is read from --address-file, else asked for on a terminal, else read from standard input; never from
    arguments, which every user of this machine could see.
    """
    if not (address := read_secret("Address", address_file)):
        raise BadRequest("address_missing", "no address was given", remedy="--address-file FILE, or on standard input")
    channel = cli.client.notification_channels.create(name=name, kind=kind, address=address, topics=topics, **cli.place)
    cli.show(channel)
    if channel.get("secret") and cli.output is Format.TABLE:
        say("keep the secret now: it is not shown again")


@command(CHANNELS, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry notification channel list --tenant acme")
def list_(cli: Invocation) -> None:
    """List channels, never their addresses."""
    columns = (
        ("ID", "id"),
        ("NAME", "name"),
        ("KIND", "kind"),
        ("TO", "hint"),
        ("TOPICS", "topics"),
        ("STATUS", "status"),
    )
    cli.show_list(cli.client.notification_channels.list(**cli.place, **cli.page), columns)


@command(
    CHANNELS,
    "test",
    options=IN_PLACE,
    example="tenantry notification channel test nch_01h455vb4pex5vsknk084sn02q",
)
def test(cli: Invocation, channel: ChannelArgument) -> None:
    """Have a test notice sent; `notification deliveries` tells how it went."""
    cli.show(cli.client.notification_channels.test(channel, **cli.place))


@command(
    CHANNELS,
    "remove",
    options=IN_PLACE,
    example="tenantry notification channel remove nch_01h455vb4pex5vsknk084sn02q",
)
def remove(cli: Invocation, channel: ChannelArgument) -> None:
    """Remove a channel and its deliveries."""
    cli.show(cli.client.notification_channels.remove(channel, **cli.place), done=f"removed {channel}")


@command(GROUP, "deliveries", options=(*IN_PLACE, *IN_PAGES), example="tenantry notification deliveries --limit 20")
def deliveries(cli: Invocation) -> None:
    """List what was and is to be told, newest first."""
    columns = (
        ("ID", "id"),
        ("TOPIC", "topic"),
        ("CHANNEL", "channel"),
        ("RECIPIENT", "recipient"),
        ("STATUS", "status"),
        ("ATTEMPTS", "attempts"),
        ("ERROR", "last_error"),
    )
    cli.show_list(cli.client.notification_channels.deliveries(**cli.place, **cli.page), columns)
