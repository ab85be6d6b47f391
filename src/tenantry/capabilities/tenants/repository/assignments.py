"""How changes of named columns are written."""

from typing import Any


def assignments(changes: dict[str, Any], *, first: int = 3) -> str:
    columns = [f"{column} = ${number}" for number, column in enumerate(changes, start=first)]
    return ", ".join([*columns, "updated_at = $2", "version = version + 1"])
