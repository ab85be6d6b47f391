"""Tables of approvals; the revision 0008 makes them."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

approvals = Table(
    "approvals",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("approval_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("kind", "subject_id", "summary", "requested_by", "status")),
    Column("digest", LargeBinary, nullable=False),
    Column("excluded", ARRAY(Text), nullable=False),
    Column("eligible", ARRAY(Text)),
    Column("needed", Integer, nullable=False),
    *(Column(name, Integer) for name in ("minutes", "granted_minutes")),
    Column("persistence_mode", Text, nullable=False),
    Column("content_key", LargeBinary),
    Column("escalate_to", ARRAY(Text), nullable=False),
    *(Column(name, MOMENT, nullable=False) for name in ("expires_at", "created_at")),
    *(Column(name, MOMENT) for name in ("escalate_at", "escalated_at", "due_at", "decided_at", "consumed_at")),
    *(Column(name, MOMENT) for name in ("content_until", "content_purged_at")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    belongs_to("workspaces", "workspace_id"),
    Index("approvals_workspace", "tenant_id", "workspace_id", "approval_id"),
    Index("approvals_due", "due_at", postgresql_where=text("due_at is not null")),
)
approval_decisions = Table(
    "approval_decisions",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("approval_id", Uuid, primary_key=True),
    Column("principal_id", Text, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("actor_id", "vote")),
    Column("minutes", Integer),
    Column("comment", LargeBinary),
    Column("comment_bytes", Integer, nullable=False),
    Column("comment_sha256", LargeBinary),
    Column("decided_at", MOMENT, nullable=False),
    belongs_to("approvals", "approval_id"),
)
