"""What is wrong with a document, and what could not be proven."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_FAULTS: Final = 20


@dataclass(frozen=True, slots=True)
class DocumentFault:
    """`path` is as in `blocked_images[0]`, empty for the whole; `line` counts from 1, or is None without a text."""

    path: str
    line: int | None
    rule: str

    def __str__(self) -> str:
        where = ", ".join([f"line {self.line}"] * (self.line is not None) + [self.path] * bool(self.path))
        return f"{where}: {self.rule}" if where else self.rule


class DocumentError(ValueError):
    """All that is wrong with a document, at most MAX_FAULTS of it."""

    def __init__(self, faults: Sequence[DocumentFault]) -> None:
        self.faults = tuple(faults[:MAX_FAULTS])
        super().__init__("; ".join(str(fault) for fault in self.faults))


class Unjudged(Exception):
    """A subject is beyond what is looked through; the message says in what way."""


class Unproven(Exception):
    """Whether one document is wider than another stayed open; the message says why."""


class ProverMissingError(RuntimeError):
    """The optional dependency of the proof is not installed."""
