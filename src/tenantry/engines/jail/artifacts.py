"""Files a dead sandbox left in its /workspace (with /outputs in it, as `outputs/…`).

What lies there was arranged by code nobody trusts: links to anywhere, pipes without end, devices, sparse giants, a
million names. So: as the sandbox's own uid, by descriptor, one component at a time and never through a link; regular
files only; numbers and sizes capped, a file counting as large as it says it is.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.globs import matches, parse_pattern
from tenantry.engines.jail.identity import filesystem_identity
from tenantry.engines.jail.walking import MOST_SKIPPED, SkippedFile, open_file, walk

_MAX_PATTERNS: Final = 256


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """`path` is relative to /workspace. Good until the sandbox is closed."""

    path: str
    size_bytes: int
    executable: bool
    _root: int
    _uid: int | None

    def open(self) -> BinaryIO:
        """Open for reading by a new descriptor, the caller's to close; blocking, so not on an event loop.

        Raises OSError when it is no longer a regular file.
        """
        with filesystem_identity(self._uid):
            descriptor = open_file(self._root, self.path.split("/"))
        return os.fdopen(descriptor, "rb")

    def read(self) -> bytes:
        with self.open() as source:
            return source.read(self.size_bytes)


class Artifacts(list[ArtifactFile]):
    """The files taken, by path, and in `skipped` those that matched or hid and were not."""

    def __init__(self, files: Sequence[ArtifactFile], skipped: Sequence[SkippedFile]) -> None:
        super().__init__(files)
        self.skipped = tuple(skipped)


def collect(root: int, *, patterns: Sequence[str], max_files: int, max_bytes: int, uid: int | None) -> Artifacts:
    """Walk the directory open at `root` for what matches any of `patterns`, in a thread of its own.

    The first `max_files` by path are taken while their sizes sum to no more than `max_bytes`; a larger one is skipped
    and smaller ones after it are still taken.
    """
    if len(patterns) > _MAX_PATTERNS:
        raise SpecInvalid("artifacts", f"at most {_MAX_PATTERNS} patterns")
    wanted = [parse_pattern(pattern) for pattern in patterns]
    found: list[ArtifactFile] = []
    skipped: list[SkippedFile] = []
    left = max_bytes
    with filesystem_identity(uid):
        for path, status in sorted(walk(root, skipped), key=lambda item: item[0]):
            if stat.S_ISDIR(status.st_mode) or not any(matches(path.split("/"), pattern) for pattern in wanted):
                continue
            if not stat.S_ISREG(status.st_mode):
                skipped.append(SkippedFile(path, "not_regular"))
            elif len(found) >= max_files:
                skipped.append(SkippedFile(path, "too_many"))
            elif status.st_size > left:
                skipped.append(SkippedFile(path, "too_large"))
            else:
                left -= status.st_size
                found.append(ArtifactFile(path, status.st_size, bool(status.st_mode & 0o111), root, uid))
    return Artifacts(found, skipped[:MOST_SKIPPED])
