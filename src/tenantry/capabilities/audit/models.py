"""The audit tables; the revisions 0002, 0023, 0024, 0025, 0026, 0028 and 0029 make them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

audit_events = Table(
    "audit_events",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    Column("occurred_at", MOMENT, nullable=False),
    Column("actor_type", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("resource_type", Text, nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("canonical", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("sealed", LargeBinary),
    *(
        Index(f"audit_events_{name}", "tenant_id", column, "event_id")
        for name, column in (
            ("action", "action"),
            ("actor", "actor_id"),
            ("resource", "resource_id"),
            ("workspace", "workspace_id"),
        )
    ),
)
audit_unsealed = Table(
    "audit_unsealed",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    belongs_to("audit_events", "event_id", cascade=False),
)
audit_sequence = Table(
    "audit_sequence",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    UniqueConstraint("tenant_id", "event_id"),
)
audit_heads = Table(
    "audit_heads",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary),
    Column("forgotten", Uuid),
    *(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in ("erased", "swept")),
)
audit_tiles = Table(
    "audit_tiles",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("level", SmallInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
)
audit_unsigned = Table("audit_unsigned", CELL, Column("tenant_id", Uuid, primary_key=True))
audit_checkpoints = Table(
    "audit_checkpoints",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("made_at", MOMENT, nullable=False),
    Column("note", LargeBinary, nullable=False),
)
region_log = Table(
    "region_log",
    CELL,
    Column("position", BigInteger, primary_key=True),
    Column("leaf", LargeBinary, nullable=False, unique=True),
    schema="fence",
)
region_tiles = Table(
    "region_tiles",
    CELL,
    Column("level", SmallInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    schema="fence",
)
region_head = Table(
    "region_head",
    CELL,
    Column("head_id", Integer, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    schema="fence",
)
region_roots = Table(
    "region_roots",
    CELL,
    Column("size", BigInteger, primary_key=True),
    Column("made_at", MOMENT, nullable=False),
    Column("note", LargeBinary, nullable=False),
    schema="fence",
)
seen_roots = Table(
    "seen_roots",
    CELL,
    Column("origin", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    schema="fence",
)
audit_index = Table(
    "audit_index", CELL, Column("tenant_id", Uuid, primary_key=True), Column("sequence", BigInteger, nullable=False)
)
audit_words = Table(
    "audit_words",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("word", Text(collation="C"), primary_key=True),
    Column("block", BigInteger, primary_key=True),
)
audit_days = Table(
    "audit_days",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in ("first", "last", "events")),
    *(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in ("written", "epoch")),
    Column("size_bytes", BigInteger),
    Column("sha256", LargeBinary),
    *(Column(name, MOMENT) for name in ("closed_at", "due_at", "lease_until")),
    Index("audit_days_due", "due_at", postgresql_where=text("due_at is not null")),
)
audit_streams = Table(
    "audit_streams",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("stream_id", Uuid, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("name", "kind", "format", "hint", "status", "created_by")),
    *(Column(name, Text) for name in ("directory", "paused_because", "last_error")),
    Column("sealed", LargeBinary),
    Column("filter", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("position", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in ("sent", "epoch")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    *(Column(name, MOMENT, nullable=False) for name in ("created_at", "updated_at", "next_attempt_at")),
    *(Column(name, MOMENT) for name in ("failing_since", "last_sent_at", "lease_until")),
    UniqueConstraint("tenant_id", "name"),
    belongs_to("tenants"),
    Index("audit_streams_due", "next_attempt_at", postgresql_where=text("status = 'active'")),
)
audit_forgettings = Table(
    "audit_forgettings",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("forgetting_id", Uuid, primary_key=True),
    Column("principal", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    Column("requested_at", MOMENT, nullable=False),
    Column("requested_by", Text, nullable=False),
    *(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in ("position", "forgotten")),
    *(Column(name, MOMENT) for name in ("due_at", "ended_at")),
    Index("audit_forgettings_open", "tenant_id", "principal", unique=True, postgresql_where=text("state <> 'done'")),
    Index("audit_forgettings_due", "due_at", postgresql_where=text("due_at is not null")),
)
sealer_gate = Table(
    "sealer_gate",
    CELL,
    Column("gate_id", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    schema="fence",
)
