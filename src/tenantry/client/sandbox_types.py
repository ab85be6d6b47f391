"""Shapes of answers about sandboxes that live, and what is in one that runs."""

from typing import Any, TypedDict


class Sandbox(TypedDict, total=False):
    """`status` is starting, running, stopping, stopped or failed; `kept` is what the next start begins from."""

    id: str
    workspace: str
    name: str
    status: str
    reason: str | None
    detail: str | None
    image: str
    labels: dict[str, str]
    limits: dict[str, float]
    persistence_mode: str
    files_kept: bool
    ttl_seconds: int
    idle_seconds: int
    job: str | None
    created_at: str
    created_by: str
    started_at: str | None
    expires_at: str | None
    kept: dict[str, Any] | None


class Snapshot(TypedDict, total=False):
    id: str
    sandbox: str
    name: str
    size_bytes: int
    files: int
    sha256: str
    created_at: str
    created_by: str


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
