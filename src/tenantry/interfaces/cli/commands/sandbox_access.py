"""What one does in a running sandbox, among the commands of its life."""

import typer

from tenantry.interfaces.cli.commands import sandbox_exec, sandbox_files, sandbox_port
from tenantry.interfaces.cli.invocation import IN_WORKSPACE, command


def add_to(group: typer.Typer) -> None:
    """Add them once."""
    if any(each.name == "exec" for each in group.registered_commands):
        return
    taking, plain = {"passes_arguments": True}, {"passes_arguments": False}
    for name, act, example, options in (
        ("exec", sandbox_exec.run, "tenantry sandbox exec dev -- make test", taking),
        ("shell", sandbox_exec.shell, "tenantry sandbox shell dev", taking),
        ("files", sandbox_files.files, "tenantry sandbox files dev src", plain),
        ("cp", sandbox_files.copy, "tenantry sandbox cp ./src dev:/src", plain),
        ("port", sandbox_port.port, "tenantry sandbox port dev 8080 --local 3000", plain),
    ):
        command(group, name, example=example, options=IN_WORKSPACE, **options)(act)
