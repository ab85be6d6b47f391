"""What of an event is about persons lies beside it, sealed under the tenant's key, and can be forgotten."""

from tenantry.foundation.database.migrations.fencing import run

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    run(
        "alter table tenantry.audit_events add column sealed bytea",
        # Up to which event, by its id, all of that has been forgotten.
        "alter table tenantry.audit_heads add column forgotten uuid",
        # The sealer may forget it, and do nothing else to an event.
        "grant update (sealed) on tenantry.audit_events to tenantry_sealer",
        """create policy sealer_forgets on tenantry.audit_events as restrictive for update to tenantry_sealer
           using (true) with check (sealed is null)""",
    )


def downgrade() -> None:
    run(
        "drop policy sealer_forgets on tenantry.audit_events",
        "revoke update (sealed) on tenantry.audit_events from tenantry_sealer",
        "alter table tenantry.audit_heads drop column forgotten",
        "alter table tenantry.audit_events drop column sealed",
    )
