"""The directory of declared tenants: read in bounds, whatever lies there; a file that does not count hides no other."""

import hashlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tenantry.capabilities.tenants.service.declared.declaration import Declaration, FileFault, validate
from tenantry.foundation.clock import Clock
from tenantry.kit.strict_yaml import LinedDocument, NotStrictYamlError, parse_yaml

MAX_FILE_BYTES: Final = 64 << 10
MAX_FILES: Final = 20_000
_SUFFIXES: Final = (".yaml", ".yml")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_RACY_SECONDS: Final = 2.0
"""Coarser than any file system's times."""
_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Loaded:
    """What counts, by name of the file, and what does not."""

    declared: tuple[Declaration, ...] = ()
    skipped: tuple[FileFault, ...] = ()
    digests: tuple[tuple[str, bytes], ...] = ()
    """Of every file that could be read, also of those that do not count: differs when anything has changed."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One file: valid, or faults; `slug` also of one that is invalid, as far as it can be told."""

    digest: bytes
    result: Declaration | list[FileFault]
    slug: str | None
    slug_line: int
    stamp: tuple[int, ...] | None = None
    """Tells the file unread; None while it is so young that a further change might not show."""

    def is_still(self, status: os.stat_result) -> bool:
        return self.stamp is not None and self.stamp == _stamp(status)


class TenantFolder:
    """Reads the directory; what has not changed since the last time is not parsed again. One thread at a time.

    `private`: for a reader that acts by itself on what it finds. Directory and files must then belong to root or to
    this process's user, and nobody else may write to them.
    """

    def __init__(self, path: Path, *, private: bool, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._private = private
        self._known: dict[str, _Read] = {}

    def load(self) -> Loaded:
        """Read everything; a directory that is not there declares nothing. Raises nothing: faults are told."""
        try:
            real = self.path.resolve(strict=True)
            names = sorted(name for name in os.listdir(real) if _is_candidate(name))  # noqa: PTH208 - names, not paths
            status = real.stat()
        except FileNotFoundError:
            self._known.clear()
            return Loaded()
        except (OSError, RuntimeError) as error:
            return Loaded(skipped=(FileFault(str(self.path), 0, "", f"cannot be read: {_reason(error)}"),))
        if self._private and (rule := _foreign(status)):
            return Loaded(skipped=(FileFault(str(self.path), 0, "", rule),))
        faults: list[FileFault] = []
        if len(names) > MAX_FILES:
            faults.append(FileFault(str(self.path), 0, "", f"holds more than {MAX_FILES} files: the rest is skipped"))
        known: dict[str, _Read] = {}
        for name in names[:MAX_FILES]:
            found = self._read(real, name)
            if isinstance(found, FileFault):
                faults.append(found)
            else:
                known[name] = found
        self._known = known
        return _settle(known, faults)

    def _read(self, folder: Path, name: str) -> _Read | FileFault:
        if not _NAME.fullmatch(name):
            shown = ascii(name)[1:-1][:80]
            return FileFault(shown, 0, "", "must be named by A-Z, a-z, 0-9, dot, dash and underscore alone")
        before = self._known.get(name)
        try:
            if before and before.is_still(os.stat(folder / name)):  # noqa: PTH116 - ten thousand of them, every look
                return before
            content, status = self._content(folder, name)
        except OSError as error:
            return FileFault(name, 0, "", f"cannot be read: {_reason(error)}")
        if isinstance(content, str):
            return FileFault(name, 0, "", content)
        digest = hashlib.sha256(content).digest()
        stamp = _stamp(status) if self._clock.now().timestamp() - status.st_ctime > _RACY_SECONDS else None
        if before and before.digest == digest:
            return replace(before, stamp=stamp)
        return replace(_parse(name, content, digest), stamp=stamp)

    def _content(self, folder: Path, name: str) -> tuple[bytes | str, os.stat_result]:
        """Give the content, or the rule that the file breaks."""
        descriptor = os.open(folder / name, _OPEN)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            # Where it really lies is asked of what is open: a link changed meanwhile leads nowhere else.
            real = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - the kernel's own text
            if not real.is_relative_to(folder):
                return "is a link that leads out of the directory", status
            if not stat.S_ISREG(status.st_mode):
                return "is not a regular file", status
            if self._private and (rule := _foreign(status)):
                return rule, status
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            return f"is larger than {MAX_FILE_BYTES} bytes", status
        return content, status


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """Owner and mode are in it by the time of change, which nobody can set back."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_candidate(name: str) -> bool:
    """Hidden files are editors' and Kubernetes' own."""
    return name.endswith(_SUFFIXES) and not name.startswith(".")


def _foreign(status: os.stat_result) -> str | None:
    """Say what is wrong with the owner or the mode of something that is acted upon."""
    if status.st_uid not in (0, os.geteuid()):
        return "belongs to another user than the server's"
    if status.st_mode & _OTHERS_WRITE:
        return f"may be written by others (mode {stat.S_IMODE(status.st_mode):04o}): chmod go-w"
    return None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _parse(name: str, content: bytes, digest: bytes) -> _Read:
    try:
        document = parse_yaml(content)
    except NotStrictYamlError as error:
        field = ".".join(str(part)[:80] for part in error.path)
        return _Read(digest, [FileFault(name, error.line, field, error.rule)], None, 1)
    slug, line = _slug_of(document)
    return _Read(digest, validate(name, document, content), slug, line)


def _slug_of(document: LinedDocument) -> tuple[str | None, int]:
    members = document.value if isinstance(document.value, dict) else {}
    for name in ("slug", "tenant_id"):
        if isinstance(slug := members.get(name), str):
            return slug, document.line_of((name,))
    return None, 1


def _settle(known: dict[str, _Read], faults: list[FileFault]) -> Loaded:
    """Leave out every file whose tenant another file claims: which of them is meant, only their author knows."""
    claims: defaultdict[str, list[str]] = defaultdict(list)
    for name, read in known.items():
        if read.slug is not None:
            claims[read.slug].append(name)
    declared: list[Declaration] = []
    for name, read in known.items():
        rivals = [other for other in claims.get(read.slug or "", ()) if other != name]
        if rivals:
            faults.append(FileFault(name, read.slug_line, "slug", f"is declared in {rivals[0]}, too: neither counts"))
        elif isinstance(read.result, Declaration):
            declared.append(read.result)
        if not isinstance(read.result, Declaration):
            faults.extend(read.result)
    ordered = sorted(faults, key=lambda fault: (fault.file, fault.line))
    return Loaded(tuple(declared), tuple(ordered), tuple((name, read.digest) for name, read in known.items()))


def changed_files(before: Loaded, after: Loaded) -> Iterator[str]:
    """Name the files of `after` that are new or different."""
    known = dict(before.digests)
    yield from (name for name, digest in after.digests if known.get(name) != digest)
