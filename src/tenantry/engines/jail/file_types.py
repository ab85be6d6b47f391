"""What is told of files in a sandbox's /workspace. Every path is relative to it, `/`-separated; empty is itself."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FileKind(StrEnum):
    """`other` is a pipe, a socket or a device."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """`mode` is the permission bits; a link is told as such, its own size and time with it."""

    path: str
    kind: FileKind
    size_bytes: int
    mode: int
    modified_at: datetime


class ChangeKind(StrEnum):
    """`overflow`: more happened than could be told, so whoever watches must look for themselves."""

    CREATED = "created"
    MODIFIED = "modified"
    DELETED = "deleted"
    MOVED = "moved"
    OVERFLOW = "overflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """`path` is where it is now; `moved_from` where it was, of one that was moved inside what is watched."""

    kind: ChangeKind
    path: str = ""
    moved_from: str = ""
