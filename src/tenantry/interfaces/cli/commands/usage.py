"""What was used: in the chosen workspace, or with `--tenant` in a tenant."""

import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, Invocation, command
from tenantry.interfaces.cli.output import say
from tenantry.interfaces.cli.terminal import is_terminal, many_lines, write

GROUP = typer.Typer(help="What was used.", no_args_is_help=True)

_HOURS = (
    ("HOUR", "hour"),
    ("WORKSPACE", "workspace"),
    ("METER", "meter"),
    ("QUANTITY", "quantity"),
    ("UNIT", "unit"),
    ("EVENTS", "events"),
    ("FINISHED", "finished"),
)
_EVENTS = (
    ("WHEN", "occurred_at"),
    ("WORKSPACE", "workspace"),
    ("METER", "meter"),
    ("QUANTITY", "quantity"),
    ("UNIT", "unit"),
    ("SUBJECT", "subject"),
    ("PRINCIPAL", "principal"),
)


class Form(StrEnum):
    CSV = "csv"
    CLOUDEVENTS = "cloudevents"


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="usage")


@command(
    GROUP,
    "metering",
    options=(*IN_PLACE, *IN_PAGES),
    example="tenantry usage metering --tenant acme --since 2030-01-01T00:00:00Z --format csv --to january.csv",
)
def metering(
    cli: Invocation,
    *,
    since: Annotated[str | None, typer.Option("--since", metavar="RFC3339", help="a day ago, unless told")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="RFC3339", help="now, unless told")] = None,
    meter: Annotated[str | None, typer.Option("--meter", help="this one alone: job_cpu_seconds")] = None,
    events: Annotated[bool, typer.Option("--events", help="event by event instead of by hours")] = False,
    form: Annotated[Form | None, typer.Option("--format", help="the whole span: csv, or events as cloudevents")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="file to write, with --format")] = None,
) -> None:
    """Show what was used, by hours or event by event, oldest first; or save the whole span."""
    if to is not None and form is None:
        raise BadRequest("format_missing", "--to goes with --format", remedy="--format csv")
    asked = {"since": since, "until": until, "meter": meter, "granularity": "event" if events else None, **cli.place}
    if form is not None:
        _export(cli, asked, form, to)
    else:
        cli.show_list(cli.client.metering.list(**asked, **cli.page), _EVENTS if events else _HOURS)


def _export(cli: Invocation, asked: dict[str, str | None], form: Form, to: Path | None) -> None:
    if to is not None:
        say(f"{to} ({cli.client.metering.export(to=to, form=form.value, **asked)} bytes)")
        return
    # To standard output only what has arrived whole.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "metering"
        cli.client.metering.export(to=file, form=form.value, **asked)
        text = file.read_bytes().decode()
    write(sys.stdout, many_lines(text) if is_terminal(sys.stdout) else text)
