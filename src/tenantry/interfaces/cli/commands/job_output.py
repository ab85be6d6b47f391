import json
import sys
from dataclasses import asdict
from typing import TextIO

from tenantry.client.logs import LogEvent, LogLine
from tenantry.interfaces.cli.terminal import is_terminal, many_lines, write


class JobOutput:
    """A job's streams on ours; what the sandbox itself says (`system`) goes to standard error.

    Piped, they pass as they are; on a terminal control characters show as escapes unless `raw`. `as_json` prints one
    object an event; `to_stderr` keeps standard output free for something else.
    """

    def __init__(self, *, raw: bool = False, as_json: bool = False, to_stderr: bool = False) -> None:
        self._raw = raw
        self._as_json = as_json
        self._to_stderr = to_stderr

    def show(self, event: LogEvent) -> None:
        if self._as_json:
            write(sys.stdout, json.dumps(asdict(event), ensure_ascii=True) + "\n")
        elif isinstance(event, LogLine):
            self._show_line(event)

    def _show_line(self, line: LogLine) -> None:
        stream = sys.stdout if line.stream == "stdout" and not self._to_stderr else sys.stderr
        write(stream, self._shown(stream, line.text))

    def _shown(self, stream: TextIO, text: str) -> str:
        return text if self._raw or not is_terminal(stream) else many_lines(text)
