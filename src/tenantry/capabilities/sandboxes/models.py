"""Tables of sandboxes; the revisions 0005 and 0006 make them (the queue's own are the engine's)."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

images = Table(
    "images",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("image_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("name", "digest", "source", "created_by")),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    UniqueConstraint("tenant_id", "workspace_id", "name"),
    belongs_to("workspaces", "workspace_id"),
)
jobs = Table(
    "jobs",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("job_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("principal_id", "status", "image", "persistence_mode", "place")),
    *(Column(name, Text) for name in ("reason", "detail", "image_digest")),
    Column("exit_code", Integer),
    *(Column(name, ARRAY(Text), nullable=False) for name in ("command", "artifact_globs")),
    Column("environment", Text),
    *(Column(name, JSONB, nullable=False) for name in ("labels", "limits", "inputs", "usage")),
    *(Column(name, JSONB, nullable=False, server_default=text("'[]'")) for name in ("secrets", "network", "phases")),
    Column("receipt", JSONB),
    *(Column(name, LargeBinary) for name in ("content_key", "transient_key", "given", "given_inputs", "log_sha256")),
    *(Column(name, Uuid) for name in ("transient_holder", "grant_id")),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("log_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("queued_at", MOMENT, nullable=False),
    *(Column(name, MOMENT) for name in ("started_at", "finished_at", "content_until", "content_purged_at")),
    belongs_to("workspaces", "workspace_id"),
    Index("jobs_workspace", "tenant_id", "workspace_id", "job_id"),
    Index(
        "jobs_grant",
        "tenant_id",
        "grant_id",
        postgresql_where=text("grant_id is not null and finished_at is null"),
    ),
    Index("jobs_open", "tenant_id", "workspace_id", postgresql_where=text("finished_at is null")),
    Index(
        "jobs_content",
        "tenant_id",
        "content_until",
        postgresql_where=text("content_until is not null and content_purged_at is null"),
    ),
)
job_logs = Table(
    "job_logs",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("job_id", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("stream", Text, nullable=False),
    Column("at", MOMENT, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    belongs_to("jobs", "job_id"),
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
    Column("created_at", MOMENT, nullable=False),
    UniqueConstraint("tenant_id", "job_id", "path"),
    belongs_to("jobs", "job_id"),
)
