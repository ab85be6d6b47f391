import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import typer

from tenantry import __version__
from tenantry.foundation.errors import Conflict, TenantryError, Unavailable
from tenantry.interfaces.cli.app import build_app

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Run

ROOT = typer.main.get_command(build_app())


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(commands(ROOT))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_teaches_by_an_example_that_parses(path: tuple[str, ...], tenantry: "Run") -> None:
    command = COMMANDS[path]
    assert command.help
    example = command.epilog.splitlines()[-1]
    words = shlex.split(example)
    assert words[: len(path) + 1] == ["tenantry", *path]
    arguments = words[len(path) + 1 :]
    # Files that must be there.
    arguments = [__file__ if word.endswith((".tar", ".key", ".txt", ".json")) else word for word in arguments]
    command.make_context(path[-1], arguments)
    shown = tenantry(*path, "--help")
    assert shown.exit_code == 0
    assert example in shown.stdout


def test_every_command_speaks_json() -> None:
    for path, command in COMMANDS.items():
        assert "output" in {parameter.name for parameter in command.params}, path


def test_the_surface_is_the_one_promised() -> None:
    expected = """
        login, logout, whoami,
        tenant create, tenant list, tenant get, tenant update, tenant suspend, tenant resume, tenant delete,
        tenant restore, tenant apply, tenant reload, tenant schema, tenant init, tenant move, tenant operations,
        tenant confirm, tenant cancel, tenant export, tenant import, tenant certificate, tenant slos, tenant labels,
        tenant quotas, tenant usage,
        workspace create, workspace list, workspace get, workspace update, workspace archive, workspace suspend,
        workspace resume, workspace use, workspace current, workspace slos, workspace labels,
        workspace environment list, workspace environment add, workspace environment remove,
        key create, key list, key rotate, key revoke, certificate register, certificate list,
            certificate revoke, signing-key register, signing-key list, signing-key revoke,
        service-account create, service-account list, service-account disable, service-account enable,
        binding create, binding list, binding delete,
        role create, role list, role get, role update, role delete,
        group create, group list, group delete, group add, group remove, group members,
        grant request, grant list, grant get, grant revoke, grant extend, grant revoke-all,
        approval list, approval get, approval approve, approval reject,
        member list, member disable, member enable, member logins, member logout, explain, permissions,
        identity-provider create, identity-provider list, identity-provider get, identity-provider update,
        identity-provider delete, invitation create, invitation list, invitation revoke,
        limits get, limits set, limits change, limits status, usage metering,
        policy get, policy put, policy promote, policy versions, policy test, policy shadow-diff, policy prove,
            policy exempt, policy exemptions, policy revoke,
        job run, job list, job get, job logs, job cancel, job artifacts, job inputs, job explain, job receipt,
        image list, image import, image pull, image remove, secret set, secret list, secret get, secret delete,
        sandbox create, sandbox ls, sandbox get, sandbox start, sandbox stop, sandbox rm, sandbox extend,
        sandbox snapshot, sandbox fork, sandbox exec, sandbox shell, sandbox files, sandbox cp, sandbox port,
        evidence list, evidence get, evidence export, evidence lock, evidence index, evidence gc, evidence keys,
        evidence verify, evidence schema, evidence hold place, evidence hold list, evidence hold release,
        audit checkpoint, audit consistency, audit export, audit get, audit proof, audit query, audit days, audit day,
        audit roots, audit anchor, audit keys, audit verify, audit forget, audit forgettings,
        audit stream create, audit stream list, audit stream get, audit stream pause, audit stream resume,
        audit stream replay, audit stream update, audit stream remove,
        notification channel create, notification channel list, notification channel test,
        notification channel remove, notification deliveries
    """
    assert {" ".join(path) for path in COMMANDS} == {" ".join(name.split()) for name in expected.split(",")}


def test_help_loads_neither_the_http_library_nor_the_renderer() -> None:
    program = (
        "import sys; from tenantry.interfaces.cli.app import build_app\n"
        "try: build_app()(['--help'], prog_name='tenantry')\n"
        "except SystemExit: pass\n"
        "print({name for name in ('httpx', 'rich', 'asyncio', 'pydantic') if name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
    assert "Exit codes" in done.stdout


def test_the_version_is_told(tenantry: "Run") -> None:
    assert tenantry("--version").stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    ("error", "expected"), [(Conflict("busy", "it runs"), 5), (Unavailable("database_down", "no answer"), 7)]
)
def test_commands_added_by_others_share_exit_codes(error: TenantryError, expected: int) -> None:
    app = build_app()

    @app.command("extra")
    def extra() -> None:
        raise error

    result = typer.testing.CliRunner().invoke(app, ["extra"])
    assert result.exit_code == expected
    assert result.stderr == f"error: {error.code}\n  what:   {error.message}\n"
