"""What the server tells of sandboxes. Answers may grow: more keys than these can be there."""

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
