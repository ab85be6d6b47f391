"""Rows turned into the arrays that `unnest` takes."""

from collections.abc import Sequence


def unzipped(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[column] for row in rows] for column in range(width)]
