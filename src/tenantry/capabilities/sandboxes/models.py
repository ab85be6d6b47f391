"""Tables of sandboxes; the revisions 0005 and 0006 make them (the queue's own are the engine's)."""

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, Integer, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL

_MOMENT = DateTime(timezone=True)

images = Table(
    "images",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("image_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("name", "digest", "source", "created_by")),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
)
jobs = Table(
    "jobs",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("job_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("principal_id", "status", "image", "persistence_mode")),
    *(Column(name, Text) for name in ("reason", "detail", "image_digest")),
    Column("exit_code", Integer),
    *(Column(name, ARRAY(Text), nullable=False) for name in ("command", "artifact_globs")),
    *(Column(name, JSONB, nullable=False) for name in ("labels", "limits", "inputs", "usage")),
    Column("receipt", JSONB),
    *(Column(name, LargeBinary) for name in ("content_key", "environment", "log_sha256")),
    Column("attempt", Integer, nullable=False),
    Column("log_bytes", BigInteger, nullable=False),
    Column("queued_at", _MOMENT, nullable=False),
    *(Column(name, _MOMENT) for name in ("started_at", "finished_at", "content_until", "content_purged_at")),
)
job_logs = Table(
    "job_logs",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("job_id", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("stream", Text, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
artifacts = Table(
    "artifacts",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("artifact_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
)
purges = Table(
    "purges",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("job_id", Uuid, primary_key=True),
    Column("due_at", _MOMENT, nullable=False),
    schema="queue",
)
