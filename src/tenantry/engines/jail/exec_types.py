"""What is asked of a living sandbox by `Sandbox.exec`, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.types import MIB, Ending, check_command, check_env

_MOST_CELLS: Final = 10_000
_MOST_SECONDS: Final = 30 * 86400
_MOST_OUTPUT: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """In characters, each from 1 to 10 000."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= _MOST_CELLS or not 1 <= self.columns <= _MOST_CELLS:
            raise SpecInvalid("terminal", f"rows and columns from 1 to {_MOST_CELLS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSpec:
    """One more program in a living sandbox.

    `env` lies over the sandbox's own, secrets included; its values are in no `repr`. `workdir` is the sandbox's unless
    told. With `terminal` it has one of that size and all it says is stdout. It ends at the latest with the sandbox,
    or after `timeout_seconds`; `output_bytes` bounds stdout and stderr together.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    workdir: str | None = None
    terminal: TerminalSize | None = None
    timeout_seconds: float | None = None
    output_bytes: int = 64 * MIB

    def __post_init__(self) -> None:
        check_command(self.command)
        check_env(self.env)
        if self.workdir is not None and (not self.workdir.startswith("/") or "\0" in self.workdir):
            raise SpecInvalid("workdir", "an absolute path without NUL")
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds <= _MOST_SECONDS:
            raise SpecInvalid("timeout_seconds", f"above 0, at most {_MOST_SECONDS}")
        if not 0 <= self.output_bytes <= _MOST_OUTPUT:
            raise SpecInvalid("output_bytes", f"from 0 to {_MOST_OUTPUT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOutcome:
    """`exit_code` is the program's own (128 + n when signal n ended it), None when somebody else ended it.

    For a program that was not found it is 127 and for one that may not be executed 126, with ending `not_started`.
    """

    ending: Ending
    exit_code: int | None
    detail: str = ""
