"""Decisions that people owe (approvals), roles for a bounded time (grants), and the jobs that a grant alone allowed."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0008"
down_revision = "0007"

_TABLES = (
    """create table tenantry.approvals (
        tenant_id uuid not null,
        approval_id uuid not null,
        workspace_id uuid not null,
        kind text not null,
        subject_id text not null,
        digest bytea not null check (length(digest) = 32),
        summary text not null,
        requested_by text not null,
        excluded text[] not null,
        eligible text[],
        needed integer not null check (needed > 0),
        minutes integer check (minutes > 0),
        granted_minutes integer check (granted_minutes between 1 and minutes),
        status text not null check (status in ('pending', 'approved', 'rejected', 'expired', 'void')),
        persistence_mode text not null check (persistence_mode in ('metadata_only', 'full')),
        content_key bytea,
        escalate_to text[] not null,
        escalate_at timestamptz,
        escalated_at timestamptz,
        expires_at timestamptz not null,
        due_at timestamptz,
        created_at timestamptz not null,
        decided_at timestamptz,
        consumed_at timestamptz,
        content_until timestamptz,
        content_purged_at timestamptz,
        version bigint not null default 1,
        primary key (tenant_id, approval_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    "create index approvals_workspace on tenantry.approvals (tenant_id, workspace_id, approval_id)",
    "create index approvals_due on tenantry.approvals (due_at) where due_at is not null",
    """create table tenantry.approval_decisions (
        tenant_id uuid not null,
        approval_id uuid not null,
        principal_id text not null,
        workspace_id uuid not null,
        actor_id text not null,
        vote text not null check (vote in ('approve', 'reject')),
        minutes integer check (minutes > 0),
        comment bytea,
        comment_bytes integer not null,
        comment_sha256 bytea,
        decided_at timestamptz not null,
        primary key (tenant_id, approval_id, principal_id),
        foreign key (tenant_id, approval_id) references tenantry.approvals on delete cascade
    )""",
    """create table tenantry.grants (
        tenant_id uuid not null,
        grant_id uuid not null,
        workspace_id uuid not null,
        principal_type text not null check (principal_type in ('user', 'service_account', 'platform')),
        principal_id text not null,
        role_asked text not null,
        role text not null,
        provider text,
        reason text not null,
        minutes integer not null check (minutes > 0),
        status text not null check (status in ('requested', 'approved', 'active', 'expired', 'revoked', 'denied')),
        requested_by text not null,
        requested_at timestamptz not null,
        approval_id uuid,
        extension_minutes integer check (extension_minutes > 0),
        extension_approval_id uuid,
        granted_minutes integer check (granted_minutes > 0),
        granted_by text[] not null,
        active_at timestamptz,
        expires_at timestamptz,
        notice_at timestamptz,
        due_at timestamptz,
        ended_at timestamptz,
        ended_by text,
        end_reason text,
        version bigint not null default 1,
        primary key (tenant_id, grant_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade,
        foreign key (tenant_id, approval_id) references tenantry.approvals,
        foreign key (tenant_id, extension_approval_id) references tenantry.approvals,
        check (status <> 'active' or (active_at is not null and expires_at > active_at and due_at is not null))
    )""",
    "create index grants_workspace on tenantry.grants (tenant_id, workspace_id, grant_id)",
    "create index grants_open on tenantry.grants (tenant_id, principal_id) where ended_at is null",
    "create index grants_due on tenantry.grants (due_at) where due_at is not null",
    "alter table tenantry.jobs add column grant_id uuid",
    """create index jobs_grant on tenantry.jobs (tenant_id, grant_id)
        where grant_id is not null and finished_at is null""",
)


def upgrade() -> None:
    run(*_TABLES)
    # Nothing here is deleted but with the tenant: the history stays.
    for table in ("approvals", "approval_decisions", "grants"):
        fence(f"tenantry.{table}", grants="select, insert, update")
    for table, name in (("approvals", "approval_id"), ("grants", "grant_id")):
        open_to(
            f"tenantry.{table}", role="tenantry_dispatcher", grants=f"select (tenant_id, {name}, due_at)", name="due"
        )


def downgrade() -> None:
    run("alter table tenantry.jobs drop column grant_id")
    drop(("tenantry.grants", "tenantry.approval_decisions", "tenantry.approvals"))
