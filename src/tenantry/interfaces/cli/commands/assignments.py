"""`NAME=VALUE` arguments."""

import json
from collections.abc import Sequence
from typing import Any

from tenantry.client.errors import BadRequest


def pairs(arguments: Sequence[str] | None, *, option: str) -> dict[str, str]:
    """Split at the first `=`; raises BadRequest for a name that is missing or comes twice."""
    values: dict[str, str] = {}
    for argument in arguments or ():
        name, separator, value = argument.partition("=")
        # The argument is not repeated: a value may be a secret.
        if not separator or not name:
            raise BadRequest("assignment_malformed", f"{option} takes NAME=VALUE")
        if name in values:
            raise BadRequest("assignment_repeated", f"{option} names {name} twice")
        values[name] = value
    return values


def nested(arguments: Sequence[str] | None, *, option: str) -> dict[str, Any]:
    """Dots in a name go down a level, a value that is JSON is taken as such: `settings.retention_days=30`."""
    tree: dict[str, Any] = {}
    for name, text in pairs(arguments, option=option).items():
        *parents, last = name.split(".")
        level = tree
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise BadRequest("assignment_repeated", f"{option} sets {parent} and something below it")
        level[last] = _value(text)
    return tree


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
