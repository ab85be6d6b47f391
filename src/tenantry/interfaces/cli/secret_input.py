"""Secrets given to a command: from a file, a terminal or standard input; never an argument, which `ps` shows to all."""

import sys
from pathlib import Path

import typer

from tenantry.interfaces.cli.terminal import is_terminal

_LARGEST = 4096


def read_secret(what: str, file: Path | None) -> str:
    """Read it from `file`, else ask for it on a terminal, else take the first line of standard input; may be empty."""
    if file is not None:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(_LARGEST)
    elif is_terminal(sys.stdin):
        text = typer.prompt(what, hide_input=True, err=True)
    else:
        text = sys.stdin.readline(_LARGEST)
    return text.strip()
