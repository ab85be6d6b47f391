from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from textwrap import dedent
from typing import Any

import typer
from scripts.reference.markdown import code, page, table

from tenantry.entrypoints.cli import app
from tenantry.interfaces.cli import exits

_INTRODUCTION = """
`tenantry [OPTIONS] COMMAND`. Standard output carries the result alone: a table on a terminal, tab-separated lines when
piped, the API's own answer with `--output json`. Everything else goes to standard error.
"""


def render() -> str:
    root: Any = typer.main.get_command(app)
    sections = [_section(path, command) for path, command in _walk(root, ("tenantry",))]
    options = table(["Option", "Meaning"], _options(root))
    _, listed, told = (exits.__doc__ or "").split("\n\n")
    return page(
        "Command line",
        _INTRODUCTION,
        "## Options before the command",
        options,
        "## Exit codes",
        f"```text\n{dedent(listed)}\n```\n\n{told}",
        *sections,
    )


def _walk(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in sorted(group.commands):
        command = group.commands[name]
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield (*path, name), command
            yield from _walk(command, (*path, name))
        else:
            yield (*path, name), command


def _section(path: tuple[str, ...], command: Any) -> str:
    told = (command.help or "").replace("\b", "").strip()
    if hasattr(command, "commands"):
        return f"## `{' '.join(path)}`\n\n{told}"
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join([*path, "[OPTIONS]", *(_argument(each) for each in arguments)])
    example = (command.epilog or "").partition("\b\n")[2].strip()
    rows = [*_arguments(arguments), *_options(command)]
    level = "##" if len(path) == len(("tenantry", "command")) else "###"
    parts = [f"{level} `{' '.join(path)}`", told, f"    {usage}", table(["Argument", "Meaning"], rows)]
    if example:
        parts.append(f"Example: `{example}`")
    return "\n\n".join(parts)


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    name = name if parameter.nargs == 1 or name.endswith("…") else f"{name}…"
    return name if parameter.required else f"[{name.strip('[]')}]"


def _arguments(parameters: list[Any]) -> list[list[str]]:
    return [[code(_argument(each)), _help(each)] for each in parameters]


def _options(command: Any) -> list[list[str]]:
    return [
        [_spelling(each), _help(each)]
        for each in command.params
        if each.param_type_name == "option" and not each.hidden and each.name not in _COMPLETION
    ]


_COMPLETION = {"install_completion", "show_completion"}


_KINDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def _spelling(parameter: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return code(names)
    annotation = parameter.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        kind = "|".join(str(choice.value) for choice in annotation)
    else:
        kind = _KINDS.get(annotation, "TEXT")
    more = "…" if parameter.multiple else ""
    return code(f"{names} {parameter.metavar or kind}{more}")


def _help(parameter: Any) -> str:
    told = [parameter.help or ""]
    if parameter.required:
        told.append("required")
    elif isinstance(parameter.default, str | int | float) and not isinstance(parameter.default, bool):
        value = getattr(parameter.default, "value", parameter.default)
        told.append(f"default `{value}`")
    return "; ".join(text for text in told if text)
