"""Who may come in (users, service accounts, API keys) and what each may do (bindings)."""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0004"
down_revision = "0003"

_TABLES = (
    """create table tenantry.users (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        user_id uuid not null,
        issuer text not null,
        subject text not null,
        email text not null,
        name text not null,
        status text not null check (status in ('active', 'disabled')),
        version bigint not null default 1,
        created_at timestamptz not null,
        primary key (tenant_id, user_id),
        unique (tenant_id, issuer, subject)
    )""",
    """create table tenantry.service_accounts (
        tenant_id uuid not null,
        service_account_id uuid not null,
        workspace_id uuid not null,
        name text not null,
        status text not null check (status in ('active', 'disabled')),
        version bigint not null default 1,
        created_at timestamptz not null,
        primary key (tenant_id, service_account_id),
        unique (tenant_id, workspace_id, name),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    """create table tenantry.api_keys (
        tenant_id uuid not null,
        key_id uuid not null,
        workspace_id uuid,
        principal_type text not null check (principal_type in ('user', 'service_account', 'system')),
        principal_id text not null,
        name text not null,
        lookup bytea not null,
        scheme text not null check (scheme in ('hmac-sha256')),
        verifier bytea not null,
        roles text[] not null,
        permissions text[] not null,
        allowed_networks text[] not null,
        status text not null check (status in ('active', 'grace', 'retired', 'revoked')),
        created_at timestamptz not null,
        created_by text not null,
        expires_at timestamptz,
        last_used_at timestamptz,
        revoked_at timestamptz,
        primary key (tenant_id, key_id),
        unique (tenant_id, lookup)
    )""",
    """create table tenantry.bindings (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        binding_id uuid not null,
        workspace_id uuid,
        principal_type text not null check (principal_type in ('user', 'service_account')),
        principal_id text not null,
        role text not null,
        created_at timestamptz not null,
        created_by text not null,
        primary key (tenant_id, binding_id),
        unique nulls not distinct (tenant_id, workspace_id, principal_id, role),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
)


def upgrade() -> None:
    run(*_TABLES)
    fence("tenantry.users", workspace=False)
    fence("tenantry.service_accounts")
    fence("tenantry.api_keys")
    fence("tenantry.bindings")


def downgrade() -> None:
    drop(("tenantry.bindings", "tenantry.api_keys", "tenantry.service_accounts", "tenantry.users"))
