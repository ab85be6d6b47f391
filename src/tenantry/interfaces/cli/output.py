"""How results look: tables on a terminal, tab-separated lines when piped, JSON when asked for."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from tenantry.interfaces.cli.terminal import is_terminal, one_line, write


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


Columns = Sequence[tuple[str, str]]
"""Heading and member of the item, with dots between levels."""


def show_json(answer: object) -> None:
    """Everything beyond printable ASCII is escaped, so JSON can be looked at on a terminal, too."""
    text = json.dumps(answer, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f")
    write(sys.stdout, text + "\n")


def show_json_line(answer: object) -> None:
    """One line of what does not end, escaped as all JSON is, and seen at once."""
    write(sys.stdout, json.dumps(answer, ensure_ascii=True).replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def show_line(item: Mapping[str, Any], columns: Columns) -> None:
    """One line of what does not end, seen at once."""
    write(sys.stdout, "\t".join(cell(member(item, path)) for _, path in columns) + "\n")
    sys.stdout.flush()


def show_table(items: Sequence[Mapping[str, Any]], columns: Columns) -> None:
    rows = [[cell(member(item, path)) for _, path in columns] for item in items]
    if is_terminal(sys.stdout):
        _draw([heading for heading, _ in columns], rows)
    else:
        write(sys.stdout, "".join("\t".join(row) + "\n" for row in rows))


def show_record(record: Mapping[str, Any]) -> None:
    rows = [[one_line(name), cell(value)] for name, value in flattened(record)]
    if is_terminal(sys.stdout):
        _draw([], rows)
    else:
        write(sys.stdout, "".join("\t".join(row) + "\n" for row in rows))


def say(message: str) -> None:
    """Tell the human; never part of the result."""
    write(sys.stderr, one_line(message) + "\n")


def cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return one_line(value)
        case list() if all(isinstance(item, str) for item in value):
            return one_line(",".join(value))
        case dict() | list():
            return one_line(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        case _:
            return one_line(str(value))


def member(item: Mapping[str, Any], path: str) -> Any:
    """None where a level is missing."""
    value: Any = item
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def flattened(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested members by dotted names, in their order."""
    for name, value in record.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _draw(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=bool(headings), header_style="bold", pad_edge=False)
    for heading in headings or ("", ""):
        # Ids are copied from here: they fold, they are never cut.
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    Console(markup=False, emoji=False, highlight=False).print(table)
