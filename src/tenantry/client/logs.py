from dataclasses import dataclass
from typing import Any

from tenantry.client.errors import BadAnswer


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of output as it came, whole lines or not.

    `stream` is `stdout`, `stderr` or `system` (the sandbox itself speaks); `seq` counts from 1 inside a job.
    """

    seq: int
    stream: str
    at: str
    text: str


@dataclass(frozen=True, slots=True)
class JobEnd:
    """`exit_code` is None when the command did not run to its end."""

    status: str
    exit_code: int | None


LogEvent = LogLine | JobEnd


def log_line(item: Any) -> LogLine:
    """Raise BadAnswer for anything that is not one."""
    try:
        return LogLine(seq=int(item["seq"]), stream=str(item["stream"]), at=str(item["at"]), text=str(item["text"]))
    except (TypeError, KeyError, ValueError) as error:
        raise BadAnswer("log_malformed", "a log line needs seq, stream, at and text") from error


def job_end(item: Any) -> JobEnd:
    if not isinstance(item, dict) or not isinstance(item.get("status"), str):
        raise BadAnswer("log_malformed", "the end of a log needs the job's status")
    code = item.get("exit_code")
    return JobEnd(status=item["status"], exit_code=code if isinstance(code, int) else None)
