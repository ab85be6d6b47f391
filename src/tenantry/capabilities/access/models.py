"""Tables of access; the revision 0004 makes them."""

from sqlalchemy import Column, DateTime, ForeignKeyConstraint, Table, Text, UniqueConstraint, Uuid

from tenantry.foundation.database.tables import CELL

bindings = Table(
    "bindings",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("binding_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("principal_type", "principal_id", "role", "created_by")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("tenant_id", "workspace_id", "principal_id", "role", postgresql_nulls_not_distinct=True),
    ForeignKeyConstraint(["tenant_id"], ["tenantry.tenants.tenant_id"], ondelete="CASCADE"),
    ForeignKeyConstraint(
        ["tenant_id", "workspace_id"],
        ["tenantry.workspaces.tenant_id", "tenantry.workspaces.workspace_id"],
        ondelete="CASCADE",
    ),
)
