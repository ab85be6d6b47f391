"""Audit events: append-only, with their canonical bytes and leaf; the sealer gives each its place in the sequence."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run, shared

revision = "0002"
down_revision = "0001"

_TABLES = (
    """create table tenantry.audit_events (
        tenant_id uuid not null,
        event_id uuid not null,
        workspace_id uuid,
        occurred_at timestamptz not null,
        actor_type text not null,
        actor_id text not null,
        action text not null,
        resource_type text not null,
        resource_id text not null,
        outcome text not null check (outcome in ('success', 'denied', 'error')),
        canonical bytea not null,
        leaf bytea not null check (length(leaf) = 32),
        primary key (tenant_id, event_id)
    )""",
    "create index audit_events_action on tenantry.audit_events (tenant_id, action, event_id)",
    "create index audit_events_actor on tenantry.audit_events (tenant_id, actor_id, event_id)",
    "create index audit_events_resource on tenantry.audit_events (tenant_id, resource_id, event_id)",
    "create index audit_events_workspace on tenantry.audit_events (tenant_id, workspace_id, event_id)",
    """create table tenantry.audit_unsealed (
        tenant_id uuid not null,
        event_id uuid not null,
        primary key (tenant_id, event_id),
        foreign key (tenant_id, event_id) references tenantry.audit_events
    )""",
    """create table tenantry.audit_sequence (
        tenant_id uuid not null,
        sequence bigint not null check (sequence > 0),
        event_id uuid not null,
        primary key (tenant_id, sequence),
        unique (tenant_id, event_id),
        foreign key (tenant_id, event_id) references tenantry.audit_events
    )""",
    """create table tenantry.audit_heads (
        tenant_id uuid primary key,
        size bigint not null
    )""",
)


def upgrade() -> None:
    run(*_TABLES)
    fence("tenantry.audit_events", grants="select, insert")
    fence("tenantry.audit_unsealed", grants="select, insert", workspace=False)
    fence("tenantry.audit_sequence", grants="select", workspace=False)
    fence("tenantry.audit_heads", grants="select", workspace=False)
    open_to("tenantry.audit_events", role="tenantry_sealer", grants="select", name="sealer")
    open_to("tenantry.audit_unsealed", role="tenantry_sealer", grants="select, delete", name="sealer")
    open_to("tenantry.audit_sequence", role="tenantry_sealer", grants="select, insert", name="sealer")
    open_to("tenantry.audit_heads", role="tenantry_sealer", grants="select, insert, update", name="sealer")
    if not shared():
        return
    run(
        """create table fence.sealer_gate (
            gate_id integer primary key check (gate_id = 1),
            epoch bigint not null
        )""",
        "insert into fence.sealer_gate values (1, 1)",
        "grant select, update on fence.sealer_gate to tenantry_sealer",
    )


def downgrade() -> None:
    drop(
        (
            "fence.sealer_gate",
            "tenantry.audit_heads",
            "tenantry.audit_sequence",
            "tenantry.audit_unsealed",
            "tenantry.audit_events",
        )
    )
