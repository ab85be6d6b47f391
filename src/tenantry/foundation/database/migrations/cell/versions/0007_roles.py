"""Roles and groups of a tenant's own; bindings that deny, that hold under a condition, or that a group shares.

A job may be of an environment, which such a condition can name. A key may be made for an agent: it is then a part of
the key it was made with, and never more than that.
"""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0007"
down_revision = "0006"

_TABLES = (
    """create table tenantry.roles (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        slug text not null,
        workspace_id uuid,
        description text not null,
        permissions text[] not null,
        version bigint not null default 1,
        created_at timestamptz not null,
        created_by text not null,
        updated_at timestamptz not null,
        primary key (tenant_id, slug),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    """create table tenantry.groups (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        group_id uuid not null,
        workspace_id uuid,
        name text not null,
        description text not null,
        version bigint not null default 1,
        created_at timestamptz not null,
        created_by text not null,
        primary key (tenant_id, group_id),
        constraint groups_name unique nulls not distinct (tenant_id, workspace_id, name),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    """create table tenantry.group_members (
        tenant_id uuid not null,
        group_id uuid not null,
        principal_id text not null,
        principal_type text not null check (principal_type in ('user', 'service_account')),
        added_at timestamptz not null,
        added_by text not null,
        primary key (tenant_id, group_id, principal_id),
        foreign key (tenant_id, group_id) references tenantry.groups on delete cascade
    )""",
    "create index group_members_principal on tenantry.group_members (tenant_id, principal_id)",
    "create index bindings_principal on tenantry.bindings (tenant_id, principal_id)",
)


def upgrade() -> None:
    run(
        """alter table tenantry.bindings
            add column effect text not null default 'allow' check (effect in ('allow', 'deny')),
            add column condition jsonb not null default '{}',
            add column kept_by text not null default '',
            drop constraint bindings_tenant_id_workspace_id_principal_id_role_key,
            add constraint bindings_once unique nulls not distinct
                (tenant_id, workspace_id, principal_id, role, effect, condition, kept_by),
            drop constraint bindings_principal_type_check,
            add constraint bindings_principal_type_check
                check (principal_type in ('user', 'service_account', 'group'))""",
        """alter table tenantry.api_keys
            add column delegated boolean not null default false,
            add column parent_id uuid,
            add foreign key (tenant_id, parent_id) references tenantry.api_keys""",
        "alter table tenantry.jobs add column environment text",
        *_TABLES,
    )
    fence("tenantry.roles")
    fence("tenantry.groups")
    fence("tenantry.group_members", workspace=False)


def downgrade() -> None:
    drop(("tenantry.group_members", "tenantry.groups", "tenantry.roles"))
    run(
        "drop index tenantry.bindings_principal",
        "alter table tenantry.jobs drop column environment",
        "alter table tenantry.api_keys drop column parent_id, drop column delegated",
        "delete from tenantry.bindings where effect = 'deny' or condition <> '{}' or principal_type = 'group'",
        """alter table tenantry.bindings
            drop constraint bindings_once,
            drop column effect, drop column condition, drop column kept_by,
            add constraint bindings_tenant_id_workspace_id_principal_id_role_key
                unique nulls not distinct (tenant_id, workspace_id, principal_id, role),
            drop constraint bindings_principal_type_check,
            add constraint bindings_principal_type_check check (principal_type in ('user', 'service_account'))""",
    )
