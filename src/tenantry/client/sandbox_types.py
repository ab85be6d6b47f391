"""Shapes of answers about what is in a running sandbox."""

from typing import TypedDict


class ExecResult(TypedDict):
    """`exit_code` is None when somebody else ended it; `ending` says how, `truncated` that it wrote too much."""

    exit_code: int | None
    ending: str
    detail: str
    stdout: str
    stderr: str
    truncated: bool


class FileEntry(TypedDict):
    """`kind` is file, directory, link or other; `mode` the permission bits, octal."""

    path: str
    kind: str
    size_bytes: int
    mode: str
    modified_at: str


class FileListing(TypedDict):
    """What a path names, and what lies in it."""

    file: FileEntry | None
    items: list[FileEntry]


class PortToken(TypedDict):
    """`url` is the path of this server at which the port answers, the token in it."""

    token: str
    url: str
    expires_at: str
