"""The audit tables; the revisions 0002, 0023 and 0024 make them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

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
    belongs_to("audit_events", "event_id", cascade=False),
)
audit_heads = Table(
    "audit_heads",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary),
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
sealer_gate = Table(
    "sealer_gate",
    CELL,
    Column("gate_id", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    schema="fence",
)
