"""Secrets of a workspace. A value comes from a file, a terminal or standard input, and is never shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.client.secret_types import SecretInjection, SecretUse
from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.secret_input import read_value

GROUP = typer.Typer(help="Named values that jobs are given, and nobody is shown.", no_args_is_help=True)
_ID = "sec_"


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="secret")


@command(GROUP, "set", options=IN_WORKSPACE, example="tenantry secret set API_TOKEN --file token.txt")
def set_(
    cli: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="capitals, digits and _, as of a variable")],
    *,
    file: Annotated[
        Path | None, typer.Option("--file", help="file that is the value, byte for byte", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Write a secret, or another version of it.

    The value is that of --file, else asked for on a terminal, else standard input without the newline at its end; never
    an argument, which every user of this machine could see.
    """
    if not (value := read_value(f"Value of {name}", file)):
        raise BadRequest("value_missing", "no value was given", remedy="--file FILE, or on standard input")
    cli.show(cli.client.secrets.set(cli.workspace, name=name, value=value))


@command(GROUP, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry secret list")
def list_(cli: Invocation) -> None:
    """List secrets, never their values."""
    columns = (("ID", "id"), ("NAME", "name"), ("VERSION", "version"), ("WRITTEN", "updated_at"), ("BY", "created_by"))
    cli.show_list(cli.client.secrets.list(cli.workspace, **cli.page), columns)


@command(GROUP, "get", options=IN_WORKSPACE, example="tenantry secret get API_TOKEN")
def get(cli: Invocation, secret: Annotated[str, typer.Argument(metavar="SECRET", help="name or id")]) -> None:
    """Show a secret's versions, never their values."""
    cli.show(cli.client.secrets.get(cli.workspace, _id_of(cli, secret)))


@command(GROUP, "delete", options=IN_WORKSPACE, example="tenantry secret delete API_TOKEN --yes")
def delete(
    cli: Invocation,
    secret: Annotated[str, typer.Argument(metavar="SECRET", help="name or id")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    if_match: IfMatchOption = None,
) -> None:
    """Remove a secret with all its versions; jobs that wait for it fail when they begin."""
    found = _id_of(cli, secret)
    if not yes:
        typer.confirm(f"Remove secret {secret}?", abort=True, err=True)
    cli.show(cli.client.secrets.delete(cli.workspace, found, if_match=if_match), done=f"removed {secret}")


def uses(
    variables: Sequence[str] | None, files: Sequence[str] | None, injected: Sequence[str] | None = None
) -> list[SecretUse]:
    """Read `NAME[@VERSION][=ENV]`, `NAME[@VERSION][=PATH]` and `NAME[@VERSION]=HOST[,HEADER]`; raises BadRequest."""
    wanted = [_use(text, option="--secret", place="env") for text in variables or ()]
    wanted += [_use(text, option="--secret-file", place="file") for text in files or ()]
    return wanted + [_use(text, option="--inject", place="inject") for text in injected or ()]


def _use(text: str, *, option: str, place: str) -> SecretUse:
    named, _, where = text.partition("=")
    name, joint, version = named.partition("@")
    if not name or (joint and not version.isdecimal()):
        raise BadRequest("secret_malformed", f"{option} takes NAME, with @VERSION and =WHERE behind it if you like")
    use = SecretUse(name=name)
    if version:
        use["version"] = int(version)
    if place == "inject":
        use["inject"] = _injection(where)
    elif place == "file":
        use["file"] = where or name
    elif where:
        use["env"] = where
    return use


def _injection(where: str) -> SecretInjection:
    host, joint, header = where.partition(",")
    if not host or (joint and not header):
        raise BadRequest("secret_malformed", "--inject takes NAME=HOST, with ,HEADER behind it if you like")
    return SecretInjection(host=host, header=header) if header else SecretInjection(host=host)


def _id_of(cli: Invocation, secret: str) -> str:
    """Find the id of a name; raises BadRequest when nothing is called so."""
    if secret.startswith(_ID):
        return secret
    found = next((each["id"] for each in cli.client.secrets.list(cli.workspace) if each["name"] == secret), None)
    if found is None:
        raise BadRequest("secret_unknown", f"there is no secret {secret} in this workspace")
    return found
