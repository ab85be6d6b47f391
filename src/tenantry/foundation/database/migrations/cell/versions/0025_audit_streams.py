"""What follows each tenant's sealed audit events: an index of their words, a file a day, and streams to elsewhere."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0025"
down_revision = "0024"

_TABLES = (
    # Up to which event words and days are known.
    "create table tenantry.audit_index (tenant_id uuid primary key, sequence bigint not null check (sequence >= 0))",
    # That a word stands in one of the 64 events of a block; asked by `=` alone, which is an index's under the fence.
    """create table tenantry.audit_words (
        tenant_id uuid not null,
        word text collate "C" not null,
        block bigint not null check (block >= 0),
        primary key (tenant_id, word, block)
    )""",
    """create table tenantry.audit_days (
        tenant_id uuid not null,
        day date not null,
        first bigint not null check (first > 0),
        last bigint not null,
        events bigint not null,
        written bigint not null default 0,
        size_bytes bigint,
        sha256 bytea check (length(sha256) = 32),
        closed_at timestamptz,
        due_at timestamptz,
        epoch bigint not null default 0,
        lease_until timestamptz,
        primary key (tenant_id, day)
    )""",
    "create index audit_days_due on tenantry.audit_days (due_at) where due_at is not null",
    """create table tenantry.audit_streams (
        tenant_id uuid not null references tenantry.tenants on delete cascade,
        stream_id uuid not null,
        name text not null,
        kind text not null check (kind in ('webhook', 'file', 'object')),
        format text not null check (format in ('cloudevents', 'ocsf')),
        hint text not null,
        sealed bytea,
        directory text,
        filter jsonb not null,
        status text not null check (status in ('active', 'paused')),
        paused_because text,
        version bigint not null default 1,
        created_at timestamptz not null,
        created_by text not null,
        updated_at timestamptz not null,
        position bigint not null check (position >= 0),
        sent bigint not null default 0,
        attempts integer not null default 0,
        failing_since timestamptz,
        last_error text,
        last_sent_at timestamptz,
        next_attempt_at timestamptz not null,
        epoch bigint not null default 0,
        lease_until timestamptz,
        primary key (tenant_id, stream_id),
        unique (tenant_id, name)
    )""",
    "create index audit_streams_due on tenantry.audit_streams (next_attempt_at) where status = 'active'",
)
_OF_A_TENANT = ("audit_index", "audit_words", "audit_days", "audit_streams")


def upgrade() -> None:
    run(*_TABLES)
    for table in _OF_A_TENANT:
        fence(f"tenantry.{table}", workspace=False)
    # Who has something to follow, of all tenants, as ids and numbers: who does it is bound to the tenant.
    for table, seen in (
        ("audit_heads", "tenant_id, size"),
        ("audit_index", "tenant_id, sequence"),
        ("audit_days", "tenant_id, day, due_at, lease_until"),
        ("audit_streams", "tenant_id, stream_id, status, position, attempts, next_attempt_at, lease_until"),
    ):
        open_to(f"tenantry.{table}", role="tenantry_dispatcher", grants=f"select ({seen})", name="dispatcher")


def downgrade() -> None:
    run("drop policy dispatcher on tenantry.audit_heads", "revoke all on tenantry.audit_heads from tenantry_dispatcher")
    drop([f"tenantry.{table}" for table in reversed(_OF_A_TENANT)])
