"""Rows turned into the arrays that `unnest` takes, and back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg


def unzipped(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[column] for row in rows] for column in range(width)]


def grouped(rows: "Sequence[asyncpg.Record]", ranges: int) -> list[list[bytes]]:
    """Give the hashes of each range, from rows of `number` and `hash` in their order."""
    found: list[list[bytes]] = [[] for _ in range(ranges)]
    for row in rows:
        found[row["number"]].append(row["hash"])
    return found
