"""JSON files only their owner may read."""

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenantry.client.errors import CredentialsError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LARGEST_BYTES = 1 << 20


def read_private_json(path: Path) -> dict[str, Any] | None:
    """None if there is no such file.

    Raises CredentialsError for a file that others may read or that somebody else owns: a key that was readable must be
    taken for stolen, and one that another user put there sends our requests to a server of their choice.
    """
    try:
        # Without O_NONBLOCK a pipe put in its place would hold us until somebody writes.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CredentialsError("file_unreadable", f"{path} cannot be opened: {error.strerror}") from error
    try:
        _require_private(path, os.fstat(descriptor))
    except CredentialsError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, encoding="utf-8") as file:
        try:
            content = json.loads(file.read(_LARGEST_BYTES))
        except ValueError:
            # The parser's message quotes the text, which may be the key.
            content = None
    if not isinstance(content, dict):
        raise CredentialsError("file_malformed", f"{path} is not a JSON object", remedy="write it anew: tenantry login")
    return content


def _require_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CredentialsError("file_not_regular", f"{path} is not a regular file", remedy=f"remove {path}")
    if status.st_uid not in {os.geteuid(), 0}:
        raise CredentialsError("file_foreign", f"{path} belongs to another user", remedy=f"remove {path}")
    if status.st_mode & _OTHERS:
        raise CredentialsError(
            "file_readable_by_others",
            f"{path} may be read by other users (mode {stat.S_IMODE(status.st_mode):04o})",
            remedy=f"chmod 600 {path}, and replace the key if others have accounts here",
        )


def write_private_json(path: Path, content: Mapping[str, object]) -> None:
    """Replace the file in one step, mode 0600 from its first byte; makes its directory (0700) when it is missing."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise CredentialsError("file_unwritable", f"{path} cannot be written: {error.strerror}") from error
