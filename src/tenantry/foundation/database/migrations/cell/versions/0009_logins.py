"""Identity providers, logins of people with their refresh tokens, and invitations."""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0009"
down_revision = "0008"

_TABLES = (
    """create table tenantry.identity_providers (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        provider_id uuid not null,
        slug text not null,
        name text not null,
        issuer text not null,
        client_id text not null,
        sealed_secret bytea,
        scopes text[] not null,
        rules jsonb not null,
        redirects text[] not null,
        accepts_invitations boolean not null,
        status text not null check (status in ('active', 'disabled')),
        version bigint not null default 1,
        created_at timestamptz not null,
        created_by text not null,
        primary key (tenant_id, provider_id),
        unique (tenant_id, slug)
    )""",
    # A login outlives its provider: the trail names it, and `revoked_reason` says what became of it.
    """create table tenantry.logins (
        tenant_id uuid not null,
        login_id uuid not null,
        user_id uuid not null,
        provider_id uuid not null,
        kind text not null check (kind in ('web', 'program')),
        lookup bytea,
        verifier bytea,
        auth_time timestamptz not null,
        created_at timestamptz not null,
        last_seen_at timestamptz not null,
        expires_at timestamptz not null,
        revoked_at timestamptz,
        revoked_reason text,
        primary key (tenant_id, login_id),
        unique (tenant_id, lookup),
        foreign key (tenant_id, user_id) references tenantry.users on delete cascade
    )""",
    "create index logins_user on tenantry.logins (tenant_id, user_id)",
    """create table tenantry.login_flows (
        tenant_id uuid not null,
        flow_id uuid not null,
        provider_id uuid not null,
        kind text not null check (kind in ('web', 'program')),
        state bytea not null,
        browser bytea not null,
        redirect text not null,
        challenge text,
        client_state text,
        ip text,
        created_at timestamptz not null,
        expires_at timestamptz not null,
        used_at timestamptz,
        login_id uuid,
        code bytea,
        code_used_at timestamptz,
        primary key (tenant_id, flow_id),
        unique (tenant_id, state),
        unique (tenant_id, code),
        foreign key (tenant_id, provider_id) references tenantry.identity_providers on delete cascade,
        foreign key (tenant_id, login_id) references tenantry.logins on delete cascade
    )""",
    "create index login_flows_expiry on tenantry.login_flows (tenant_id, expires_at)",
    """create table tenantry.refresh_tokens (
        tenant_id uuid not null,
        token_id uuid not null,
        login_id uuid not null,
        lookup bytea not null,
        verifier bytea not null,
        created_at timestamptz not null,
        expires_at timestamptz not null,
        used_at timestamptz,
        primary key (tenant_id, token_id),
        unique (tenant_id, lookup),
        foreign key (tenant_id, login_id) references tenantry.logins on delete cascade
    )""",
    "create index refresh_tokens_login on tenantry.refresh_tokens (tenant_id, login_id)",
    """create table tenantry.invitations (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        invitation_id uuid not null,
        workspace_id uuid,
        email text not null,
        role text not null,
        status text not null check (status in ('pending', 'accepted', 'revoked')),
        created_by text not null,
        created_at timestamptz not null,
        expires_at timestamptz not null,
        accepted_at timestamptz,
        accepted_by uuid,
        primary key (tenant_id, invitation_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade,
        foreign key (tenant_id, accepted_by) references tenantry.users on delete cascade
    )""",
    "create index invitations_email on tenantry.invitations (tenant_id, email)",
)


def upgrade() -> None:
    run(*_TABLES)
    for table in ("identity_providers", "logins", "login_flows", "refresh_tokens"):
        fence(f"tenantry.{table}", workspace=False)
    fence("tenantry.invitations")


def downgrade() -> None:
    drop(
        (
            "tenantry.invitations",
            "tenantry.refresh_tokens",
            "tenantry.login_flows",
            "tenantry.logins",
            "tenantry.identity_providers",
        )
    )
