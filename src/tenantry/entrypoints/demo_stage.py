"""What the demo prints: scenes, what happens in them, and of every expectation whether it held."""

import time
from collections.abc import Iterable, Mapping
from typing import Final

from rich.console import Console
from rich.text import Text

from tenantry.client.errors import ApiError
from tenantry.interfaces.cli.terminal import one_line

_WIDTH: Final = 10
"""Columns of the name before each line: who speaks, or `held`."""


class Stage:
    """Colours on a terminal, plain text when piped; counts what was expected and what broke."""

    def __init__(self) -> None:
        self._console = Console(markup=False, emoji=False, highlight=False)
        self._began = time.monotonic()
        self._scenes = 0
        self.held = 0
        self.broken = 0

    @property
    def seconds(self) -> float:
        """Since the curtain rose."""
        return time.monotonic() - self._began

    def heading(self, text: str) -> None:
        self._print(Text(f"\n{one_line(text)}", style="bold"))

    def scene(self, title: str) -> None:
        """Begin the next scene; they are numbered from 1."""
        self._scenes += 1
        self.heading(f"{self._scenes}. {title}")

    def tell(self, text: str) -> None:
        self._print(Text(f"{'':{_WIDTH}}{one_line(text)}"))

    def quote(self, who: str, text: str) -> None:
        """Show output of a job, or anything else that somebody said, a line each; nothing in it steers the terminal."""
        for line in text.splitlines():
            self._print(Text.assemble((f"{who:>{_WIDTH - 2}} | ", "cyan"), (one_line(line), "dim")))

    def table(self, who: str, rows: Iterable[Iterable[str]]) -> None:
        """Quote rows, their columns aligned."""
        lines = [[one_line(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
            self.quote(who, "  ".join(cells).rstrip())

    def expect(self, what: str, *, held: bool, seen: object = "") -> None:
        """Mark an expectation; `seen` is what was met, told when it broke and, where short, when it held."""
        told = f" ({one_line(str(seen))})" if str(seen) else ""
        if held:
            self.held += 1
            self._print(Text.assemble((f"{'held':<{_WIDTH}}", "bold green"), what, (told, "dim")))
        else:
            self.broken += 1
            self._print(Text.assemble((f"{'BROKEN':<{_WIDTH}}", "bold red"), what, (told, "red")))

    def expect_refusal(self, what: str, error: ApiError | None, *, status: int, code: str) -> None:
        """Mark a request that must be refused: `error` is what it raised, None when it went through."""
        seen = f"{error.status} {error.code}" if error else "it went through"
        self.expect(what, held=error is not None and (error.status, error.code) == (status, code), seen=seen)

    def facts(self, facts: Mapping[str, object]) -> None:
        """Show names and values, the values aligned."""
        width = max(map(len, facts)) + 2
        for name, value in facts.items():
            line = Text.assemble((f"{'':{_WIDTH}}{name:<{width}}", "cyan"), one_line(str(value)))
            self._print(line)

    def _print(self, text: Text) -> None:
        # Soft wrap: a line is a line, however narrow the terminal, and a path can be copied whole.
        self._console.print(text, soft_wrap=True)
