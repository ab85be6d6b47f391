"""Sandboxes that live: what they are, what is kept of their files, and which jobs are theirs."""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0022"
down_revision = "0021"


_STATEMENTS = (
    # The object of a tree is never written twice: a fork or a snapshot of what is kept is one more row beside it.
    """create table tenantry.sandbox_trees (
        tenant_id uuid not null,
        tree_id uuid not null,
        workspace_id uuid not null,
        sandbox_id uuid not null,
        place text not null,
        content_key bytea not null,
        size_bytes bigint not null check (size_bytes >= 0),
        files bigint not null check (files >= 0),
        sha256 bytea not null,
        created_at timestamptz not null,
        primary key (tenant_id, tree_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    """create table tenantry.sandboxes (
        tenant_id uuid not null,
        sandbox_id uuid not null,
        workspace_id uuid not null,
        name text not null check (name <> ''),
        image text not null,
        environment text,
        labels jsonb not null,
        limits jsonb not null,
        network jsonb not null,
        secrets jsonb not null,
        persistence_mode text not null check (persistence_mode in ('metadata_only', 'full')),
        place text not null,
        content_key bytea,
        given bytea,
        ttl_seconds integer not null check (ttl_seconds > 0),
        idle_seconds integer not null check (idle_seconds >= 0),
        job_id uuid,
        tree_id uuid,
        created_at timestamptz not null,
        created_by text not null,
        expires_at timestamptz,
        deleted_at timestamptz,
        version bigint not null default 1,
        primary key (tenant_id, sandbox_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade,
        foreign key (tenant_id, tree_id) references tenantry.sandbox_trees
    )""",
    """create unique index sandboxes_name on tenantry.sandboxes (tenant_id, workspace_id, name)
        where deleted_at is null""",
    "create index sandboxes_tree on tenantry.sandboxes (tenant_id, tree_id) where tree_id is not null",
    """create table tenantry.sandbox_snapshots (
        tenant_id uuid not null,
        snapshot_id uuid not null,
        workspace_id uuid not null,
        sandbox_id uuid not null,
        tree_id uuid not null,
        name text not null check (name <> ''),
        created_at timestamptz not null,
        created_by text not null,
        primary key (tenant_id, snapshot_id),
        unique (tenant_id, sandbox_id, name),
        foreign key (tenant_id, sandbox_id) references tenantry.sandboxes on delete cascade,
        foreign key (tenant_id, tree_id) references tenantry.sandbox_trees
    )""",
    "create index sandbox_snapshots_tree on tenantry.sandbox_snapshots (tenant_id, tree_id)",
    """alter table tenantry.jobs
        add column sandbox_id uuid,
        add column tree_id uuid,
        add column link text""",
    "create index jobs_sandbox on tenantry.jobs (tenant_id, sandbox_id, job_id) where sandbox_id is not null",
)


def upgrade() -> None:
    run(*_STATEMENTS)
    for table in ("sandbox_trees", "sandboxes", "sandbox_snapshots"):
        fence(f"tenantry.{table}")


def downgrade() -> None:
    run(
        "drop index tenantry.jobs_sandbox",
        "alter table tenantry.jobs drop column sandbox_id, drop column tree_id, drop column link",
    )
    drop(("tenantry.sandbox_snapshots", "tenantry.sandboxes", "tenantry.sandbox_trees"))
