from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from tenantry.interfaces.cli.commands import job_run
from tenantry.interfaces.cli.commands.downloads import fetch_artifacts, fetch_inputs
from tenantry.interfaces.cli.commands.job_output import JobOutput
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.output import Format

GROUP = typer.Typer(help="One command in a fresh sandbox.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="id")]
_ARTIFACT_COLUMNS = (("ID", "id"), ("PATH", "path"), ("BYTES", "size_bytes"), ("SHA-256", "sha256"))


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="job")


command(
    GROUP,
    "run",
    options=IN_WORKSPACE,
    passes_arguments=True,
    example="tenantry job run --input app.py --artifact 'outputs/*' --download out -- python3 /inputs/app.py",
)(job_run.run)


@command(GROUP, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry job list --status running")
def list_(
    cli: Invocation, *, status: Annotated[str | None, typer.Option("--status", help="only these")] = None
) -> None:
    """List jobs, the latest first."""
    columns = (
        ("ID", "id"),
        ("STATUS", "status"),
        ("EXIT", "exit_code"),
        ("QUEUED", "queued_at"),
        ("FINISHED", "finished_at"),
        ("LABELS", "labels"),
    )
    cli.show_list(cli.client.jobs.list(cli.workspace, status=status, **cli.page), columns)


@command(GROUP, "get", options=IN_WORKSPACE, example="tenantry job get job_01h455vb4pex5vsknk084sn02q")
def get(cli: Invocation, job: JobArgument) -> None:
    """Show a job's status, exit code and usage."""
    cli.show(cli.client.jobs.get(cli.workspace, job))


@command(GROUP, "logs", options=IN_WORKSPACE, example="tenantry job logs --follow job_01h455vb4pex5vsknk084sn02q")
def logs(
    cli: Invocation,
    job: JobArgument,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="stay until the job ends")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="let the job's control characters reach the terminal")] = False,
) -> None:
    """Print what a job wrote: its stdout to stdout, its stderr to stderr.

    With --output json one object a line.
    """
    output = JobOutput(raw=raw, as_json=cli.output is Format.JSON)
    events = cli.client.jobs.follow(cli.workspace, job) if follow else cli.client.jobs.logs(cli.workspace, job)
    for event in events:
        output.show(event)


@command(GROUP, "cancel", options=IN_WORKSPACE, example="tenantry job cancel job_01h455vb4pex5vsknk084sn02q")
def cancel(cli: Invocation, job: JobArgument) -> None:
    """Stop a job, or take it from the queue."""
    cli.show(cli.client.jobs.cancel(cli.workspace, job), done=f"cancelled {job}")


@command(
    GROUP,
    "artifacts",
    options=IN_WORKSPACE,
    example="tenantry job artifacts job_01h455vb4pex5vsknk084sn02q --only '*.xml' --download results",
)
def artifacts(
    cli: Invocation,
    job: JobArgument,
    *,
    only: Annotated[str, typer.Option("--only", metavar="GLOB", help="paths that match")] = "*",
    download: Annotated[Path | None, typer.Option("--download", metavar="DIR", help="fetch them into DIR")] = None,
) -> None:
    """List the files a job left behind, or fetch them (each is checked against its SHA-256)."""
    found = [each for each in cli.client.jobs.artifacts(cli.workspace, job) if fnmatchcase(each["path"], only)]
    if download is not None:
        fetch_artifacts(cli, job=job, artifacts=found, directory=download)
    cli.show_items(found, _ARTIFACT_COLUMNS)


@command(
    GROUP,
    "inputs",
    options=IN_WORKSPACE,
    example="tenantry job inputs job_01h455vb4pex5vsknk084sn02q --download again",
)
def inputs(
    cli: Invocation,
    job: JobArgument,
    *,
    download: Annotated[Path | None, typer.Option("--download", metavar="DIR", help="fetch them into DIR")] = None,
) -> None:
    """List the files a job was given, or fetch them (each is checked against its SHA-256)."""
    found = list(cli.client.jobs.inputs(cli.workspace, job))
    if download is not None:
        fetch_inputs(cli, job=job, inputs=found, directory=download)
    cli.show_items(found, _ARTIFACT_COLUMNS[1:])


@command(GROUP, "explain", options=IN_WORKSPACE, example="tenantry job explain job_01h455vb4pex5vsknk084sn02q")
def explain(cli: Invocation, job: JobArgument) -> None:
    """Show why a job waits, what goes before it, when it may start, and what would help."""
    cli.show(cli.client.jobs.explain(cli.workspace, job))


@command(GROUP, "receipt", options=IN_WORKSPACE, example="tenantry job receipt job_01h455vb4pex5vsknk084sn02q -o json")
def receipt(cli: Invocation, job: JobArgument) -> None:
    """Show the isolation a job really had, read back from the kernel."""
    cli.show(cli.client.jobs.receipt(cli.workspace, job))
