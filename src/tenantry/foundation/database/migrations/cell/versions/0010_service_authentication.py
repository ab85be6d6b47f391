"""How programs prove who they are: keys that are rotated, client certificates, keys that sign requests."""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0010"
down_revision = "0009"

_ROTATION = (
    "alter table tenantry.api_keys add column rotated_from uuid, add column grace_until timestamptz",
    """alter table tenantry.api_keys
           add constraint api_keys_rotated_once unique (tenant_id, rotated_from),
           add constraint api_keys_grace_ends check (status <> 'grace' or grace_until is not null)""",
)
_TABLES = (
    """create table tenantry.client_certificates (
        tenant_id uuid not null,
        certificate_id uuid not null,
        workspace_id uuid not null,
        service_account_id uuid not null,
        fingerprint bytea not null check (octet_length(fingerprint) = 32),
        subject text not null,
        not_before timestamptz not null,
        not_after timestamptz not null,
        status text not null check (status in ('active', 'revoked')),
        created_at timestamptz not null,
        created_by text not null,
        last_used_at timestamptz,
        revoked_at timestamptz,
        primary key (tenant_id, certificate_id),
        unique (tenant_id, workspace_id, fingerprint),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade,
        foreign key (tenant_id, service_account_id) references tenantry.service_accounts on delete cascade
    )""",
    """create table tenantry.signing_keys (
        tenant_id uuid not null,
        signing_key_id uuid not null,
        workspace_id uuid not null,
        service_account_id uuid not null,
        public_key bytea not null check (octet_length(public_key) = 32),
        status text not null check (status in ('active', 'revoked')),
        created_at timestamptz not null,
        created_by text not null,
        expires_at timestamptz not null,
        last_used_at timestamptz,
        revoked_at timestamptz,
        primary key (tenant_id, signing_key_id),
        unique (tenant_id, workspace_id, public_key),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade,
        foreign key (tenant_id, service_account_id) references tenantry.service_accounts on delete cascade
    )""",
)


def upgrade() -> None:
    run(*_ROTATION, *_TABLES)
    fence("tenantry.client_certificates")
    fence("tenantry.signing_keys")


def downgrade() -> None:
    drop(("tenantry.signing_keys", "tenantry.client_certificates"))
    # What came before knows no end of a grace: such a key would live on. Its owner is bound by the fence otherwise.
    run(
        "alter table tenantry.api_keys no force row level security",
        "update tenantry.api_keys set status = 'retired' where status = 'grace'",
        "alter table tenantry.api_keys force row level security",
        "alter table tenantry.api_keys drop column grace_until, drop column rotated_from",
    )
