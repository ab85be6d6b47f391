"""Tables of evidence; the revision 0027 makes them."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

evidence = Table(
    "evidence",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("evidence_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("subject_kind", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("state", "persistence_mode")),
    *(Column(name, JSONB, nullable=False) for name in ("labels", "judged")),
    Column("created_at", MOMENT, nullable=False),
    *(Column(name, MOMENT) for name in ("ended_at", "due_at", "checked_at")),
    Column("faults", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    UniqueConstraint("tenant_id", "workspace_id", "evidence_id"),
    UniqueConstraint("tenant_id", "subject_kind", "subject_id"),
    belongs_to("workspaces", "workspace_id"),
    Index("evidence_due", "due_at", postgresql_where=text("due_at is not null")),
    Index("evidence_ended", "tenant_id", "ended_at", postgresql_where=text("state <> 'wip'")),
)
evidence_envelopes = Table(
    "evidence_envelopes",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("evidence_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, LargeBinary, nullable=False) for name in ("sealed", "sha256")),
    *(Column(name, BigInteger, nullable=False) for name in ("size_bytes", "first_sequence", "last_sequence")),
    Column("locked_at", MOMENT, nullable=False),
    ForeignKeyConstraint(
        ["tenant_id", "workspace_id", "evidence_id"],
        [f"{CELL.schema}.evidence.{name}" for name in ("tenant_id", "workspace_id", "evidence_id")],
        ondelete="CASCADE",
    ),
)
evidence_holds = Table(
    "evidence_holds",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("hold_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("case_id", "reason")),
    Column("subject_kind", Text),
    Column("subject_id", Uuid),
    *(Column(name, Text) for name in ("label_name", "label_value")),
    *(Column(name, MOMENT) for name in ("since", "until")),
    Column("placed_at", MOMENT, nullable=False),
    Column("placed_by", Text, nullable=False),
    Column("released_at", MOMENT),
    *(Column(name, Text) for name in ("released_by", "release_reason")),
    belongs_to("workspaces", "workspace_id"),
    Index(
        "evidence_holds_active",
        "tenant_id",
        "workspace_id",
        postgresql_where=text("released_at is null"),
    ),
)
