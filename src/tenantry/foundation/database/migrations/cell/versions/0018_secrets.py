"""Secrets of workspaces in versions, sealed by the tenant's key, and which of them a job is given."""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run(
        """create table tenantry.secrets (
            tenant_id uuid not null,
            secret_id uuid not null,
            workspace_id uuid not null,
            name text not null check (name <> ''),
            version bigint not null check (version > 0),
            created_at timestamptz not null,
            created_by text not null,
            updated_at timestamptz not null,
            primary key (tenant_id, secret_id),
            unique (tenant_id, workspace_id, name),
            foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
        )""",
        # Of old versions the row stays and the value goes.
        """create table tenantry.secret_versions (
            tenant_id uuid not null,
            secret_id uuid not null,
            version bigint not null check (version > 0),
            workspace_id uuid not null,
            sealed bytea,
            created_at timestamptz not null,
            created_by text not null,
            primary key (tenant_id, secret_id, version),
            foreign key (tenant_id, secret_id) references tenantry.secrets on delete cascade
        )""",
        "alter table tenantry.jobs add column secrets jsonb not null default '[]'",
    )
    for table in ("secrets", "secret_versions"):
        fence(f"tenantry.{table}")


def downgrade() -> None:
    run("alter table tenantry.jobs drop column secrets")
    drop(("tenantry.secret_versions", "tenantry.secrets"))
