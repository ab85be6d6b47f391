"""YAML as far as it means the same as JSON, with the line of every value.

YAML 1.2 core schema: `yes`, `no`, `on`, dates and times are text, `true` and `42` are not. Refused, because they mean
more than they show or mean different things to different readers: aliases and anchors (a few lines that become
gigabytes), tags, duplicate keys, keys that are no text, a second document, numbers with leading zeros, in other bases
or without end.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_DEPTH: Final = 16
Path = tuple[str | int, ...]

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_UNCLEAR: Final = re.compile(r"[-+]?([0-9]+|0o[0-7]+|0x[0-9A-Fa-f]+|\.(inf|Inf|INF|nan|NaN|NAN))")
_LARGEST: Final = 2**53 - 1


class NotStrictYamlError(ValueError):
    """The text is not acceptable YAML; `rule` says why without repeating it, `line` counts from 1."""

    def __init__(self, rule: str, *, line: int, path: Path = ()) -> None:
        super().__init__(f"line {line}: {rule}")
        self.rule = rule
        self.line = line
        self.path = path


@dataclass(frozen=True, slots=True)
class LinedDocument:
    """`lines` has the line of each key and each item by its path, and of the whole at `()`."""

    value: Any
    lines: dict[Path, int]

    def line_of(self, path: Path) -> int:
        """Tell the line of a path, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse_yaml(content: bytes) -> LinedDocument:
    """Parse one document, or raise NotStrictYamlError. Memory and time are bounded by the size of `content`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotStrictYamlError("is not UTF-8", line=content[: error.start].count(b"\n") + 1) from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    reader = _Reader(yaml.parse(text, Loader=loader))
    try:
        return reader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotStrictYamlError(
            f"is not YAML: {error.problem or error.context}", line=mark.line + 1 if mark else 1
        ) from None
    except yaml.reader.ReaderError as error:
        # The C reader counts bytes, the Python one characters: close enough to find a control character by.
        line = content[: error.position].count(b"\n") + 1
        raise NotStrictYamlError("holds a character that YAML does not allow", line=line) from None
    except yaml.YAMLError:
        raise NotStrictYamlError("is not YAML", line=1) from None


@dataclass
class _Reader:
    """Builds a value from events; nothing is composed before its depth and kind are known."""

    events: Iterator[yaml.Event]
    lines: dict[Path, int] = field(default_factory=dict)

    def document(self) -> LinedDocument:
        next(self.events)
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            raise NotStrictYamlError("is empty", line=1)
        event = next(self.events)
        self.lines[()] = _line(event)
        value = self._value(event, ())
        next(self.events)
        if not isinstance(event := next(self.events), yaml.StreamEndEvent):
            raise NotStrictYamlError("holds a second document", line=_line(event))
        return LinedDocument(value, self.lines)

    def _value(self, event: yaml.Event, path: Path) -> Any:
        _require_plain(event, path)
        match event:
            case yaml.ScalarEvent():
                return _scalar(event, path)
            case yaml.SequenceStartEvent():
                return self._sequence(path)
            case _:
                return self._mapping(path)

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            below = (*path, len(items))
            self.lines[below] = _line(event)
            items.append(self._value(event, below))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            _require_plain(event, path)
            name = _scalar(event, path) if isinstance(event, yaml.ScalarEvent) else None
            if not isinstance(name, str):
                raise NotStrictYamlError("a key must be text: put it in quotes", line=_line(event), path=path)
            below = (*path, name)
            if name in members:
                rule = f"stands twice, first on line {self.lines[below]}"
                raise NotStrictYamlError(rule, line=_line(event), path=below)
            self.lines[below] = _line(event)
            members[name] = self._value(next(self.events), below)
        return members


def _require_plain(event: yaml.Event, path: Path) -> None:
    line = _line(event)
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise NotStrictYamlError("anchors and aliases are not allowed: write the value out", line=line, path=path)
    if getattr(event, "tag", None) is not None:
        raise NotStrictYamlError("tags are not allowed", line=line, path=path)
    if len(path) > MAX_DEPTH:
        raise NotStrictYamlError(f"is nested deeper than {MAX_DEPTH} levels", line=line, path=path[:2])


def _scalar(event: yaml.ScalarEvent, path: Path) -> Any:
    text: str = event.value
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise NotStrictYamlError("holds NUL or half of a surrogate pair", line=_line(event), path=path)
    if not event.implicit[0]:
        return text
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        if len(text) < len(str(_LARGEST)) or abs(int(text[:20])) <= _LARGEST:
            return int(text)
        raise NotStrictYamlError(f"is beyond {_LARGEST}, which not every reader can hold", line=_line(event), path=path)
    if _FLOAT.fullmatch(text) and (value := float(text)) not in (float("inf"), float("-inf")):
        return value
    if _UNCLEAR.fullmatch(text) or _FLOAT.fullmatch(text):
        rule = "means different numbers to different readers: write it in decimals, or as text in quotes"
        raise NotStrictYamlError(rule, line=_line(event), path=path)
    return text


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
