"""JSON as RFC 8259 means it and no more: no duplicate keys, no NaN or Infinity, bounded depth (RFC 7493, I-JSON)."""

import json
from typing import Any, Final

MAX_DEPTH: Final = 32


class NotStrictError(ValueError):
    """The text is not acceptable JSON; the message names the rule."""


def parse_json(text: bytes | str) -> Any:
    """Parse, or raise NotStrictError."""
    try:
        # Decoded here: left to itself, `json` would guess UTF-16 and UTF-32, and skip a byte order mark.
        if isinstance(text, bytes):
            text = text.decode()
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float)
    except NotStrictError:
        raise
    except RecursionError:
        raise NotStrictError(f"nested deeper than {MAX_DEPTH} levels") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise NotStrictError(f"not JSON: {error}") from None
    _examine(value)
    return value


def _text(text: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise NotStrictError("a text holds NUL or half of a surrogate pair")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, _ in pairs:
        _text(name)
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise NotStrictError(f"the key {twice[:80]!r} stands twice in one object")
    return result


def _refuse_constant(name: str) -> None:
    raise NotStrictError(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NotStrictError(f"{text[:40]} is too large a number")
    return value


def _examine(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        for item in level:
            if isinstance(item, str):
                _text(item)
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    raise NotStrictError(f"nested deeper than {MAX_DEPTH} levels")
