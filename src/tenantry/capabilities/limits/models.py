"""Tables of limits; the revision 0013 makes them."""

from sqlalchemy import BigInteger, Column, Table, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

limit_overrides = Table(
    "limit_overrides",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("override_id", Uuid, primary_key=True),
    # None: of the tenant as a whole.
    Column("workspace_id", Uuid),
    Column("rates", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("updated_at", MOMENT, nullable=False),
    Column("updated_by", Text, nullable=False),
    UniqueConstraint("tenant_id", "workspace_id", name="limit_overrides_place", postgresql_nulls_not_distinct=True),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
)
