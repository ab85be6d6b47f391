"""Many patterns against one text in one pass and linear time (RE2)."""

from collections.abc import Sequence
from typing import Any, Final

import re2

from tenantry.engines.rules.errors import Unjudged

_MEMORY: Final = 16 << 20


class PatternError(ValueError):
    """RE2 does not take a pattern; the message says why."""


class TextSet:
    """Tells which of its patterns match a whole text. `.` matches newlines: a line break must not hide anything.

    RE2 would answer "nothing" if it ran out of memory. So each set holds one pattern more, which matches everything:
    where even that does not match, the text has not been judged.
    """

    __slots__ = ("_match", "_witness")

    def __init__(self, patterns: Sequence[str], *, memory: int = _MEMORY) -> None:
        self._witness = len(patterns)
        self._match: Any = None
        if not patterns:
            return
        compiled = re2.Set.FullMatchSet(_options(memory))
        try:
            for pattern in (*patterns, ".*"):
                compiled.Add(pattern)
            compiled.Compile()
        except re2.error:
            raise PatternError("the patterns together need more memory than a document may use") from None
        self._match = compiled.Match

    def match(self, text: str) -> list[int]:
        """Give the numbers of the patterns that match, in no order. Raises Unjudged."""
        if self._match is None:
            return []
        try:
            found: list[int] = self._match(text)
        except UnicodeEncodeError:
            raise Unjudged("is no text that UTF-8 can hold") from None
        try:
            found.remove(self._witness)
        except ValueError:
            raise Unjudged("needs more memory to match than there is") from None
        return found


def require_pattern(pattern: str) -> None:
    """Raise PatternError unless RE2 takes it."""
    try:
        re2.compile(pattern, _options(_MEMORY))
    except re2.error as error:
        told = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        if "perl operator" in told or "escape sequence" in told:
            told += " (look-around and backreferences are not offered: they cannot be matched in linear time)"
        raise PatternError(told) from None


def escaped(text: str) -> str:
    result: str = re2.escape(text)
    return result


def _options(memory: int) -> Any:
    options = re2.Options()
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = memory
    return options
