"""A /workspace carried from one sandbox to another: packed into a tar, or filled from one or straight from a dead one.

Nobody trusts what lies there. It is read as the uid of the sandbox that left it and written as the uid of the one that
gets it, by descriptor and through no link (`walking`, `planting`). Regular files, directories and symbolic links are
carried, the links as text; pipes, sockets and devices stay behind. The owner of the number is always the reader.
"""

import io
import os
import stat
import tarfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol, Self, cast

from tenantry.engines.jail.budget import Budget
from tenantry.engines.jail.errors import ImageInvalid, TreeInvalid
from tenantry.engines.jail.identity import filesystem_identity
from tenantry.engines.jail.layers import UNREADABLE, CappedArchive, HashedReader
from tenantry.engines.jail.planting import Entry, Kind, Planter
from tenantry.engines.jail.walking import (
    MOST_ENTRIES,
    MOST_SKIPPED,
    SkippedFile,
    is_text,
    open_directory,
    open_file,
    walk,
)

_MAX_HEADERS: Final = 4096  # bytes that an archive may have beside the content of one entry, on the average
_SECOND: Final = 10**9


@dataclass(frozen=True, slots=True)
class SavedTree:
    """`files` counts every entry, directories too; `bytes` the content of files. `skipped` names what stayed behind."""

    files: int
    bytes: int
    skipped: tuple[SkippedFile, ...] = ()


class Remains(Protocol):
    def remains(self) -> tuple[int, int | None] | None:
        """Give a new descriptor of what is left, the taker's to close, and the uid it is read as; None for nothing.

        Raises SandboxBusy for what still lives or has been closed.
        """


_Source = Callable[[int, list[SkippedFile]], AbstractContextManager[Iterator[Entry]]]
"""Entries of at most so many bytes, above each what lies below it; those left out go to the list."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What lies in /workspace when a program begins."""

    _hold: Callable[[], _Source] = field(repr=False)

    @classmethod
    def from_archive(cls, source: Path | Callable[[], BinaryIO]) -> Self:
        """Take what `pack` wrote, from a path or whatever a call opens for reading, blocking and in a thread.

        An archive that holds anything `pack` would not have written is refused whole, one that was cut off between two
        entries is not: see to it that you have all of it.
        """
        return cls(lambda: partial(_archived, source))

    @classmethod
    def from_sandbox(cls, sandbox: Remains) -> Self:
        """Take what a dead sandbox left, whose `close` comes after the start that this is for.

        What is not taken of it is skipped and told, as by `pack`. Raises SandboxBusy while it lives.
        """
        held = sandbox.remains()
        if held is not None:
            os.close(held[0])

        def hold() -> _Source:
            found = sandbox.remains()
            return partial(_left, *found) if found is not None else lambda *_: nullcontext(iter(()))

        return cls(hold)

    def ready(self, root: int, *, uid: int | None, max_bytes: int) -> Callable[[], SavedTree]:
        """Take hold of both ends, by descriptors of its own, and give the work, which is to be done once, in a thread.

        `root` is an empty directory but for `outputs`, and is written as `uid`. The work raises TreeInvalid for a
        hostile archive and for more than `max_bytes`, OSError for what the kernel refuses.
        """
        source = self._hold()
        return partial(_plant, os.dup(root), source, uid=uid, max_bytes=max_bytes)


def pack(root: int, uid: int | None, target: BinaryIO, *, max_bytes: int, max_files: int = MOST_ENTRIES) -> SavedTree:
    """Write what lies below the directory open at `root` to `target`, as a PAX tar; blocking, in a thread of its own.

    The same tree gives the same bytes: sorted by path, without owners. A file counts as large as it says it is; one
    larger than what is left of `max_bytes` is skipped and smaller ones after it are still taken.
    Raises OSError where `target` does.
    """
    skipped: list[SkippedFile] = []
    files = size = 0
    with (
        tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, errorlevel=2) as archive,
        closing(_read(root, uid, max_bytes, skipped, max_files=max_files)) as entries,
    ):
        for entry in entries:
            archive.addfile(_header(entry), _Whole(entry.content) if entry.content else None)
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
            files, size = files + 1, size + entry.size
    return SavedTree(files, size, tuple(skipped[:MOST_SKIPPED]))


def _plant(root: int, source: _Source, *, uid: int | None, max_bytes: int) -> SavedTree:
    skipped: list[SkippedFile] = []
    try:
        with source(max_bytes, skipped) as entries:
            planter = Planter(root, uid=uid, max_bytes=max_bytes)
            for entry in entries:
                planter.add(entry)
        planter.finish()
    finally:
        os.close(root)
    return SavedTree(planter.files, planter.bytes, tuple(skipped[:MOST_SKIPPED]))


@contextmanager
def _left(root: int, uid: int | None, max_bytes: int, skipped: list[SkippedFile]) -> Iterator[Iterator[Entry]]:
    try:
        with closing(_read(root, uid, max_bytes, skipped, max_files=MOST_ENTRIES)) as entries:
            yield entries
    finally:
        os.close(root)


def _read(
    root: int, uid: int | None, max_bytes: int, skipped: list[SkippedFile], *, max_files: int
) -> Generator[Entry]:
    """Look through a tree; the content of an entry is open until the next is asked for."""
    with filesystem_identity(uid):
        found = sorted(walk(root, skipped), key=lambda item: item[0].split("/"))
    files, left = 0, max_bytes
    for path, status in found:
        if files >= max_files:
            skipped.append(SkippedFile(path, "too_many"))
            continue
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        if size > left:
            skipped.append(SkippedFile(path, "too_large"))
            continue
        try:
            entry = _entry(root, uid, path, status)
        except OSError:
            skipped.append(SkippedFile(path, "unreadable"))
            continue
        if isinstance(entry, str):
            skipped.append(SkippedFile(path, entry))
            continue
        files, left = files + 1, left - size
        try:
            yield entry
        finally:
            if entry.content is not None:
                entry.content.close()


def _entry(root: int, uid: int | None, path: str, status: os.stat_result) -> Entry | str:
    """Describe and open what the walk has found, or say why it is left out."""
    mode, moment = stat.S_IMODE(status.st_mode), status.st_mtime_ns
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, Kind.DIRECTORY, mode, moment)
    if stat.S_ISREG(status.st_mode):
        with filesystem_identity(uid):
            content = os.fdopen(open_file(root, path.split("/")), "rb")
        return Entry(path, Kind.FILE, mode, moment, size=status.st_size, content=content)
    if not stat.S_ISLNK(status.st_mode):
        return "not_regular"
    above, _, name = path.rpartition("/")
    with filesystem_identity(uid):
        folder = open_directory(root, above)
        try:
            target = os.readlink(name, dir_fd=folder)
        finally:
            os.close(folder)
    return Entry(path, Kind.LINK, mode, moment, target=target) if is_text(target) else "name"


def _header(entry: Entry) -> tarfile.TarInfo:
    header = tarfile.TarInfo(entry.path)
    header.type = {Kind.DIRECTORY: tarfile.DIRTYPE, Kind.FILE: tarfile.REGTYPE, Kind.LINK: tarfile.SYMTYPE}[entry.kind]
    header.mode, header.size, header.linkname = entry.mode & 0o777, entry.size, entry.target
    seconds, rest = divmod(entry.mtime_ns, _SECOND)
    header.mtime = entry.mtime_ns / _SECOND if rest else seconds
    return header


class _Whole(io.RawIOBase):
    """A file that has what it had when it was looked at: one that shrinks meanwhile ends in zeros."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        return self._source.read(size).ljust(max(size, 0), b"\0")


@contextmanager
def _archived(source: Path | Callable[[], BinaryIO], max_bytes: int, _: list[SkippedFile]) -> Iterator[Iterator[Entry]]:
    with source.open("rb") if isinstance(source, Path) else source() as packed:
        try:
            yield _members(HashedReader(packed, Budget(bytes=max_bytes + MOST_ENTRIES * _MAX_HEADERS)))
        except ImageInvalid as error:
            raise TreeInvalid(error.message) from error
        except UNREADABLE as error:
            raise TreeInvalid(f"not a readable tar: {type(error).__name__}") from error


def _members(reader: HashedReader) -> Iterator[Entry]:
    with CappedArchive.open(fileobj=cast("IO[bytes]", reader), mode="r|", errorlevel=2) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]
            moment = int(member.mtime * _SECOND)
            if member.isdir():
                yield Entry(member.name, Kind.DIRECTORY, member.mode, moment)
            elif member.issym():
                yield Entry(member.name, Kind.LINK, member.mode, moment, target=member.linkname)
            elif member.isreg() and member.sparse is None:
                content = cast("IO[bytes]", archive.extractfile(member))
                yield Entry(member.name, Kind.FILE, member.mode, moment, size=member.size, content=content)
            else:
                raise TreeInvalid(f"no file, directory or symbolic link: {member.name[:200]!r}")
