"""The metadata that models join: Alembic and the test that models equal head read it; servers never import it."""

from sqlalchemy import Column, DateTime, Integer, LargeBinary, MetaData, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

CELL = MetaData(schema="tenantry")
DIRECTORY = MetaData(schema="directory")

# The foundation's own tables; the revision 0003 makes them.
outbox = Table(
    "outbox",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)
idempotency_records = Table(
    "idempotency_records",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("principal_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_digest", LargeBinary, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)
