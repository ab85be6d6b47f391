"""Reads the members of a document, typed, and notes what is wrong with each instead of stopping at the first."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantry.engines.rules.errors import MAX_FAULTS, DocumentError, DocumentFault
from tenantry.engines.rules.types import EVERYTHING, Selector

Path = tuple[str | int, ...]

MAX_ITEMS: Final = 200
MAX_TEXT: Final = 1000
_NAMES: Final = {bool: "true or false", str: "text", list: "a list", dict: "a mapping"}


def spelled(path: Path) -> str:
    """`("phases", "run", "ports", 0)` reads `phases.run.ports[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(slots=True)
class Members:
    """`line_of` tells the line of a path. What is wrong is noted, and a harmless value returned in its place."""

    line_of: Callable[[Path], int | None]
    faults: list[DocumentFault] = field(default_factory=list)

    def fault(self, path: Path, rule: str) -> None:
        fault = DocumentFault(spelled(path), self.line_of(path), rule)
        if len(self.faults) < MAX_FAULTS and fault not in self.faults:
            self.faults.append(fault)

    def settle(self) -> None:
        """Raise DocumentError if anything has been noted."""
        if self.faults:
            raise DocumentError(self.faults)

    def mapping(self, path: Path, value: Any, known: Iterable[str]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._mistyped(path, dict)
            return {}
        known = tuple(known)
        for name in value:
            if name not in known:
                self.fault((*path, name), f"is unknown here; known: {', '.join(known)}")
        return value

    def flag(self, path: Path, within: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
        value = within.get(name, default)
        if not isinstance(value, bool):
            self._mistyped((*path, name), bool)
            return default
        return value

    def text(self, path: Path, value: Any, *, longest: int = MAX_TEXT) -> str:
        if not isinstance(value, str):
            self._mistyped(path, str)
        elif not value.strip():
            self.fault(path, "is empty")
        elif len(value) > longest:
            self.fault(path, f"is longer than {longest} characters")
        elif any(character < " " and character not in "\n\t" for character in value):
            self.fault(path, "holds a control character")
        else:
            return value
        return ""

    def choice(self, path: Path, within: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
        """Read one of the known words; the first is the default."""
        value = within.get(name, known[0])
        if value not in known:
            self.fault((*path, name), f"must be one of {', '.join(known)}")
            return known[0]
        return str(value)

    def items(self, path: Path, value: Any) -> list[tuple[Path, Any]]:
        """Read a list without duplicates, each item with its path."""
        if not isinstance(value, list):
            self._mistyped(path, list)
            return []
        if len(value) > MAX_ITEMS:
            self.fault(path, f"has more than {MAX_ITEMS} items")
            return []
        for index, item in enumerate(value):
            if item in value[:index]:
                self.fault((*path, index), "stands in the list twice")
        return [((*path, index), item) for index, item in enumerate(value)]

    def texts(self, path: Path, within: Mapping[str, Any], name: str) -> list[tuple[Path, str]]:
        """Read a list of texts; without those that are none."""
        below = (*path, name)
        read = ((at, self.text(at, item)) for at, item in self.items(below, within.get(name, [])))
        return [(at, text) for at, text in read if text]

    def number(self, path: Path, within: Mapping[str, Any], name: str, *, default: float, most: float) -> float:
        """Read a finite number from 0 to `most`."""
        value = within.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault((*path, name), "must be a number")
        elif not math.isfinite(value) or not 0 <= value <= most:
            self.fault((*path, name), f"must be from 0 to {most:.0f}")
        else:
            return value
        return default

    def selector(self, path: Path, within: Mapping[str, Any]) -> Selector:
        """Read `applies_to`; absent means everything."""
        if "applies_to" not in within:
            return EVERYTHING
        below = (*path, "applies_to")
        read = self.mapping(below, within["applies_to"], ("workflows", "environments", "labels"))
        if not read:
            self.fault(below, "selects nothing in particular: leave it out to mean everything")
        for name in ("workflows", "environments"):
            if name in read and read[name] == []:
                self.fault((*below, name), "is empty: leave it out to mean every one")
        labels = read.get("labels", {})
        if (
            not isinstance(labels, dict)
            or not all(isinstance(name, str) for name in labels)
            or ("labels" in read and not labels)
        ):
            self.fault((*below, "labels"), "must be a mapping of names to globs")
            labels = {}
        return Selector(
            workflows=tuple(text for _, text in self.texts(below, read, "workflows")),
            environments=tuple(text for _, text in self.texts(below, read, "environments")),
            labels=tuple((name, self.text((*below, "labels", name), glob)) for name, glob in sorted(labels.items())),
        )

    def _mistyped(self, path: Path, expected: type) -> None:
        self.fault(path, f"must be {_NAMES[expected]}")
