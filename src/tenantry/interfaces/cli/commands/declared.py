"""Tenants declared in files: `tenant apply`, `reload`, `schema`, `init`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.credentials import home_directory
from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.exits import Exit
from tenantry.interfaces.cli.invocation import Invocation, command
from tenantry.interfaces.cli.output import Format, say, show_json
from tenantry.interfaces.cli.terminal import is_terminal, write

GROUP = typer.Typer()
_CHANGES_AHEAD = 2
"""`--dry-run`: there is something to change, as `terraform plan -detailed-exitcode` has it."""


@command(GROUP, "apply", example="tenantry tenant apply tenants --dry-run")
def apply(
    cli: Invocation,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="one YAML file a tenant; default: tenants in TENANTRY_HOME")
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only show; exit code 0: nothing to change, 2: something, 1: a fault")
    ] = False,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="for the owners' first keys; default: bootstrap-keys in the home"),
    ] = None,
) -> None:
    """Show what differs from the files, then change it. Never deletes; what a file does not name stays as it is.

    A file that breaks a rule is skipped and told by line and field; the others count. Exit code 1 then.
    """
    from tenantry.capabilities.tenants.service.declared import KEY_FOLDER, TenantFolder
    from tenantry.foundation.clock import SystemClock
    from tenantry.interfaces.cli.declarations import carry_out, compared, summary, told

    folder = directory or home_directory() / "tenants"
    if not folder.is_dir():
        raise BadRequest("directory_missing", f"{folder} is no directory", remedy="tenantry tenant init DIR")
    comparison = compared(cli.client, TenantFolder(folder, private=False, clock=SystemClock()).load())
    if cli.output is Format.TABLE:
        write(sys.stdout, told(comparison))
    asks = not dry_run and comparison.changes
    if asks and not yes:
        _confirm(len(comparison.changes))
    results = carry_out(cli.client, comparison, keys=keys or home_directory() / KEY_FOLDER, tell=say) if asks else []
    if cli.output is Format.JSON:
        show_json(summary(comparison, results, dry_run=dry_run))
    if comparison.skipped or any(not each.done for each in results):
        raise typer.Exit(Exit.OTHER)
    if dry_run and comparison.changes:
        raise typer.Exit(_CHANGES_AHEAD)


def _confirm(count: int) -> None:
    if not is_terminal(sys.stdin):
        raise BadRequest("confirmation_missing", "nobody is here to ask", remedy="--yes, or --dry-run to only look")
    typer.confirm(f"Change {count} {'tenant' if count == 1 else 'tenants'}?", abort=True, err=True)


@command(GROUP, "reload", example="tenantry tenant reload")
def reload(cli: Invocation) -> None:
    """Have the server read its own directory of declared tenants anew."""
    found = cli.client.tenants.reload()
    if cli.output is Format.JSON:
        cli.show(found)
        return
    for each in found["changed"]:
        verb = "applied" if each["applied"] else "differs"
        say(f"{verb}: {each['file']}: {each['tenant']}: {each['action']} {', '.join(each['fields'])}")
    for each in found["skipped"]:
        say(f"skipped: {each['file']}:{each['line']}: {each['field']}: {each['rule']}")
    changed, skipped = len(found["changed"]), len(found["skipped"])
    say(f"{found['loaded']} loaded, {changed} changed, {skipped} skipped (mode {found['mode']})")


@command(GROUP, "schema", example="tenantry tenant schema")
def schema(_cli: Invocation) -> None:
    """Print the JSON Schema of a declared tenant, for editors and for checks elsewhere."""
    from tenantry.capabilities.tenants.service.declared import schema_text

    write(sys.stdout, schema_text())


@command(GROUP, "init", example="tenantry tenant init tenants")
def init(cli: Invocation, directory: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Write the schema and two examples there; rename an example to `NAME.yaml` to declare a tenant."""
    from tenantry.capabilities.tenants.service.declared import examples, schema_text

    # Under names that declare nothing: no example becomes a tenant by lying there.
    files = {f"{name}.example": text for name, text in examples().items()} | {"tenant.schema.json": schema_text()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (directory / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise BadRequest("file_unwritable", f"{error.filename}: {error.strerror}") from error
    if cli.output is Format.JSON:
        cli.show({"directory": str(directory), "files": sorted(files)})
    say(f"wrote {', '.join(sorted(files))} to {directory}")
