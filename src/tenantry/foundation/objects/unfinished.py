import hashlib
import os
import secrets
from contextlib import suppress
from typing import Final

from tenantry.foundation.objects.descent import FILE_MARK, descended, retried, told
from tenantry.foundation.objects.ports import ObjectStat

UNFINISHED: Final = ",unfinished"
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class UnfinishedFile:
    """One write: a file named by chance until `finish` gives it its key. `objects` is the path of its tenant's."""

    def __init__(self, root: int, objects: list[str]) -> None:
        self._root = root
        self._objects = objects
        self._name = secrets.token_hex(16)
        self._size = 0
        self._digest = hashlib.sha256()
        self._done = False
        self._file = retried(self._create)

    def _create(self) -> int:
        with told(), descended(self._root, [*self._objects, UNFINISHED], create=True) as place:
            return os.open(self._name, _CREATE, 0o600, dir_fd=place)

    def write(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._size += len(piece)
        self._append(piece)

    def _append(self, piece: bytes) -> None:
        rest = memoryview(piece)
        with told():
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def finish(self, segments: list[str]) -> ObjectStat:
        self._append(self._digest.digest())
        with told():
            os.fsync(self._file)
        retried(lambda: self._rename(segments))
        return ObjectStat(self._size, self._digest.hexdigest())

    def _rename(self, segments: list[str]) -> None:
        with (
            told(),
            descended(self._root, [*self._objects, UNFINISHED]) as place,
            descended(self._root, [*self._objects, *segments[:-1]], create=True) as parent,
        ):
            os.rename(self._name, segments[-1] + FILE_MARK, src_dir_fd=place, dst_dir_fd=parent)
            self._done = True
            os.fsync(parent)

    def discard(self) -> None:
        """Close, and remove unless finished."""
        os.close(self._file)
        if not self._done:
            with suppress(OSError), descended(self._root, [*self._objects, UNFINISHED]) as place:
                os.unlink(self._name, dir_fd=place)
