"""The command `tenantry`: what talks to a server (interfaces/cli), and the processes themselves."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tenantry.interfaces.cli.app import build_app
from tenantry.interfaces.cli.commands.audit import GROUP as AUDIT
from tenantry.interfaces.cli.invocation import Invocation, command
from tenantry.interfaces.cli.output import Format, say, show_json

Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="where state lives: else TENANTRY_HOME, /var/lib/tenantry, ~/.tenantry"),
]
Port = Annotated[int | None, typer.Option("--port", min=0, max=65535, help="TCP port; 0 takes a free one")]

app = build_app()


@command(app, "up", example="tenantry up --detach --port 8000")
def up(
    _cli: Invocation,
    *,
    detach: Annotated[bool, typer.Option("--detach", help="return once it is ready")] = False,
    port: Port = None,
    home: Home = None,
) -> None:
    """Start everything: PostgreSQL, the server, a worker for each region."""
    from tenantry.client.credentials import load
    from tenantry.entrypoints.embedded import CREDENTIALS
    from tenantry.entrypoints.servers import server_command, start_detached

    folder = _home(home)
    if detach:
        known = (folder / CREDENTIALS).exists()
        server, said = start_detached(folder, port=port)
        if not known:
            say(f"platform key (shown once): {load(home=folder).key}")
        for line in said.splitlines():
            if not line.startswith("{"):
                say(line)
        say(f"ready on {server.url} (pid {server.pid})")
        return
    sys.stdout.flush()
    # The server takes this process over: what the command line needed does not stay in its memory.
    os.execv(sys.executable, server_command(folder, port))  # noqa: S606 - our own module, no shell


@command(app, "down", example="tenantry down")
def down(_cli: Invocation, *, home: Home = None) -> None:
    """Stop what `up` started; running jobs are cancelled and say so."""
    from tenantry.entrypoints.servers import stop

    server = stop(_home(home))
    say(f"stopped {server.url} (pid {server.pid})")


@command(app, "worker", example="tenantry worker --region eu")
def worker(
    _cli: Invocation,
    *,
    region: Annotated[str, typer.Option("--region", help="the one cell it serves")],
    home: Home = None,
) -> None:
    """Run one more worker for a region, in the foreground."""
    arguments = [sys.executable, "-m", "tenantry.entrypoints.worker", str(_home(home)), region]
    os.execv(sys.executable, arguments)  # noqa: S606 - our own module, no shell


@command(app, "doctor", example="tenantry doctor --output json")
def doctor(cli: Invocation, *, home: Home = None) -> None:
    """Say what this machine offers, what it lacks, and what mends it. Exit code 1 when the server could not start."""
    import asyncio

    from tenantry.entrypoints.doctor import examine
    from tenantry.foundation.settings import load_settings

    report = asyncio.run(examine(load_settings(home=_home(home))))
    if cli.output is Format.JSON:
        show_json(report)
    else:
        for check in report["checks"]:
            mark = "ok  " if check["ok"] else "FAIL" if check["fault"] else "weak"
            remedy = "" if check["ok"] else f": {check['remedy']}"
            typer.echo(f"{mark}  {check['code']}  {check['detail']}{remedy}")
        versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        typer.echo(f"{versions}; home {report['home']}")
    if not report["healthy"]:
        raise typer.Exit(1)


@command(app, "selftest", example="tenantry selftest --output json | jq '.results[] | select(.verdict == \"open\")'")
def selftest(
    cli: Invocation,
    *,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="jail, docker or gvisor, not sandboxes.backend", show_default=False),
    ] = None,
    home: Home = None,
) -> None:
    """Try to break out of a sandbox and through the fence of this very installation, and say what held.

    Hundreds of cases in a few seconds: each with its group, its verdict (held, OPEN, or skipped where this machine
    lacks what it needs), what was expected and what was met. Nothing that runs is disturbed. Exit code 1 when a case
    is open. docs/reference/escape-suite.md lists them.
    """
    import asyncio

    from tenantry.entrypoints.selftest import run, summary

    if backend not in (None, "jail", "docker", "gvisor"):
        raise typer.BadParameter("jail, docker or gvisor", param_hint="--backend")
    results = asyncio.run(run(_home(home), backend=backend))
    counts = summary(results)
    if cli.output is Format.JSON:
        show_json({"results": results, "summary": counts, "held": not counts["open"]})
    else:
        for one in results:
            mark = "OPEN" if one["verdict"] == "open" else one["verdict"]
            met = f"  ({one['detail']})" if one["detail"] else ""
            typer.echo(f"{mark:7}  {one['group']}  {one['case']}  expected: {one['expected']}{met}")
        typer.echo(f"{len(results)} cases: " + ", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    if counts["open"]:
        raise typer.Exit(1)


@command(AUDIT, "rotate-key", example="tenantry audit rotate-key --region eu")
def rotate_log_key(
    cli: Invocation,
    *,
    region: Annotated[str, typer.Option("--region", help="whose checkpoints it signs from now on")],
    home: Home = None,
) -> None:
    """Make a new key for the checkpoints of a region, on a machine whose home has its keys; servers take it at once.

    What the one before has signed still verifies. Its last minute begins.
    """
    from tenantry.entrypoints.addresses import addresses_of
    from tenantry.entrypoints.trails import make_notaries
    from tenantry.foundation.clock import SystemClock
    from tenantry.foundation.secrets import load_secrets
    from tenantry.foundation.settings import load_settings

    settings = load_settings(home=_home(home))
    cells = addresses_of(settings, secrets := load_secrets(settings.home)).cells
    if region not in cells:
        raise typer.BadParameter(f"one of {', '.join(cells)}", param_hint="--region")
    notary = make_notaries([region], settings=settings, secrets=secrets, clock=(clock := SystemClock()))[region]
    notary.keys.rotate(region, now=clock.now())
    made = notary.verifier_keys()[-1]
    cli.show({"key": str(made), "valid_from": made.valid_from.isoformat() if made.valid_from else None})


@command(app, "demo", example="tenantry demo --exit")
def demo(
    _cli: Invocation,
    *,
    leave: Annotated[bool, typer.Option("--exit", help="stop at the end, else it is left running")] = False,
    port: Port = None,
    home: Home = None,
) -> None:
    """Play the scenes: two tenants, real jobs, a fence that holds."""
    from tenantry.entrypoints.demo import play

    raise typer.Exit(play(home=_home(home), port=port, leave=leave))


def _home(named: Path | None) -> Path:
    from tenantry.client.credentials import home_directory

    return (named or home_directory()).expanduser().absolute()


def main() -> None:
    app()


if __name__ == "__main__":
    main()
