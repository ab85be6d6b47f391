"""The quota ledger: counters, and the reservations they are the sums of; limits as numbers beside rates."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0015"
down_revision = "0014"

# The round that proves the ledger asks who has used something since it last came.
_ROUND = "select (tenant_id, updated_at)"


def upgrade() -> None:
    run(
        "alter table tenantry.limit_overrides add column numbers jsonb not null default '{}'",
        """create table tenantry.quota_counters (
            tenant_id uuid not null references tenantry.tenants on delete cascade,
            holder_id uuid not null,
            quota text not null,
            window_start timestamptz not null,
            held bigint not null default 0 check (held >= 0),
            used bigint not null default 0 check (used >= 0),
            updated_at timestamptz not null,
            primary key (tenant_id, holder_id, quota, window_start)
        ) with (fillfactor = 70)""",
        "create index quota_counters_updated on tenantry.quota_counters (updated_at)",
        """create table tenantry.reservations (
            tenant_id uuid not null references tenantry.tenants on delete cascade,
            reservation_id uuid not null,
            quota text not null,
            kind text not null,
            workspace_id uuid,
            window_start timestamptz not null,
            amount bigint not null check (amount >= 0),
            used bigint not null default 0 check (used >= 0),
            state text not null,
            created_at timestamptz not null,
            settled_at timestamptz,
            expires_at timestamptz,
            primary key (tenant_id, reservation_id, quota),
            foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
        ) with (fillfactor = 70)""",
        """create index reservations_expiring on tenantry.reservations (tenant_id, expires_at)
           where state = 'held' and expires_at is not null""",
    )
    # A workspace's session charges its tenant's counters, too: they are numbers.
    fence("tenantry.quota_counters", workspace=False)
    fence("tenantry.reservations")
    open_to("tenantry.quota_counters", role="tenantry_dispatcher", grants=_ROUND, name="dispatcher")


def downgrade() -> None:
    drop(("tenantry.reservations", "tenantry.quota_counters"))
    run("alter table tenantry.limit_overrides drop column numbers")
