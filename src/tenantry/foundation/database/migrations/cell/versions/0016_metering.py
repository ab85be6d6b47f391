"""What was used: events, the hours they add up to, and up to when these are finished."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0016"
down_revision = "0015"

_TABLES = (
    """create table tenantry.metering_events (
        tenant_id uuid not null,
        event_id uuid not null,
        workspace_id uuid not null,
        meter text not null,
        quantity bigint not null check (quantity between 0 and 9007199254740991),
        subject text not null,
        principal_id text,
        occurred_at timestamptz not null,
        recorded_at timestamptz not null,
        attributes jsonb not null,
        rolled boolean not null default false,
        primary key (tenant_id, event_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    "create index metering_events_time on tenantry.metering_events (tenant_id, occurred_at, event_id)",
    """create index metering_events_workspace on tenantry.metering_events
        (tenant_id, workspace_id, occurred_at, event_id)""",
    "create index metering_events_unrolled on tenantry.metering_events (tenant_id) where not rolled",
    """create table tenantry.metering_hours (
        tenant_id uuid not null,
        workspace_id uuid not null,
        hour timestamptz not null,
        meter text not null,
        quantity numeric not null check (quantity >= 0 and quantity < 'infinity'),
        events bigint not null,
        primary key (tenant_id, workspace_id, hour, meter),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    "create index metering_hours_time on tenantry.metering_hours (tenant_id, hour, workspace_id, meter)",
    """create table tenantry.metering_marks (
        tenant_id uuid primary key references tenantry.tenants on delete cascade,
        rolled_up_to timestamptz not null
    )""",
)


def upgrade() -> None:
    run(*_TABLES)
    # What was recorded stays as it is: only whether the hours hold it changes.
    fence("tenantry.metering_events", grants="select, insert, update (rolled), delete")
    fence("tenantry.metering_hours", grants="select, insert, update (quantity, events)")
    fence("tenantry.metering_marks", grants="select, insert, update (rolled_up_to)", workspace=False)
    # Which tenants have something to be rolled up, and which are finished: no more of them is seen.
    for table, column in (("metering_events", "rolled"), ("metering_marks", "rolled_up_to")):
        open_to(
            f"tenantry.{table}",
            role="tenantry_dispatcher",
            grants=f"select (tenant_id, {column})",
            name="dispatcher",
        )


def downgrade() -> None:
    drop(("tenantry.metering_marks", "tenantry.metering_hours", "tenantry.metering_events"))
