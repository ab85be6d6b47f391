"""Jobs, their logs and artifacts, and the images they start from. Content is sealed under a key of the job."""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0005"
down_revision = "0004"

_TABLES = (
    """create table tenantry.images (
        tenant_id uuid not null,
        image_id uuid not null,
        workspace_id uuid not null,
        name text not null,
        digest text not null,
        size_bytes bigint not null,
        source text not null check (source in ('docker_archive', 'directory')),
        created_at timestamptz not null,
        created_by text not null,
        primary key (tenant_id, image_id),
        unique (tenant_id, workspace_id, name),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    """create table tenantry.jobs (
        tenant_id uuid not null,
        job_id uuid not null,
        workspace_id uuid not null,
        principal_id text not null,
        status text not null check (
            status in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'denied')
        ),
        reason text,
        detail text,
        exit_code integer,
        command text[] not null,
        image text not null,
        image_digest text,
        labels jsonb not null,
        limits jsonb not null,
        artifact_globs text[] not null,
        persistence_mode text not null check (persistence_mode in ('metadata_only', 'full')),
        place text not null,
        content_key bytea,
        transient_key bytea,
        transient_holder uuid,
        inputs jsonb not null,
        given bytea,
        attempt integer not null default 0,
        log_bytes bigint not null default 0,
        log_sha256 bytea,
        usage jsonb not null,
        receipt jsonb,
        queued_at timestamptz not null,
        started_at timestamptz,
        finished_at timestamptz,
        content_until timestamptz,
        content_purged_at timestamptz,
        primary key (tenant_id, job_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    "create index jobs_workspace on tenantry.jobs (tenant_id, workspace_id, job_id)",
    "create index jobs_open on tenantry.jobs (tenant_id, workspace_id) where finished_at is null",
    """create index jobs_content on tenantry.jobs (tenant_id, content_until)
        where content_until is not null and content_purged_at is null""",
    """create table tenantry.job_logs (
        tenant_id uuid not null,
        job_id uuid not null,
        seq bigint not null,
        workspace_id uuid not null,
        stream text not null check (stream in ('stdout', 'stderr', 'system')),
        at timestamptz not null,
        sealed bytea not null,
        primary key (tenant_id, job_id, seq),
        foreign key (tenant_id, job_id) references tenantry.jobs on delete cascade
    )""",
    """create table tenantry.artifacts (
        tenant_id uuid not null,
        artifact_id uuid not null,
        workspace_id uuid not null,
        job_id uuid not null,
        path text not null,
        size_bytes bigint not null,
        sha256 bytea not null,
        created_at timestamptz not null,
        primary key (tenant_id, artifact_id),
        unique (tenant_id, job_id, path),
        foreign key (tenant_id, job_id) references tenantry.jobs on delete cascade
    )""",
)


def upgrade() -> None:
    run(*_TABLES)
    for table in ("images", "jobs", "job_logs", "artifacts"):
        fence(f"tenantry.{table}")


def downgrade() -> None:
    drop(("tenantry.artifacts", "tenantry.job_logs", "tenantry.jobs", "tenantry.images"))
