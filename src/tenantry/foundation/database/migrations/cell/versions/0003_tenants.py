"""Tenants, their workspaces and keysets; the outbox and the idempotency records of every later capability."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0003"
down_revision = "0002"

_TABLES = (
    """create table tenantry.tenants (
        tenant_id uuid primary key,
        slug text not null,
        name text not null,
        status text not null check (status in ('pending', 'active', 'suspended', 'deleted')),
        status_reason text,
        plan text not null,
        region text not null,
        isolation text not null check (isolation in ('row_level', 'schema_level', 'database_level')),
        owner jsonb not null,
        settings jsonb not null,
        quotas jsonb not null,
        limits jsonb not null,
        billing jsonb not null,
        contacts jsonb not null,
        metadata jsonb not null,
        compliance jsonb not null,
        slo_overlay jsonb not null,
        label_overlay jsonb not null,
        clock_skew_ms integer not null check (clock_skew_ms between 0 and 300000),
        version bigint not null default 1,
        created_at timestamptz not null,
        updated_at timestamptz not null,
        suspended_at timestamptz,
        deleted_at timestamptz,
        erase_after timestamptz
    )""",
    """create table tenantry.workspaces (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        workspace_id uuid not null,
        name text not null,
        path text not null,
        region text not null,
        owner_type text not null check (owner_type in ('user', 'team', 'ai-agent')),
        owner_id text not null,
        settings jsonb not null,
        slo_overlay jsonb not null default '{}',
        label_overlay jsonb not null default '{}',
        status text not null check (status in ('active', 'suspended', 'archived')),
        status_reason text,
        version bigint not null default 1,
        created_at timestamptz not null,
        updated_at timestamptz not null,
        archived_at timestamptz,
        primary key (tenant_id, workspace_id)
    )""",
    # An archived workspace frees its path.
    "create unique index workspaces_path on tenantry.workspaces (tenant_id, path) where status <> 'archived'",
    """create table tenantry.environments (
        tenant_id uuid not null,
        workspace_id uuid not null,
        slug text not null,
        kind text not null check (kind in ('dev', 'test', 'staging', 'prod')),
        description text not null,
        version bigint not null default 1,
        created_at timestamptz not null,
        updated_at timestamptz not null,
        primary key (tenant_id, workspace_id, slug),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    """create table tenantry.keysets (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        keyset_id uuid not null,
        wrapped bytea not null,
        created_at timestamptz not null,
        primary key (tenant_id, keyset_id)
    )""",
    # Of the platform's own tenant: what it can show of tenants that are no more. Not signed is what is under way.
    """create table tenantry.certificates (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        certificate_id uuid not null,
        subject_id uuid not null,
        document jsonb not null,
        signature bytea,
        created_at timestamptz not null,
        primary key (tenant_id, certificate_id)
    )""",
    "create index certificates_subject on tenantry.certificates (tenant_id, subject_id)",
    """create table tenantry.usage_counters (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        name text not null,
        window_start timestamptz not null,
        amount bigint not null check (amount >= 0),
        primary key (tenant_id, name, window_start)
    )""",
    """create table tenantry.outbox (
        tenant_id uuid not null,
        event_id uuid not null,
        topic text not null,
        payload jsonb not null,
        created_at timestamptz not null default now(),
        primary key (tenant_id, event_id)
    )""",
    """create table tenantry.idempotency_records (
        tenant_id uuid not null,
        principal_id text not null,
        key text not null,
        request_digest bytea not null,
        status_code integer not null,
        resource_id text not null,
        created_at timestamptz not null default now(),
        primary key (tenant_id, principal_id, key)
    )""",
)


def upgrade() -> None:
    run(*_TABLES)
    fence("tenantry.tenants", workspace=False)
    fence("tenantry.workspaces")
    fence("tenantry.environments")
    fence("tenantry.keysets", workspace=False)
    fence("tenantry.certificates", grants="select, insert, update", workspace=False)
    fence("tenantry.usage_counters", workspace=False)
    fence("tenantry.outbox", grants="select, insert", workspace=False)
    fence("tenantry.idempotency_records", workspace=False)
    # Locking a row (for update) needs the right to update some column of it.
    open_to(
        "tenantry.idempotency_records", role="tenantry_dispatcher", grants="select (created_at), delete", name="janitor"
    )
    open_to("tenantry.outbox", role="tenantry_dispatcher", grants="select, update (topic), delete", name="relay")


def downgrade() -> None:
    drop(
        (
            "tenantry.idempotency_records",
            "tenantry.outbox",
            "tenantry.usage_counters",
            "tenantry.certificates",
            "tenantry.keysets",
            "tenantry.environments",
            "tenantry.workspaces",
            "tenantry.tenants",
        )
    )
