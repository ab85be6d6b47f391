"""Path patterns: `*` `?` `[…]` inside a component, `**` for any number; cheap whatever a sandbox calls its files."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from tenantry.engines.jail.errors import SpecInvalid
from tenantry.kit.globs import star_match

_MAX_PATTERN: Final = 1024
_MAX_WILDCARDS: Final = 16


def parse_pattern(pattern: str) -> tuple[str, ...]:
    """Split a pattern relative to /workspace; `/workspace/…` and `/outputs/…` may be written in full.

    Raises SpecInvalid for `..`, other absolute paths, NUL and patterns too long or with too many wildcards.
    """
    text = pattern
    if text == "/workspace" or text.startswith("/workspace/"):
        text = text.removeprefix("/workspace").lstrip("/") or "**"
    elif text == "/outputs" or text.startswith("/outputs/"):
        text = text.lstrip("/")
    parts = tuple(part for part in text.split("/") if part not in {"", "."})
    if not parts or len(pattern) > _MAX_PATTERN or "\0" in pattern:
        raise SpecInvalid("artifacts", f"patterns of 1 to {_MAX_PATTERN} characters without NUL")
    if text.startswith("/") or ".." in parts:
        raise SpecInvalid("artifacts", "patterns are relative to /workspace and hold no `..`")
    if any(part.count("*") > _MAX_WILDCARDS for part in parts if part != "**"):
        raise SpecInvalid("artifacts", f"at most {_MAX_WILDCARDS} `*` in one component")
    return (*parts, "**") if parts == ("outputs",) else parts


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Say whether a whole path matches; a final `**` takes everything below."""
    reached = {0}
    for index, piece in enumerate(pattern):
        if piece == "**":
            least = min(reached)
            floor = least + 1 if index == len(pattern) - 1 else least
            reached = set(range(floor, len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and component_matches(parts[at], piece)}
        if not reached:
            return False
    return len(parts) in reached


def component_matches(name: str, piece: str) -> bool:
    if not any(mark in piece for mark in "*?["):
        return name == piece
    if "[" in piece:
        return fnmatchcase(name, piece)
    return star_match(name, piece)
