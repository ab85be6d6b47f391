"""Exit codes, one table for everything the command line may meet.

    0    done; for `job run` the job's own code, for `sandbox exec` and `sandbox shell` the command's
    1    anything not listed
    2    the command or its arguments are wrong, also when only the server could tell
    3    refused: not logged in, not permitted, denied by policy
    4    not found, or its content is no longer kept
    5    in conflict with the present state, or changed by somebody else meanwhile
    6    over a limit, rate or quota
    7    the server, or a part of it, cannot be reached
    124  the job, or the command in a sandbox, timed out
    130  the job was cancelled, or the command interrupted

`job run` passes the job's own code on, and `sandbox exec` the command's, so either may answer with any of these for
reasons of its own; `--output json` tells a job's apart.
"""

from enum import IntEnum
from typing import Final

from tenantry.client.errors import ApiError, BadRequest, ConnectionFailed, CredentialsError
from tenantry.foundation.errors import ErrorKind, TenantryError


class Exit(IntEnum):
    DONE = 0
    OTHER = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    CONFLICT = 5
    OVER_LIMIT = 6
    UNAVAILABLE = 7
    TIMED_OUT = 124
    CANCELLED = 130


_BY_STATUS: Final = {
    400: Exit.USAGE,
    401: Exit.REFUSED,
    403: Exit.REFUSED,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    410: Exit.NOT_FOUND,
    412: Exit.CONFLICT,
    413: Exit.OVER_LIMIT,
    422: Exit.USAGE,
    428: Exit.CONFLICT,
    429: Exit.OVER_LIMIT,
    502: Exit.UNAVAILABLE,
    503: Exit.UNAVAILABLE,
    504: Exit.UNAVAILABLE,
}
_BY_KIND: Final = {
    ErrorKind.INVALID: Exit.USAGE,
    ErrorKind.UNAUTHENTICATED: Exit.REFUSED,
    ErrorKind.DENIED: Exit.REFUSED,
    ErrorKind.NOT_FOUND: Exit.NOT_FOUND,
    ErrorKind.CONFLICT: Exit.CONFLICT,
    ErrorKind.GONE: Exit.NOT_FOUND,
    ErrorKind.PRECONDITION: Exit.CONFLICT,
    ErrorKind.WRONG_REGION: Exit.OTHER,
    ErrorKind.EXHAUSTED: Exit.OVER_LIMIT,
    ErrorKind.UNAVAILABLE: Exit.UNAVAILABLE,
    ErrorKind.FAULT: Exit.OTHER,
}
_SIGNAL_BASE = 128
_LARGEST = 255


def exit_for(error: Exception) -> Exit:
    match error:
        case ApiError():
            return _BY_STATUS.get(error.status, Exit.OTHER)
        case TenantryError():
            return _BY_KIND[error.kind]
        case BadRequest():
            return Exit.USAGE
        case CredentialsError():
            return Exit.REFUSED
        case ConnectionFailed():
            return Exit.UNAVAILABLE
        case _:
            return Exit.OTHER


def exit_for_job(*, status: str, exit_code: int | None) -> int:
    """0 only for a job that succeeded; a signal's negative number becomes 128 + n, as shells have it."""
    match status:
        case "timed_out":
            return Exit.TIMED_OUT
        case "cancelled":
            return Exit.CANCELLED
        case "denied":
            return Exit.REFUSED
        case "succeeded":
            return Exit.DONE
        case _:
            code = Exit.OTHER if exit_code is None else exit_code
    if code < 0:
        code = _SIGNAL_BASE - code
    return code if 0 < code <= _LARGEST else Exit.OTHER


def exit_for_exec(*, ending: str, exit_code: int | None) -> int:
    """Pass the command's own code on; 124 for one that had too little time, 1 for one that somebody else has ended."""
    if ending == "timed_out":
        return Exit.TIMED_OUT
    return Exit.OTHER if exit_code is None else exit_code
