"""Sandboxes that live until they are stopped."""

from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.commands import sandbox_access
from tenantry.interfaces.cli.commands.assignments import pairs
from tenantry.interfaces.cli.commands.job_phases import connection
from tenantry.interfaces.cli.commands.job_run import Connect, SecretFiles, SecretVariables
from tenantry.interfaces.cli.commands.secret import uses
from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command

GROUP = typer.Typer(help="Places to run commands in, alive until they are stopped.", no_args_is_help=True)
SandboxArgument = Annotated[str, typer.Argument(metavar="SANDBOX", help="name or id")]
WaitOption = Annotated[float, typer.Option("--wait", help="seconds to wait until it runs, or has stopped")]
_ID = "sbx_"
_SNAPSHOT = "snp_"


def register(app: typer.Typer) -> None:
    sandbox_access.add_to(GROUP)
    app.add_typer(GROUP, name="sandbox")


@command(GROUP, "create", options=IN_WORKSPACE, example="tenantry sandbox create dev --ttl 3600 --wait 30")
def create(
    cli: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="lower-case letters, digits and hyphens")],
    *,
    image: Annotated[str, typer.Option("--image", help="image to start from")] = "host",
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE")] = None,
    labels: Annotated[list[str] | None, typer.Option("--label", metavar="NAME=VALUE")] = None,
    connect: Connect = None,
    secrets: SecretVariables = None,
    secret_files: SecretFiles = None,
    cpus: Annotated[float | None, typer.Option("--cpus")] = None,
    memory_mib: Annotated[int | None, typer.Option("--memory-mib", min=1, help="its files included")] = None,
    ttl: Annotated[int | None, typer.Option("--ttl", help="seconds it lives from a start on")] = None,
    idle: Annotated[int | None, typer.Option("--idle", help="seconds without traffic that end it; 0: never")] = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="whether it starts at once")] = True,
    wait: WaitOption = 0,
) -> None:
    """Make a sandbox, and start it."""
    limits = {key: value for key, value in (("cpus", cpus), ("memory_mib", memory_mib)) if value is not None}
    made = cli.client.sandboxes.create(
        cli.workspace,
        name=name,
        image=image,
        env=pairs(env, option="--env") or None,
        labels=pairs(labels, option="--label") or None,
        network=[connection(text) for text in connect or ()] or None,
        secrets=uses(secrets, secret_files) or None,
        limits=limits or None,
        ttl_seconds=ttl,
        idle_seconds=idle,
        start=start,
        wait_seconds=wait or None,
    )
    cli.show(made)


@command(GROUP, "ls", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry sandbox ls")
def list_(cli: Invocation) -> None:
    """List sandboxes, the latest first."""
    columns = (
        ("ID", "id"),
        ("NAME", "name"),
        ("STATUS", "status"),
        ("REASON", "reason"),
        ("EXPIRES", "expires_at"),
        ("LABELS", "labels"),
    )
    cli.show_list(cli.client.sandboxes.list(cli.workspace, **cli.page), columns)


@command(GROUP, "get", options=IN_WORKSPACE, example="tenantry sandbox get dev")
def get(cli: Invocation, sandbox: SandboxArgument) -> None:
    """Show a sandbox: how it stands, until when it lives, what is kept of it."""
    cli.show(cli.client.sandboxes.get(cli.workspace, id_of(cli, sandbox)))


@command(GROUP, "start", options=IN_WORKSPACE, example="tenantry sandbox start dev --wait 30")
def start_(cli: Invocation, sandbox: SandboxArgument, *, wait: WaitOption = 0) -> None:
    """Start a stopped sandbox, with the files that its stop has kept."""
    cli.show(cli.client.sandboxes.start(cli.workspace, id_of(cli, sandbox), wait_seconds=wait or None))


@command(GROUP, "stop", options=IN_WORKSPACE, example="tenantry sandbox stop dev --wait 30")
def stop(cli: Invocation, sandbox: SandboxArgument, *, wait: WaitOption = 0) -> None:
    """Stop a sandbox; files_kept says whether its files are kept."""
    cli.show(cli.client.sandboxes.stop(cli.workspace, id_of(cli, sandbox), wait_seconds=wait or None))


@command(GROUP, "rm", options=IN_WORKSPACE, example="tenantry sandbox rm dev --yes")
def remove(
    cli: Invocation,
    sandbox: SandboxArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    if_match: IfMatchOption = None,
) -> None:
    """Delete a sandbox, with its kept files and its snapshots."""
    found = id_of(cli, sandbox)
    if not yes:
        typer.confirm(f"Delete sandbox {sandbox} with everything that is kept of it?", abort=True, err=True)
    cli.show(cli.client.sandboxes.delete(cli.workspace, found, if_match=if_match), done=f"deleted {sandbox}")


@command(GROUP, "extend", options=IN_WORKSPACE, example="tenantry sandbox extend dev --seconds 1800")
def extend(
    cli: Invocation,
    sandbox: SandboxArgument,
    *,
    seconds: Annotated[int | None, typer.Option("--seconds", help="from now on; its ttl, unless told")] = None,
) -> None:
    """Let a running sandbox live longer."""
    cli.show(cli.client.sandboxes.extend(cli.workspace, id_of(cli, sandbox), seconds=seconds))


@command(GROUP, "snapshot", options=IN_WORKSPACE, example="tenantry sandbox snapshot dev before-upgrade")
def snapshot(
    cli: Invocation,
    sandbox: SandboxArgument,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="under which its files are kept")] = None,
    *,
    delete: Annotated[str | None, typer.Option("--delete", help="snapshot to delete, by name or id")] = None,
) -> None:
    """Keep the files of a sandbox under a name; without a name list what is kept."""
    found = id_of(cli, sandbox)
    if delete is not None:
        gone = _snapshot_of(cli, found, delete)
        cli.show(cli.client.sandboxes.delete_snapshot(cli.workspace, found, gone), done=f"deleted {delete}")
    elif name is not None:
        cli.show(cli.client.sandboxes.snapshot(cli.workspace, found, name=name))
    else:
        columns = (("ID", "id"), ("NAME", "name"), ("BYTES", "size_bytes"), ("FILES", "files"), ("AT", "created_at"))
        cli.show_list(cli.client.sandboxes.snapshots(cli.workspace, found), columns)


@command(GROUP, "fork", options=IN_WORKSPACE, example="tenantry sandbox fork dev try --snapshot before-upgrade")
def fork(
    cli: Invocation,
    sandbox: SandboxArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the new one")],
    *,
    from_snapshot: Annotated[str | None, typer.Option("--snapshot", help="name or id; else its files now")] = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="whether it starts at once")] = True,
    wait: WaitOption = 0,
) -> None:
    """Make another sandbox like one, from a snapshot or from its files as they are."""
    found = id_of(cli, sandbox)
    made = cli.client.sandboxes.fork(
        cli.workspace,
        found,
        name=name,
        snapshot=_snapshot_of(cli, found, from_snapshot) if from_snapshot else None,
        start=start,
        wait_seconds=wait or None,
    )
    cli.show(made)


def id_of(cli: Invocation, sandbox: str) -> str:
    """Find the id of a name; raises BadRequest when nothing is called so."""
    if sandbox.startswith(_ID):
        return sandbox
    found = next((each["id"] for each in cli.client.sandboxes.list(cli.workspace) if each["name"] == sandbox), None)
    if found is None:
        raise BadRequest("sandbox_unknown", f"there is no sandbox {sandbox} in this workspace")
    return found


def _snapshot_of(cli: Invocation, sandbox: str, snapshot: str) -> str:
    if snapshot.startswith(_SNAPSHOT):
        return snapshot
    kept = cli.client.sandboxes.snapshots(cli.workspace, sandbox)
    found = next((each["id"] for each in kept if each["name"] == snapshot), None)
    if found is None:
        raise BadRequest("snapshot_unknown", f"there is no snapshot {snapshot} of this sandbox")
    return found
