"""Downloads that are whole or absent, and never outside the directory they were meant for."""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from tenantry.client.calls import Call
from tenantry.client.errors import BadAnswer

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


class _Sink:
    """The file while it grows."""

    def __init__(self, file: BinaryIO, sha256: str | None) -> None:
        self._file = file
        self._expected = sha256
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, portion: bytes) -> None:
        self._file.write(portion)
        self._digest.update(portion)
        self._size += len(portion)

    def finish(self) -> int:
        """Bytes written; raises BadAnswer when they are not the ones announced."""
        if self._expected is not None and self._digest.hexdigest() != self._expected.lower():
            raise BadAnswer("digest_mismatch", "the content downloaded is not the content announced (SHA-256)")
        self._file.flush()
        return self._size


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """A download: the file takes its place in one step, after the digest (when given) was right."""

    call: Call[Any]
    to: Path
    sha256: str | None = None

    @contextmanager
    def opened(self) -> Generator[_Sink]:
        self.to.parent.mkdir(parents=True, exist_ok=True)
        # Short: a name may have up to 255 bytes already.
        fresh = self.to.parent / f".{secrets.token_hex(8)}.part"
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                yield _Sink(file, self.sha256)
            fresh.replace(self.to)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise


def path_below(directory: Path, name: str) -> Path:
    """Place a name chosen by a job below `directory`; raises BadAnswer when it leads elsewhere, also by a symlink."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or "\0" in name:
        raise BadAnswer("path_outside", f"the artifact {name!r} names a place outside its directory")
    target = directory.joinpath(*relative.parts)
    if not target.parent.resolve().is_relative_to(directory.resolve()):
        raise BadAnswer("path_outside", f"the artifact {name!r} leads outside its directory through a link")
    return target


def file_below(directory: Path, name: object, *, ending: str) -> Path:
    """Give `directory`/`name``ending`, where a server has chosen the name; raises BadAnswer unless it is an id or slug.

    None of those leads out of a directory, and none begins with a dot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadAnswer("path_outside", f"the server calls something {name!r:.100}: no file is named like that")
    return directory / f"{name}{ending}"
