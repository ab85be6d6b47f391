"""Tables of access; the revisions 0004, 0007 and 0008 make them."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
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
grants = Table(
    "grants",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("grant_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("principal_type", "principal_id", "role_asked", "role")),
    *(Column(name, Text, nullable=False) for name in ("reason", "status", "requested_by")),
    *(Column(name, Text) for name in ("provider", "ended_by", "end_reason")),
    Column("minutes", Integer, nullable=False),
    *(Column(name, Integer) for name in ("extension_minutes", "granted_minutes")),
    *(Column(name, Uuid) for name in ("approval_id", "extension_approval_id")),
    Column("granted_by", ARRAY(Text), nullable=False),
    Column("requested_at", _MOMENT, nullable=False),
    *(Column(name, _MOMENT) for name in ("active_at", "expires_at", "notice_at", "due_at", "ended_at")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    _of_workspace(),
    *(
        ForeignKeyConstraint(["tenant_id", name], ["tenantry.approvals.tenant_id", "tenantry.approvals.approval_id"])
        for name in ("approval_id", "extension_approval_id")
    ),
    Index("grants_workspace", "tenant_id", "workspace_id", "grant_id"),
    Index("grants_open", "tenant_id", "principal_id", postgresql_where=text("ended_at is null")),
    Index("grants_due", "due_at", postgresql_where=text("due_at is not null")),
)
