"""Unpacking one layer: a tar, packed or not, written over what lies below it with its whiteouts (OCI image spec)."""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from io import BufferedIOBase
from typing import IO, BinaryIO, Final, cast

from tenantry.engines.jail.budget import Budget
from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.oci import Packing
from tenantry.engines.jail.skeleton import MOUNTED, OUTPUTS
from tenantry.engines.jail.tree import Caps, TreeWriter, Written, split_path
from tenantry.engines.jail.zstd_reader import ZstdReader, is_zstd

_MAX_HEADER: Final = 1 << 20
_MOST_AT_END: Final = 64
_GZIP: Final = b"\x1f\x8b"
_SPARSE: Final = "GNU.sparse."
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_RESERVED: Final = frozenset((*MOUNTED, OUTPUTS[0]))
_ENVELOPES: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
UNREADABLE: Final = (
    tarfile.TarError,
    zlib.error,
    EOFError,
    gzip.BadGzipFile,
    RecursionError,
    ValueError,
    OverflowError,
)


class CappedHeader(tarfile.TarInfo):
    """A member of a CappedArchive: tarfile reads extended headers into memory whole, whatever size they claim.

    Sparse members are refused in every form. The map of one in a pax header of GNU's form 1.0 lies in its content, as
    long as it likes; the hooks below are asked before it is read, whether the header is of one member or of all.
    """

    def _proc_member(self, archive: "CappedArchive") -> tarfile.TarInfo:
        if self.size < 0:
            raise ImageInvalid("image_archive_malformed", "a member of less than nothing")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse()
        if self.type not in _ENVELOPES:
            archive.passing_bytes = 0
        elif self.type == tarfile.XGLTYPE:
            archive.kept_bytes += self.size
        else:
            archive.passing_bytes += self.size
        if archive.passing_bytes + archive.kept_bytes > _MAX_HEADER:
            raise ImageInvalid("image_archive_malformed", "extended headers of a member of more than 1 MiB")
        return cast("tarfile.TarInfo", super()._proc_member(archive))  # type: ignore[misc]

    def _apply_pax_info(self, headers: Mapping[str, str], *more: object) -> None:
        if any(name.startswith(_SPARSE) for name in headers):
            raise _sparse()
        super()._apply_pax_info(headers, *more)  # type: ignore[misc]
        if self.size < 0:
            raise ImageInvalid("image_archive_malformed", "a member of less than nothing")

    def _refuse(self, *_: object) -> None:
        raise _sparse()

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


class CappedArchive(tarfile.TarFile):
    """A tar whose members are CappedHeaders; open it with its class method `open`.

    The extended headers before one member, with those that hold for all, have at most 1 MiB together: each is kept
    while the next is read, and global ones until the end.
    """

    tarinfo = CappedHeader
    kept_bytes = 0
    passing_bytes = 0


def _sparse() -> ImageInvalid:
    return ImageInvalid("image_archive_malformed", "sparse members are not taken")


class HashedReader(BufferedIOBase):
    """Counts and hashes what passes; raises ImageInvalid `image_too_large` beyond the bytes of `budget`.

    Whoever reads on at the end is stopped: tarfile skips a member of 2^60 bytes block by block, whether they are there
    or not.
    """

    def __init__(self, source: IO[bytes], budget: Budget) -> None:
        self._source = source
        self._budget = budget
        self._hash = hashlib.sha256()
        self._at_end = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        chunk = self._source.read(1 << 20 if size is None or size < 0 else size)
        self._budget.bytes -= len(chunk)
        if self._budget.bytes < 0:
            raise ImageInvalid("image_too_large", "the layers unpack to more than the cap")
        self._at_end = 0 if chunk else self._at_end + 1
        if self._at_end > _MOST_AT_END:
            raise ImageInvalid("image_archive_malformed", "a layer is shorter than one of its members says")
        self._hash.update(chunk)
        return chunk

    def finish(self) -> str:
        """Read the rest and return the digest of the whole."""
        while self.read(1 << 20):
            pass
        return f"sha256:{self._hash.hexdigest()}"


def read_directory_archive(source: BinaryIO, *, writer: TreeWriter, caps: Caps) -> None:
    """Unpack a tar (packed or not) of a root directory through `writer`; raises ImageInvalid as above."""
    try:
        apply_layer(layer_reader(source, budget_of(caps)), writer)
    except UNREADABLE as error:
        raise ImageInvalid("image_archive_malformed", f"not a readable tar: {type(error).__name__}") from error


def budget_of(caps: Caps) -> Budget:
    """Give twice what may be written, as a tar has headers and padding, and a layer what a later one removes."""
    return Budget(bytes=caps.bytes * 2)


def layer_reader(packed: IO[bytes], budget: Budget, *, packing: Packing | None = None) -> HashedReader:
    """Read a layer unpacked; how it is packed is seen by its beginning, and must be as `packing` says."""
    head = packed.read(4)
    found: Packing = "gzip" if head[:2] == _GZIP else "zstd" if is_zstd(head) else "none"
    if packing is not None and packing != found:
        raise ImageInvalid("image_layer_unsupported", "a layer is packed in another way than its media type says")
    packed.seek(0)
    if found == "gzip":
        return HashedReader(cast("IO[bytes]", gzip.GzipFile(fileobj=packed)), budget)
    return HashedReader(cast("IO[bytes]", ZstdReader(packed, budget)) if found == "zstd" else packed, budget)


def apply_layer(reader: HashedReader, writer: TreeWriter) -> None:
    """Write a layer over what is there. Whatever its members are, each counts as an entry at least once."""
    written: Written = {}
    with CappedArchive.open(fileobj=cast("IO[bytes]", reader), mode="r|", errorlevel=2) as layer:
        for member in layer:
            layer.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
            parts = split_path(member.name)
            if parts and parts[0] in _RESERVED:
                writer.count()
            elif parts and parts[-1] == _OPAQUE:
                writer.count()
                # What is below now is of lower layers, or was written by this one before.
                writer.empty(parts[:-1], keep=_below(written, parts[:-1]) or {})
            elif parts and parts[-1].startswith(_WHITEOUT):
                writer.count()
                _whiteout(parts, writer, written)
            elif _write(layer, member, parts, writer):
                below = written
                for part in parts:
                    below = below.setdefault(part, {})
            else:
                writer.count()


def _below(written: Written, parts: tuple[str, ...]) -> Written | None:
    """Find what a layer wrote below a path: nothing in a file, None where the path itself is not its own."""
    found: Written | None = written
    for part in parts:
        found = found.get(part) if found is not None else None
    return found


def _whiteout(parts: tuple[str, ...], writer: TreeWriter, written: Written) -> None:
    hidden = parts[-1].removeprefix(_WHITEOUT)
    if hidden in {"", ".", ".."}:
        raise ImageInvalid("image_path_unsafe", "a whiteout of nothing")
    target = (*parts[:-1], hidden)
    if _below(written, target) is None:  # it hides lower layers, never its own
        writer.remove(target)


def _write(layer: tarfile.TarFile, member: tarfile.TarInfo, parts: tuple[str, ...], writer: TreeWriter) -> bool:
    """Write one member, or tell False: devices, pipes and sockets are left out, an image has no use for them here."""
    if member.isdir():
        writer.directory(parts, member.mode)
    elif member.issym():
        writer.symlink(parts, member.linkname)
    elif member.islnk():
        writer.hardlink(parts, split_path(member.linkname))
    elif member.isreg() and (source := layer.extractfile(member)) is not None:
        writer.file(
            parts, source=cast("BinaryIO", source), size=member.size, mode=member.mode, mtime=float(member.mtime)
        )
    else:
        return False
    return True
