"""Channels that hear of a tenant's events, and what is delivered to each. Addresses are sealed by the tenant's key."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0011"
down_revision = "0010"

_TABLES = (
    """create table tenantry.notification_channels (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        channel_id uuid not null,
        workspace_id uuid,
        name text not null,
        kind text not null check (kind in ('webhook', 'email', 'apprise')),
        sealed bytea not null,
        hint text not null,
        topics text[] not null,
        status text not null check (status in ('active', 'disabled')),
        version bigint not null default 1,
        created_at timestamptz not null,
        created_by text not null,
        updated_at timestamptz not null,
        primary key (tenant_id, channel_id),
        unique nulls not distinct (tenant_id, workspace_id, name),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    # Of channel and recipient one is null.
    """create table tenantry.notification_deliveries (
        tenant_id uuid not null,
        delivery_id uuid not null,
        workspace_id uuid,
        event_id uuid not null,
        topic text not null,
        channel_id uuid,
        recipient_id uuid,
        notice jsonb not null,
        status text not null check (status in ('pending', 'sent', 'failed')),
        attempts integer not null default 0,
        next_attempt_at timestamptz not null,
        last_error text,
        created_at timestamptz not null,
        sent_at timestamptz,
        primary key (tenant_id, delivery_id),
        unique nulls not distinct (tenant_id, event_id, channel_id, recipient_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade,
        foreign key (tenant_id, channel_id) references tenantry.notification_channels on delete cascade,
        foreign key (tenant_id, recipient_id) references tenantry.users on delete cascade
    )""",
    """create index notification_deliveries_due on tenantry.notification_deliveries (next_attempt_at)
        where status = 'pending'""",
    """create index notification_deliveries_channel on tenantry.notification_deliveries
        (tenant_id, channel_id)""",
)


def upgrade() -> None:
    run(*_TABLES)
    for table in ("notification_channels", "notification_deliveries"):
        fence(f"tenantry.{table}")
    # What is due, of all tenants, as ids: who claims and changes it is bound to the tenant.
    open_to(
        "tenantry.notification_deliveries",
        role="tenantry_dispatcher",
        grants="select (tenant_id, delivery_id, channel_id, recipient_id, status, next_attempt_at)",
        name="dispatcher",
    )


def downgrade() -> None:
    drop(("tenantry.notification_deliveries", "tenantry.notification_channels"))
