"""Tables of secrets; the revision 0018 makes them."""

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, UniqueConstraint, Uuid

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

secrets = Table(
    "secrets",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("secret_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    UniqueConstraint("tenant_id", "workspace_id", "name"),
    belongs_to("workspaces", "workspace_id"),
)
secret_versions = Table(
    "secret_versions",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("secret_id", Uuid, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("sealed", LargeBinary),
    Column("created_at", MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    belongs_to("secrets", "secret_id"),
)
