"""Tables of access; the revisions 0004 and 0007 make them."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL

_MOMENT = DateTime(timezone=True)


def _of_tenant() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id"], ["tenantry.tenants.tenant_id"], ondelete="CASCADE")


def _of_workspace() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["tenant_id", "workspace_id"],
        ["tenantry.workspaces.tenant_id", "tenantry.workspaces.workspace_id"],
        ondelete="CASCADE",
    )


bindings = Table(
    "bindings",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("binding_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("principal_type", "principal_id", "role", "created_by")),
    Column("created_at", _MOMENT, nullable=False),
    Column("effect", Text, nullable=False, server_default=text("'allow'")),
    Column("condition", JSONB, nullable=False, server_default=text("'{}'")),
    Column("kept_by", Text, nullable=False, server_default=text("''")),
    UniqueConstraint(
        *("tenant_id", "workspace_id", "principal_id", "role", "effect", "condition", "kept_by"),
        name="bindings_once",
        postgresql_nulls_not_distinct=True,
    ),
    Index("bindings_principal", "tenant_id", "principal_id"),
    _of_tenant(),
    _of_workspace(),
)
roles = Table(
    "roles",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("slug", Text, primary_key=True),
    Column("workspace_id", Uuid),
    Column("description", Text, nullable=False),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", _MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    _of_tenant(),
    _of_workspace(),
)
groups = Table(
    "groups",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("group_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("name", "description", "created_by")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", _MOMENT, nullable=False),
    UniqueConstraint("tenant_id", "workspace_id", "name", name="groups_name", postgresql_nulls_not_distinct=True),
    _of_tenant(),
    _of_workspace(),
)
group_members = Table(
    "group_members",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("group_id", Uuid, primary_key=True),
    Column("principal_id", Text, primary_key=True),
    Column("principal_type", Text, nullable=False),
    Column("added_at", _MOMENT, nullable=False),
    Column("added_by", Text, nullable=False),
    Index("group_members_principal", "tenant_id", "principal_id"),
    ForeignKeyConstraint(
        ["tenant_id", "group_id"], ["tenantry.groups.tenant_id", "tenantry.groups.group_id"], ondelete="CASCADE"
    ),
)
