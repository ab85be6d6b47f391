"""CSV (RFC 4180) that no spreadsheet takes for formulas.

A cell that begins with `=`, `+`, `-`, `@`, or with what a spreadsheet skips before one, is run by Excel, LibreOffice
and Google Sheets when a file is opened (CWE-1236). Such texts get an apostrophe before them: they stay texts.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the full-width forms, which some spreadsheets narrow first."""


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """Write rows of texts, each line ended by CRLF."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerows([[harmless(cell) for cell in row] for row in rows])
    return buffer.getvalue()


def harmless(cell: str) -> str:
    return f"'{cell}" if cell.lstrip(" ").startswith(_STARTS) else cell
