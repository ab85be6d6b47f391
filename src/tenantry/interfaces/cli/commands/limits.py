"""Limits: rates of requests, quotas, bounds of a job; of the chosen workspace, or with `--tenant` of a tenant."""

import re
from typing import Annotated, Final

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PLACE, Invocation, command
from tenantry.interfaces.cli.output import Format

GROUP = typer.Typer(help="How much of what may be used, and how many requests.", no_args_is_help=True)

_RATE: Final = re.compile(r"([a-z._]+)=(\d{1,15})/(\d{1,10})(ms|s|m|h|d)(?:,burst=(\d{1,15}))?")
_NUMBER: Final = re.compile(r"\d{1,16}(\.\d{1,6})?")
_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="limits")


@command(GROUP, "get", options=IN_PLACE, example="tenantry limits get --tenant acme")
def get_limits(cli: Invocation) -> None:
    """Show each limit as it holds there, which layer it comes from, and what the workspace or tenant sets itself."""
    found = cli.client.limits.get(**cli.place)
    rows = [
        {
            "name": name,
            "value": "unlimited" if (value := found.get(name)) is None else value,
            "layer": source["layer"] or "",
            "own": found["own"].get(name, ""),
        }
        for name, source in sorted(found.get("sources", {}).items())
    ]
    if cli.output is Format.JSON:
        cli.show(found)
    else:
        cli.show_items(rows, (("LIMIT", "name"), ("VALUE", "value"), ("BY", "layer"), ("OWN", "own")))


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


@command(
    GROUP,
    "change",
    options=IN_PLACE,
    example="tenantry limits change max_concurrent_jobs=5 daily_job_limit=none --on-limit reject",
)
def change_limits(
    cli: Invocation,
    *,
    numbers: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=NUMBER", help="`none` for the number: not set here any more")
    ] = None,
    on_limit: Annotated[
        str | None, typer.Option(metavar="reject|queue", help="what becomes of one job too many, in a workspace")
    ] = None,
    if_match: IfMatchOption = None,
) -> None:
    """Change the named limits of the workspace or tenant; they can only narrow what the layers above allow."""
    wanted: dict[str, float | str | None] = dict(_number_of(text) for text in numbers or [])
    if on_limit is not None:
        wanted["on_limit"] = on_limit
    cli.show(cli.client.limits.change(wanted, if_match=if_match, **cli.place))


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


def _number_of(text: str) -> tuple[str, float | None]:
    name, joint, number = text.partition("=")
    if not name or not joint or not (number == "none" or _NUMBER.fullmatch(number)):
        raise BadRequest("limit_unreadable", f"{text!r} is no limit", remedy="as max_concurrent_jobs=5 or …=none")
    if number == "none":
        return name, None
    return name, float(number) if "." in number else int(number)


def _rate_of(text: str) -> tuple[str, dict[str, int]]:
    found = _RATE.fullmatch(text)
    if found is None:
        raise BadRequest("rate_unreadable", f"{text!r} is no rate", remedy="as api_requests=100/1m or …=10/1s,burst=5")
    name, requests, number, unit, burst = found.groups()
    rate = {"max_requests": int(requests), "window_ms": int(number) * _UNITS_MS[unit]}
    return name, rate | ({"burst": int(burst)} if burst else {})
