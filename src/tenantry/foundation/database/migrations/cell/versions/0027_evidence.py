"""Evidence of what ran, the sealed envelopes that no role of the application's may change, and legal holds."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0027"
down_revision = "0026"


_TABLES = (
    # `due_at`: when it is to be locked or, once it is, examined again.
    """create table tenantry.evidence (
        tenant_id uuid not null,
        evidence_id uuid not null,
        workspace_id uuid not null,
        subject_kind text not null check (subject_kind <> ''),
        subject_id uuid not null,
        state text not null check (state in ('wip', 'locked', 'tampered')),
        persistence_mode text not null check (persistence_mode in ('metadata_only', 'full')),
        labels jsonb not null check (jsonb_typeof(labels) = 'object'),
        judged jsonb not null check (jsonb_typeof(judged) = 'object'),
        created_at timestamptz not null,
        ended_at timestamptz,
        due_at timestamptz,
        checked_at timestamptz,
        faults text[] not null default '{}',
        primary key (tenant_id, evidence_id),
        unique (tenant_id, workspace_id, evidence_id),
        unique (tenant_id, subject_kind, subject_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
    )""",
    "create index evidence_due on tenantry.evidence (due_at) where due_at is not null",
    "create index evidence_ended on tenantry.evidence (tenant_id, ended_at) where state <> 'wip'",
    """create table tenantry.evidence_envelopes (
        tenant_id uuid not null,
        evidence_id uuid not null,
        workspace_id uuid not null,
        sealed bytea not null,
        sha256 bytea not null check (length(sha256) = 32),
        size_bytes bigint not null check (size_bytes > 0),
        first_sequence bigint not null check (first_sequence > 0),
        last_sequence bigint not null check (last_sequence >= first_sequence),
        locked_at timestamptz not null,
        primary key (tenant_id, evidence_id),
        foreign key (tenant_id, workspace_id, evidence_id)
            references tenantry.evidence (tenant_id, workspace_id, evidence_id) on delete cascade
    )""",
    """create table tenantry.evidence_holds (
        tenant_id uuid not null,
        hold_id uuid not null,
        workspace_id uuid not null,
        case_id text not null check (case_id <> ''),
        reason text not null check (reason <> ''),
        subject_kind text,
        subject_id uuid,
        label_name text,
        label_value text,
        since timestamptz,
        until timestamptz,
        placed_at timestamptz not null,
        placed_by text not null,
        released_at timestamptz,
        released_by text,
        release_reason text,
        primary key (tenant_id, hold_id),
        foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade,
        check ((subject_kind is null) = (subject_id is null)),
        check ((label_name is null) = (label_value is null)),
        check ((released_at is null) = (released_by is null))
    )""",
    """create index evidence_holds_active on tenantry.evidence_holds (tenant_id, workspace_id)
        where released_at is null""",
)


def upgrade() -> None:
    run(*_TABLES)
    fence("tenantry.evidence")
    # Never changed: what is locked is there or, once it has been collected, gone.
    fence("tenantry.evidence_envelopes", grants="select, insert, delete")
    fence("tenantry.evidence_holds", grants="select, insert, update")
    open_to(
        "tenantry.evidence",
        role="tenantry_dispatcher",
        grants="select (tenant_id, workspace_id, evidence_id, state, due_at, ended_at)",
        name="due",
    )


def downgrade() -> None:
    drop(("tenantry.evidence_holds", "tenantry.evidence_envelopes", "tenantry.evidence"))
