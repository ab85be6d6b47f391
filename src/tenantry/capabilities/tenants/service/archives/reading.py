"""Examines an archive that nobody trusts, and reads what is in it. Blocking: call it in a thread.

Members are read by their offsets, by a reader of our own that knows plain files and long names and nothing else: links,
devices, sparse files and extended headers are refused before anything acts on them. Nothing in it is compressed, so it
is never larger than it is.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydantic import ValidationError

from tenantry.capabilities.tenants.errors import archive_refused
from tenantry.capabilities.tenants.service.archives.form import (
    KEYS,
    LEFT_OUT,
    MANIFEST,
    MEMBER,
    Manifest,
    ManifestTable,
)
from tenantry.kit.strict_json import NotStrictError, parse_json

_BLOCK: Final = tarfile.BLOCKSIZE
_PIECE: Final = 1 << 20
_MOST_NAME: Final = 1024
_MOST_MEMBERS: Final = 1_000_000
_MOST_MANIFEST: Final = 256 << 20
_MOST_LINE: Final = 64 << 20
_BATCH: Final = 500

Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class _Span:
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive whose members are those of its manifest, byte for byte."""

    path: Path
    manifest: Manifest
    spans: Mapping[str, _Span] = field(repr=False)

    def open(self, name: str) -> BinaryIO:
        """Open a member; raises KeyError for one that is not there."""
        return io.BufferedReader(_Slice(self.path, self.spans[name]), _PIECE)

    def read(self, name: str) -> bytes:
        with self.open(name) as member:
            return member.read()

    def rows(self, table: ManifestTable) -> Iterator[list[Row]]:
        """Give a table's rows in batches; raises Invalid `archive_refused` for a line that is no row of it."""
        batch: list[Row] = []
        for name in _parts_of(table.name, self.spans):
            with self.open(name) as lines:
                while line := lines.readline(_MOST_LINE + 1):
                    batch.append(_row(line, table))
                    if len(batch) >= _BATCH:
                        yield batch
                        batch = []
        if batch:
            yield batch


def examine(path: Path) -> Archive:
    """Read an archive from its begin to its end; raises Invalid `archive_refused`, which names the rule."""
    with path.open("rb") as file:
        spans, digests = _walk(file, size=path.stat().st_size)
    span = spans.pop(MANIFEST)
    if span.size > _MOST_MANIFEST:
        raise archive_refused("manifest", "its manifest is larger than any of ours")
    with io.BufferedReader(_Slice(path, span)) as member:
        manifest = _manifest(member.read())
    told = {member.name: (member.size_bytes, member.sha256) for member in manifest.members}
    if len(told) != len(manifest.members):
        raise archive_refused("manifest", "its manifest names a member twice")
    if told.keys() != spans.keys():
        raise archive_refused("members", "its members are not those of its manifest")
    for name, (size, digest) in told.items():
        if (spans[name].size, digests[name]) != (size, digest):
            raise archive_refused("digest", f"{name[:80]} is not what the manifest says")
    if KEYS not in spans:
        raise archive_refused("keys", f"it has no {KEYS}")
    return Archive(path, manifest, spans)


def examine_rows(
    archive: Archive, *, known: Mapping[str, Sequence[str]], tenant: str, look: Callable[[ManifestTable, Row], None]
) -> None:
    """Read every row; raises Invalid for tables, columns or tenants that are none of ours. `look` is shown each."""
    named = {table.name for table in archive.manifest.tables}
    if len(named) != len(archive.manifest.tables):
        raise archive_refused("tables", "its manifest names a table twice")
    if stray := [n for n in archive.spans if n.startswith("rows/") and n.split("/")[1].rsplit(".", 2)[0] not in named]:
        raise archive_refused("tables", f"{stray[0][:80]} is of no table that the manifest names")
    for table in archive.manifest.tables:
        _require_known(table, known)
        place, count = table.columns.index("tenant_id"), 0
        for batch in archive.rows(table):
            for row in batch:
                if row[place] != tenant:
                    raise archive_refused("tenant", f"a row of {table.name} names another tenant")
                look(table, row)
            count += len(batch)
        if count != table.rows:
            raise archive_refused("rows", f"{table.name} has {count} rows, the manifest says {table.rows}")


def _require_known(table: ManifestTable, known: Mapping[str, Sequence[str]]) -> None:
    if table.name not in known or table.name in LEFT_OUT:
        raise archive_refused("tables", f"a table {table.name[:80]!r} is none that is imported here")
    columns = set(table.columns)
    if len(columns) != len(table.columns) or not columns <= set(known[table.name]):
        raise archive_refused("columns", f"{table.name} has columns that are none here, or one twice")
    if "tenant_id" not in columns:
        raise archive_refused("columns", f"{table.name} has no tenant_id")


def _walk(file: BinaryIO, *, size: int) -> tuple[dict[str, _Span], dict[str, str]]:
    spans: dict[str, _Span] = {}
    digests: dict[str, str] = {}
    while True:
        member = _next(file)
        if member is None:
            break
        if MANIFEST in spans:
            raise archive_refused("manifest", "something follows its manifest")
        if member.name != MANIFEST and not MEMBER.fullmatch(member.name):
            raise archive_refused("name", f"a member {member.name[:80]!r} has no place in an archive")
        if member.name in spans or len(spans) > _MOST_MEMBERS:
            raise archive_refused("name", f"{member.name[:80]} stands twice, or there are too many members")
        span = _Span(file.tell(), member.size)
        if span.offset + span.size > size:
            raise archive_refused("cut", "it is cut short")
        spans[member.name], digests[member.name] = span, _digest(file, span.size)
        file.seek(-span.size % _BLOCK, io.SEEK_CUR)
    if MANIFEST not in spans:
        raise archive_refused("manifest", "it has no manifest: it is no export, or cut short")
    return spans, digests


def _next(file: BinaryIO) -> tarfile.TarInfo | None:
    """Read the head of the next member; None at the end."""
    name = None
    while True:
        block = file.read(_BLOCK)
        if len(block) == _BLOCK and not any(block):
            _require_end(file)
            return None
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError):
            raise archive_refused("head", "a member has no readable head: it is no tar, or cut short") from None
        if member.size < 0:
            raise archive_refused("head", "a member has no size")
        if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            member.name = name or member.name
            return member
        if member.type != tarfile.GNUTYPE_LONGNAME or name is not None or member.size > _MOST_NAME:
            raise archive_refused("type", "a member is no plain file")
        try:
            name = file.read(-(-member.size // _BLOCK) * _BLOCK)[: member.size].rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError:
            raise archive_refused("name", "a member has a name that none of ours has") from None


def _require_end(file: BinaryIO) -> None:
    while rest := file.read(_PIECE):
        if any(rest):
            raise archive_refused("end", "something follows its end")


def _digest(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    while size:
        piece = file.read(min(size, _PIECE))
        if not piece:
            raise archive_refused("cut", "it is cut short")
        size -= len(piece)
        digest.update(piece)
    return digest.hexdigest()


def _manifest(text: bytes) -> Manifest:
    try:
        return Manifest.model_validate(parse_json(text))
    except (NotStrictError, ValidationError) as error:
        told = error.errors(include_input=False, include_url=False)[0] if isinstance(error, ValidationError) else None
        where = f"{'.'.join(str(part) for part in told['loc'])}: {told['msg']}" if told else "no strict JSON"
        raise archive_refused("manifest", f"its manifest is none of ours: {where[:200]}") from None


def _parts_of(table: str, spans: Mapping[str, _Span]) -> list[str]:
    """Name the members of a table in order; raises Invalid when one is missing between."""
    begin = f"rows/{table}."
    names = sorted(name for name in spans if name.startswith(begin) and name.count(".") == begin.count(".") + 1)
    if names != [f"{begin}{number:06d}.jsonl" for number in range(len(names))]:
        raise archive_refused("rows", f"members of {table} are missing")
    return names


def _row(line: bytes, table: ManifestTable) -> Row:
    try:
        row: Any = json.loads(line) if len(line) <= _MOST_LINE else None
    except (ValueError, RecursionError):
        row = None
    if (
        not isinstance(row, list)
        or len(row) != len(table.columns)
        or not all(value is None or isinstance(value, str) for value in row)
    ):
        raise archive_refused("rows", f"a line of {table.name} is no row of it")
    return tuple(row)


class _Slice(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, path: Path, span: _Span) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._span = span
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._span.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self._span.size - self._at))
        self._file.seek(self._span.offset + self._at)
        piece = self._file.read(wanted) or b""
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()
