"""The metadata that models join: Alembic and the test that models equal head read it; servers never import it."""

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

CELL = MetaData(schema="tenantry")
DIRECTORY = MetaData(schema="directory")
MOMENT = DateTime(timezone=True)


def belongs_to(
    table: str, column: str | None = None, *, named: str | None = None, cascade: bool = True
) -> ForeignKeyConstraint:
    """Refer to a row of the same tenant, or without `column` to the tenant's own, and go with it.

    `named` is the column here, where it has another name; with `cascade` False the other row cannot go before this.
    """
    here = ["tenant_id", *([named or column] if column else [])]
    there = [f"{CELL.schema}.{table}.{name}" for name in ("tenant_id", column) if name]
    return ForeignKeyConstraint(here, there, ondelete="CASCADE" if cascade else None)


# The foundation's own tables; the revision 0003 makes them.
outbox = Table(
    "outbox",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=text("now()")),
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
    Column("created_at", MOMENT, nullable=False, server_default=text("now()")),
)
