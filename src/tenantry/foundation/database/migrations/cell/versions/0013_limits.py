"""What tenants and workspaces set of their own limits."""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run(
        """create table tenantry.limit_overrides (
            tenant_id uuid not null references tenantry.tenants on delete cascade,
            override_id uuid not null,
            workspace_id uuid,
            rates jsonb not null,
            version bigint not null default 1,
            updated_at timestamptz not null,
            updated_by text not null,
            primary key (tenant_id, override_id),
            constraint limit_overrides_place unique nulls not distinct (tenant_id, workspace_id),
            foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
        )"""
    )
    fence("tenantry.limit_overrides")


def downgrade() -> None:
    drop(("tenantry.limit_overrides",))
