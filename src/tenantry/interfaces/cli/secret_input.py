"""Secrets given to a command: from a file, a terminal or standard input; never an argument, which `ps` shows to all."""

import sys
from pathlib import Path

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.terminal import is_terminal

_LARGEST = 4096
_LARGEST_VALUE = 64 << 10


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


def read_value(what: str, file: Path | None) -> str:
    """Read a value of up to 64 KiB as it is: `file` to the byte, else what is typed on a terminal, else standard input
    to its end, less one newline. Raises BadRequest for more, or for what is no UTF-8.
    """
    try:
        if file is not None:
            with file.open(encoding="utf-8", newline="") as opened:
                text = opened.read(_LARGEST_VALUE + 1)
        elif is_terminal(sys.stdin):
            text = typer.prompt(what, hide_input=True, err=True)
        else:
            raw = sys.stdin.buffer.read(_LARGEST_VALUE + 2)
            text = raw.removesuffix(b"\n").decode()
    except UnicodeDecodeError:
        raise BadRequest("value_unreadable", "the value is no text in UTF-8", remedy="encode it in base64") from None
    if len(text.encode()) > _LARGEST_VALUE:
        raise BadRequest("value_too_large", f"a value has at most {_LARGEST_VALUE} bytes")
    return text
