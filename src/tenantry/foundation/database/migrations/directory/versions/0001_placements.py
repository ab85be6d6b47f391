"""The directory: which tenant lives where. No content, no personal data beyond the slug."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    for statement in (
        """create table directory.tenants (
            tenant_id uuid primary key,
            slug text not null unique check (slug ~ '^[a-z0-9-]{2,40}$'),
            region text not null,
            isolation text not null check (isolation in ('row_level', 'schema_level', 'database_level')),
            placement text not null,
            status text not null check (status in ('pending', 'active', 'suspended', 'deleted')),
            created_at timestamptz not null default now()
        )""",
        """create table directory.workspaces (
            workspace_id uuid primary key,
            tenant_id uuid not null references directory.tenants on delete cascade,
            region text not null,
            created_at timestamptz not null default now()
        )""",
        "create index workspaces_tenant on directory.workspaces (tenant_id)",
        "grant usage on schema directory to tenantry_directory",
        "grant select, insert, update, delete on directory.tenants, directory.workspaces to tenantry_directory",
    ):
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop table directory.workspaces")
    op.execute("drop table directory.tenants")
