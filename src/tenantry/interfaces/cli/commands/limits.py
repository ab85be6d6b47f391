"""Rates of requests: in the chosen workspace, or with `--tenant` in a tenant."""

import re
from typing import Annotated, Final

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PLACE, Invocation, command

GROUP = typer.Typer(help="How many requests, and what is left of them.", no_args_is_help=True)

_RATE: Final = re.compile(r"([a-z._]+)=(\d{1,15})/(\d{1,10})(ms|s|m|h|d)(?:,burst=(\d{1,15}))?")
_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="limits")


@command(GROUP, "get", options=IN_PLACE, example="tenantry limits get --tenant acme")
def get_limits(cli: Invocation) -> None:
    """Show what the workspace or tenant sets for itself."""
    cli.show(cli.client.limits.get(**cli.place))


@command(
    GROUP,
    "set",
    options=IN_PLACE,
    example="tenantry limits set --rate api_requests=100/1m --rate principal.api_requests=10/1s,burst=5",
)
def set_limits(
    cli: Invocation,
    *,
    rates: Annotated[
        list[str] | None,
        typer.Option("--rate", metavar="NAME=N/TIME[,burst=N]", help="may be repeated; none: nothing is set any more"),
    ] = None,
    if_match: IfMatchOption = None,
) -> None:
    """Replace what the workspace or tenant sets; it can only narrow what the layers above allow."""
    wanted = dict(_rate_of(text) for text in rates or [])
    cli.show(cli.client.limits.replace(wanted, if_match=if_match, **cli.place))


@command(GROUP, "status", options=IN_PLACE, example="tenantry limits status --output json")
def show_standing(cli: Invocation) -> None:
    """Show each rate that holds there, which layer gave it, and what is left of it for this credential."""
    columns = (
        ("RATE", "name"),
        ("REQUESTS", "max_requests"),
        ("WINDOW MS", "window_ms"),
        ("BURST", "burst"),
        ("BY", "layer"),
        ("LEFT", "remaining"),
    )
    cli.show_items(cli.client.limits.standing(**cli.place)["rates"], columns)


def _rate_of(text: str) -> tuple[str, dict[str, int]]:
    found = _RATE.fullmatch(text)
    if found is None:
        raise BadRequest("rate_unreadable", f"{text!r} is no rate", remedy="as api_requests=100/1m or …=10/1s,burst=5")
    name, requests, number, unit, burst = found.groups()
    rate = {"max_requests": int(requests), "window_ms": int(number) * _UNITS_MS[unit]}
    return name, rate | ({"burst": int(burst)} if burst else {})
