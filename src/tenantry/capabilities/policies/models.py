"""Tables of policies; the revision 0017 makes them."""

from sqlalchemy import BigInteger, Column, Index, Table, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

policies = Table(
    "policies",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("policy_id", Uuid, primary_key=True),
    # None: of the tenant as a whole.
    Column("workspace_id", Uuid),
    Column("kind", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("state", "digest")),
    Column("document", JSONB, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("changed_at", MOMENT, nullable=False),
    UniqueConstraint(
        "tenant_id",
        "workspace_id",
        "kind",
        "version",
        name="policies_version",
        postgresql_nulls_not_distinct=True,
    ),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
    Index(
        "policies_live",
        "tenant_id",
        "workspace_id",
        "kind",
        "state",
        unique=True,
        postgresql_where=text("state in ('enforced', 'shadow')"),
        postgresql_nulls_not_distinct=True,
    ),
)
exemptions = Table(
    "exemptions",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("exemption_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("kind", "rule", "owner", "reason")),
    *(Column(name, MOMENT, nullable=False) for name in ("expires_at", "created_at")),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", MOMENT),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
    Index(
        "exemptions_open",
        "tenant_id",
        "expires_at",
        postgresql_where=text("revoked_at is null"),
    ),
)
policy_decisions = Table(
    "policy_decisions",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("decision_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("at", MOMENT, nullable=False),
    Column("principal", Text, nullable=False),
    Column("subject", JSONB, nullable=False),
    Column("verdict", Text, nullable=False),
    *(Column(name, Text) for name in ("layer", "rule")),
    Column("reasons", JSONB, nullable=False),
    *(Column(name, Text) for name in ("shadow_verdict", "shadow_rule", "shadow_of")),
    belongs_to("workspaces", "workspace_id"),
    Index("policy_decisions_workspace", "tenant_id", "workspace_id", "decision_id"),
)
