"""The audit tables; the revision 0002 makes them."""

from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, Table, Text, Uuid

from tenantry.foundation.database.tables import CELL

audit_events = Table(
    "audit_events",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("actor_type", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("resource_type", Text, nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("canonical", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
)
audit_unsealed = Table(
    "audit_unsealed",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
)
audit_sequence = Table(
    "audit_sequence",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("event_id", Uuid, nullable=False),
)
audit_heads = Table(
    "audit_heads", CELL, Column("tenant_id", Uuid, primary_key=True), Column("size", BigInteger, nullable=False)
)
sealer_gate = Table(
    "sealer_gate",
    CELL,
    Column("gate_id", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    schema="fence",
)
