"""The tree over each tenant's audit events: its right edge, the hashes above the leaves, and signed checkpoints."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0023"
down_revision = "0022"


_LEAVES = (
    # The leaf is the tree's, not the event's: a proof needs those of events that its reader may not see.
    "alter table tenantry.audit_sequence add column leaf bytea check (length(leaf) = 32)",
    "alter table tenantry.audit_events no force row level security",
    "alter table tenantry.audit_sequence no force row level security",
    """update tenantry.audit_sequence s set leaf = e.leaf
       from tenantry.audit_events e where e.tenant_id = s.tenant_id and e.event_id = s.event_id""",
    "alter table tenantry.audit_events force row level security",
    "alter table tenantry.audit_sequence force row level security",
    "alter table tenantry.audit_sequence alter column leaf set not null",
)


def upgrade() -> None:
    run(*_LEAVES)
    run(
        # Null: a trail that was sealed before there were trees; the sealer grows it from its leaves.
        "alter table tenantry.audit_heads add column frontier bytea",
        """create table tenantry.audit_tiles (
            tenant_id uuid not null,
            level smallint not null check (level > 0),
            position bigint not null check (position >= 0),
            hash bytea not null check (length(hash) = 32),
            primary key (tenant_id, level, position)
        )""",
        # Whose tree has grown since its last checkpoint.
        "create table tenantry.audit_unsigned (tenant_id uuid primary key)",
        """create table tenantry.audit_checkpoints (
            tenant_id uuid not null,
            size bigint not null check (size > 0),
            made_at timestamptz not null,
            note bytea not null,
            primary key (tenant_id, size)
        )""",
    )
    fence("tenantry.audit_tiles", grants="select", workspace=False)
    fence("tenantry.audit_unsigned", grants="select", workspace=False)
    fence("tenantry.audit_checkpoints", grants="select", workspace=False)
    open_to("tenantry.audit_tiles", role="tenantry_sealer", grants="select, insert", name="sealer")
    open_to("tenantry.audit_unsigned", role="tenantry_sealer", grants="select, insert, delete", name="sealer")
    open_to("tenantry.audit_checkpoints", role="tenantry_sealer", grants="select, insert", name="sealer")


def downgrade() -> None:
    drop(("tenantry.audit_checkpoints", "tenantry.audit_unsigned", "tenantry.audit_tiles"))
    run(
        "alter table tenantry.audit_heads drop column frontier",
        "alter table tenantry.audit_sequence drop column leaf",
    )
