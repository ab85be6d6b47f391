"""Tables of access; the revisions 0004, 0007 and 0008 make them."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

bindings = Table(
    "bindings",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("binding_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("principal_type", "principal_id", "role", "created_by")),
    Column("created_at", MOMENT, nullable=False),
    Column("effect", Text, nullable=False, server_default=text("'allow'")),
    Column("condition", JSONB, nullable=False, server_default=text("'{}'")),
    Column("kept_by", Text, nullable=False, server_default=text("''")),
    UniqueConstraint(
        *("tenant_id", "workspace_id", "principal_id", "role", "effect", "condition", "kept_by"),
        name="bindings_once",
        postgresql_nulls_not_distinct=True,
    ),
    Index("bindings_principal", "tenant_id", "principal_id"),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
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
    Column("created_at", MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
)
groups = Table(
    "groups",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("group_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("name", "description", "created_by")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", MOMENT, nullable=False),
    UniqueConstraint("tenant_id", "workspace_id", "name", name="groups_name", postgresql_nulls_not_distinct=True),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
)
group_members = Table(
    "group_members",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("group_id", Uuid, primary_key=True),
    Column("principal_id", Text, primary_key=True),
    Column("principal_type", Text, nullable=False),
    Column("added_at", MOMENT, nullable=False),
    Column("added_by", Text, nullable=False),
    Index("group_members_principal", "tenant_id", "principal_id"),
    belongs_to("groups", "group_id"),
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
    Column("requested_at", MOMENT, nullable=False),
    *(Column(name, MOMENT) for name in ("active_at", "expires_at", "notice_at", "due_at", "ended_at")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    belongs_to("workspaces", "workspace_id"),
    *(
        belongs_to("approvals", "approval_id", named=name, cascade=False)
        for name in ("approval_id", "extension_approval_id")
    ),
    Index("grants_workspace", "tenant_id", "workspace_id", "grant_id"),
    Index("grants_open", "tenant_id", "principal_id", postgresql_where=text("ended_at is null")),
    Index("grants_due", "due_at", postgresql_where=text("due_at is not null")),
)
