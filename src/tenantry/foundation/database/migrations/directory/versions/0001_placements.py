"""The directory: which tenant lives where. No content, no personal data beyond the slug."""

from alembic import op

revision = "0001"
down_revision = None


_STATEMENTS = (
    """create table directory.tenants (
        tenant_id uuid primary key,
        slug text not null unique check (slug ~ '^[a-z0-9-]{2,40}$'),
        region text not null,
        isolation text not null check (isolation in ('row_level', 'schema_level', 'database_level')),
        placement text not null,
        status text not null check (status in ('pending', 'active', 'suspended', 'deleted', 'erased')),
        created_at timestamptz not null default now()
    )""",
    """create table directory.workspaces (
        workspace_id uuid primary key,
        tenant_id uuid not null references directory.tenants on delete cascade,
        region text not null,
        created_at timestamptz not null default now()
    )""",
    # Moves, exports, imports and erasures, which outlive the process that began them: ids, places and steps only.
    """create table directory.operations (
        operation_id uuid primary key,
        tenant_id uuid not null,
        kind text not null check (kind in ('move', 'export', 'import', 'erase')),
        status text not null check (status in ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),
        step text not null,
        source_region text not null,
        source_isolation text not null,
        source_placement text not null,
        target_region text not null,
        target_isolation text not null,
        target_placement text not null,
        requested_by text not null,
        confirmed_by text,
        failure text,
        grace_seconds integer not null,
        due_at timestamptz not null,
        epoch bigint not null default 0,
        lease_until timestamptz not null default '-infinity',
        created_at timestamptz not null,
        updated_at timestamptz not null
    )""",
    "create index operations_tenant on directory.operations (tenant_id, operation_id)",
    """create unique index operations_open on directory.operations (tenant_id)
        where status in ('waiting', 'running') and kind <> 'erase'""",
    """create unique index operations_erasure on directory.operations (tenant_id)
        where status = 'running' and kind = 'erase'""",
    "create index operations_due on directory.operations (due_at) where status = 'running'",
    "create index workspaces_tenant on directory.workspaces (tenant_id)",
    "grant usage on schema directory to tenantry_directory",
    """grant select, insert, update, delete on directory.tenants, directory.workspaces, directory.operations
       to tenantry_directory""",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop table directory.operations")
    op.execute("drop table directory.workspaces")
    op.execute("drop table directory.tenants")
