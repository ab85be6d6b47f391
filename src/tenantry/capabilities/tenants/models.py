"""Tables of tenants; revisions `cell` 0003 and `directory` 0001 to 0003 make them."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, DIRECTORY, MOMENT, belongs_to

tenants = Table(
    "tenants",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("plan", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("isolation", Text, nullable=False),
    *(
        Column(name, JSONB, nullable=False)
        for name in ("owner", "settings", "quotas", "limits", "billing", "contacts", "metadata")
    ),
    *(Column(name, JSONB, nullable=False) for name in ("compliance", "slo_overlay", "label_overlay")),
    Column("clock_skew_ms", Integer, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", MOMENT, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    Column("suspended_at", MOMENT),
    Column("deleted_at", MOMENT),
    Column("erase_after", MOMENT),
)
workspaces = Table(
    "workspaces",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("name", "path", "region", "owner_type", "owner_id")),
    Column("settings", JSONB, nullable=False),
    *(
        Column(name, JSONB, nullable=False, server_default=text("'{}'::jsonb"))
        for name in ("slo_overlay", "label_overlay")
    ),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", MOMENT, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    Column("archived_at", MOMENT),
    belongs_to("tenants"),
    Index("workspaces_path", "tenant_id", "path", unique=True, postgresql_where=text("status <> 'archived'")),
)
environments = Table(
    "environments",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, primary_key=True),
    Column("slug", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", MOMENT, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    belongs_to("workspaces", "workspace_id"),
)
keysets = Table(
    "keysets",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("keyset_id", Uuid, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    belongs_to("tenants"),
)
certificates = Table(
    "certificates",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("certificate_id", Uuid, primary_key=True),
    Column("subject_id", Uuid, nullable=False),
    Column("document", JSONB, nullable=False),
    Column("signature", LargeBinary),
    Column("created_at", MOMENT, nullable=False),
    belongs_to("tenants"),
    Index("certificates_subject", "tenant_id", "subject_id"),
)
usage_counters = Table(
    "usage_counters",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("window_start", MOMENT, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    belongs_to("tenants"),
)
purges = Table(
    "purges",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("item_id", Uuid, primary_key=True),
    Column("due_at", MOMENT, nullable=False),
    Column("holder", Uuid),
    Index("purges_due", "due_at"),
    Index("purges_holder", "holder", postgresql_where=text("holder is not null")),
    schema="queue",
)
directory_tenants = Table(
    "tenants",
    DIRECTORY,
    Column("tenant_id", Uuid, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("slug", "region", "isolation", "placement", "status")),
    Column("created_at", MOMENT, nullable=False, server_default=text("now()")),
    UniqueConstraint("slug"),
    Index("tenants_places", "region", "placement", postgresql_where=text("placement <> 'tenantry'")),
)
directory_workspaces = Table(
    "workspaces",
    DIRECTORY,
    Column("workspace_id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("region", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=text("now()")),
    ForeignKeyConstraint(["tenant_id"], ["directory.tenants.tenant_id"], ondelete="CASCADE"),
    Index("workspaces_tenant", "tenant_id"),
)
directory_operations = Table(
    "operations",
    DIRECTORY,
    Column("operation_id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    *(
        Column(name, Text, nullable=False)
        for name in (
            "kind",
            "status",
            "step",
            "source_region",
            "source_isolation",
            "source_placement",
            "target_region",
            "target_isolation",
            "target_placement",
            "requested_by",
        )
    ),
    Column("confirmed_by", Text),
    Column("failure", Text),
    Column("grace_seconds", Integer, nullable=False),
    Column("due_at", MOMENT, nullable=False),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    Column("lease_until", MOMENT, nullable=False, server_default=text("'-infinity'::timestamptz")),
    Column("created_at", MOMENT, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    Column("ending", Text),
    Column("cancelled_by", Text),
    Column("step_since", MOMENT, nullable=False),
    Index("operations_tenant", "tenant_id", "operation_id"),
    Index(
        "operations_open",
        "tenant_id",
        unique=True,
        postgresql_where=text("status in ('waiting', 'running') and kind <> 'erase'"),
    ),
    Index(
        "operations_erasure",
        "tenant_id",
        unique=True,
        postgresql_where=text("status = 'running' and kind = 'erase'"),
    ),
    Index("operations_due", "due_at", postgresql_where=text("status = 'running'")),
)
