"""`job run`: as if the command ran here."""

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import ApiError, BadAnswer, BadRequest, ConnectionFailed
from tenantry.client.logs import JobEnd
from tenantry.client.resources.jobs import job_input
from tenantry.client.types import Job, JobInput, JobLimits
from tenantry.interfaces.cli.commands.assignments import pairs
from tenantry.interfaces.cli.commands.downloads import fetch_artifacts
from tenantry.interfaces.cli.commands.job_output import JobOutput
from tenantry.interfaces.cli.commands.job_phases import programs
from tenantry.interfaces.cli.commands.secret import uses
from tenantry.interfaces.cli.exits import exit_for_job
from tenantry.interfaces.cli.invocation import Invocation
from tenantry.interfaces.cli.output import Format, say
from tenantry.interfaces.cli.terminal import is_terminal, one_line

_GONE = 410
_ENDED = frozenset({"succeeded", "failed", "cancelled", "timed_out", "denied"})


Words = Annotated[list[str] | None, typer.Argument(metavar="CMD", help="the command and its arguments, after --")]
InputPaths = Annotated[
    list[str] | None, typer.Option("--input", metavar="PATH[:NAME]", help="a file the job finds as /inputs/NAME")
]
Download = Annotated[
    Path | None, typer.Option("--download", metavar="DIR", help="fetch the artifacts into DIR at the end")
]
SecretVariables = Annotated[
    list[str] | None, typer.Option("--secret", metavar="NAME[@VERSION][=ENV]", help="a secret as a variable")
]
SecretFiles = Annotated[
    list[str] | None,
    typer.Option("--secret-file", metavar="NAME[@VERSION][=PATH]", help="a secret as /run/secrets/PATH"),
]
Injections = Annotated[
    list[str] | None,
    typer.Option(
        "--inject",
        metavar="NAME[@VERSION]=HOST[,HEADER]",
        help="a secret that requests to HOST have, and the job itself only a placeholder for",
    ),
]
Connect = Annotated[
    list[str] | None,
    typer.Option("--connect", metavar="HOST:PORT", help="what it may connect to, where a network policy allows it"),
]

Fetch = Annotated[
    str | None,
    typer.Option("--fetch", metavar="CMD", help="a shell command that fetches into /workspace before, without secrets"),
]
FetchConnect = Annotated[
    list[str] | None,
    typer.Option("--fetch-connect", metavar="HOST:PORT", help="what --fetch may connect to"),
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="print the job and leave it running")]
Raw = Annotated[bool, typer.Option("--raw", help="let the job's control characters reach the terminal")]
Phases = Annotated[
    Path | None,
    typer.Option("--phases", metavar="FILE", help="fetch, run and publish, each with its command, as YAML"),
]


def run(
    cli: Invocation,
    words: Words = None,
    *,
    image: Annotated[str, typer.Option("--image", help="what the sandbox starts from")] = "host",
    inputs: InputPaths = None,
    artifacts: Annotated[list[str] | None, typer.Option("--artifact", metavar="GLOB", help="files to keep")] = None,
    download: Download = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE")] = None,
    secrets: SecretVariables = None,
    secret_files: SecretFiles = None,
    inject: Injections = None,
    cpus: Annotated[float | None, typer.Option("--cpus")] = None,
    memory_mib: Annotated[int | None, typer.Option("--memory-mib", min=1)] = None,
    pids: Annotated[int | None, typer.Option("--pids", min=1, help="processes and threads at once")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="SECONDS")] = None,
    labels: Annotated[list[str] | None, typer.Option("--label", metavar="NAME=VALUE")] = None,
    connect: Connect = None,
    fetch: Fetch = None,
    fetch_connect: FetchConnect = None,
    phases: Phases = None,
    detach: Detach = False,
    raw: Raw = False,
) -> None:
    """Run a command in a fresh sandbox: its output streams here, its exit code is ours.

    With --fetch or --phases several, one after the other, each in its own; /workspace goes along.
    124 tells that it timed out, 130 that it was cancelled; an interrupt here cancels it. With --output json standard
    output is the job at its end, and what the job wrote goes to standard error.
    """
    if detach and download is not None:
        raise BadRequest("options_conflict", "--download waits for the end, --detach does not")
    job = cli.client.jobs.create(
        cli.workspace,
        image=image,
        inputs=[_input(text) for text in inputs or ()] or None,
        artifacts=artifacts,
        limits=_limits(cpus=cpus, memory_mib=memory_mib, pids=pids, timeout_seconds=timeout),
        labels=pairs(labels, option="--label") or None,
        **programs(
            words,
            file=phases,
            fetch=fetch,
            fetch_connect=fetch_connect,
            env=pairs(env, option="--env"),
            secrets=uses(secrets, secret_files, inject),
            connect=connect,
        ),
    )
    _stay(cli, job, detach=detach, raw=raw, download=download)


def _stay(cli: Invocation, created: Job, *, detach: bool, raw: bool, download: Path | None) -> None:
    """Show what it says, fetch what it leaves, and end as it does; or leave it running."""
    if detach:
        cli.show(created)
        return
    job = created["id"]
    end = _watch(cli, job, JobOutput(raw=raw, to_stderr=cli.output is Format.JSON))
    if download is not None:
        fetch_artifacts(cli, job=job, artifacts=list(cli.client.jobs.artifacts(cli.workspace, job)), directory=download)
    if cli.output is Format.JSON:
        cli.show(cli.client.jobs.get(cli.workspace, job))
    raise typer.Exit(exit_for_job(status=end.status, exit_code=end.exit_code))


def _watch(cli: Invocation, job: str, output: JobOutput) -> JobEnd:
    """Show the output until the end; an interrupt cancels the job on its way out."""
    try:
        with _terminated_as_interrupted():
            end = _follow(cli, job, output)
    except KeyboardInterrupt:
        say(f"cancelling {job}")
        cli.client.jobs.cancel(cli.workspace, job)
        raise
    except ConnectionFailed:
        say(f"{job} goes on without us: tenantry job logs --follow {job}")
        raise
    if is_terminal(sys.stderr):
        say(f"{job} {end.status}")
    return end


def _follow(cli: Invocation, job: str, output: JobOutput) -> JobEnd:
    events = cli.client.jobs.follow(cli.workspace, job)
    try:
        with closing(events), _spinner(f"{job} waits for its turn") as stop_spinner:
            for event in events:
                stop_spinner()
                if isinstance(event, JobEnd):
                    return event
                output.show(event)
    except ApiError as error:
        if error.status != _GONE:
            raise
        say(f"what {job} wrote is no longer kept: {error.detail}")
    return _end_of(cli.client.jobs.get(cli.workspace, job))


def _end_of(job: Job) -> JobEnd:
    """Where the stream did not tell; raises BadAnswer for a job that still runs."""
    if job["status"] not in _ENDED:
        raise BadAnswer("log_ended_early", f"the log of {job['id']} ended and the job is {job['status']}")
    return JobEnd(status=job["status"], exit_code=job.get("exit_code"))


@contextmanager
def _terminated_as_interrupted() -> Generator[None]:
    """CI systems end a step with SIGTERM; the job should end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _spinner(text: str) -> Generator[Callable[[], None]]:
    """On a terminal until the function it gives is called."""
    if not is_terminal(sys.stderr):
        yield lambda: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(one_line(text))) as status:
        yield status.stop


def _input(text: str) -> JobInput:
    """Read `PATH[:NAME]`; a path that holds a colon and exists is a path."""
    path, name = Path(text), ""
    if not path.is_file():
        before, _, name = text.rpartition(":")
        path = Path(before)
    if not path.is_file():
        raise BadRequest("input_unreadable", f"--input {text} is no file", remedy="PATH or PATH:NAME")
    return job_input(path=name or path.name, content=path.read_bytes())


def _limits(
    *, cpus: float | None, memory_mib: int | None, pids: int | None, timeout_seconds: float | None
) -> JobLimits | None:
    limits = JobLimits()
    if cpus is not None:
        limits["cpus"] = cpus
    if memory_mib is not None:
        limits["memory_mib"] = memory_mib
    if pids is not None:
        limits["pids"] = pids
    if timeout_seconds is not None:
        limits["timeout_seconds"] = timeout_seconds
    return limits or None
