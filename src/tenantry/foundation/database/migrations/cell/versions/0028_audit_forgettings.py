"""Requests to forget one person in a tenant's events, which the application makes and the sealer works off."""

from tenantry.foundation.database.migrations.fencing import drop, fence, open_to, run

revision = "0028"
down_revision = "0027"

_ASKED = "tenant_id, forgetting_id, principal, requested_at, requested_by, due_at"


def upgrade() -> None:
    run(
        # `position`: up to which place the events have been looked at; `due_at`: when there may be more to look at.
        """create table tenantry.audit_forgettings (
            tenant_id uuid not null,
            forgetting_id uuid not null,
            principal text not null check (principal <> ''),
            state text not null default 'open' check (state in ('open', 'held', 'done')),
            requested_at timestamptz not null,
            requested_by text not null,
            position bigint not null default 0 check (position >= 0),
            forgotten bigint not null default 0 check (forgotten >= 0),
            due_at timestamptz,
            ended_at timestamptz,
            primary key (tenant_id, forgetting_id)
        )""",
        """create unique index audit_forgettings_open on tenantry.audit_forgettings (tenant_id, principal)
            where state <> 'done'""",
        "create index audit_forgettings_due on tenantry.audit_forgettings (due_at) where due_at is not null",
    )
    # The application asks; what came of it is the sealer's to say.
    fence("tenantry.audit_forgettings", grants=f"select, insert ({_ASKED})", workspace=False)
    open_to(
        "tenantry.audit_forgettings",
        role="tenantry_sealer",
        grants="select, update (state, position, forgotten, due_at, ended_at)",
        name="sealer",
    )
    # The file of a day that says what has been forgotten is due at once, in the transaction that forgets it.
    open_to(
        "tenantry.audit_days",
        role="tenantry_sealer",
        grants="select (tenant_id, day, epoch), update (written, closed_at, due_at, epoch, lease_until)",
        name="sealer",
    )


def downgrade() -> None:
    run(
        "drop policy sealer on tenantry.audit_days",
        "revoke all on tenantry.audit_days from tenantry_sealer",
        "revoke select (tenant_id, day, epoch) on tenantry.audit_days from tenantry_sealer",
        "revoke update (written, closed_at, due_at, epoch, lease_until) on tenantry.audit_days from tenantry_sealer",
    )
    drop(("tenantry.audit_forgettings",))
