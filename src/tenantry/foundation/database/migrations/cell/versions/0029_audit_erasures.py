"""A part of a log may leave, from its first event on in whole tiles: signed for first, and then by the sealer alone."""

from tenantry.foundation.database.migrations.fencing import run, shared

revision = "0029"
down_revision = "0028"

_ONLY_GROWS = """
    create function fence.erasure_only_grows() returns trigger language plpgsql
    set search_path = pg_catalog, pg_temp as $function$ begin
        if new.erased < old.erased or new.swept < old.swept then
            raise exception 'an erasure is not taken back' using errcode = '42501';
        end if;
        return new;
    end $function$"""


def upgrade() -> None:
    if shared():
        run(_ONLY_GROWS, "revoke all on function fence.erasure_only_grows() from public")
    run(
        # How many events, from the first on, were signed away; and up to which of them the rows are gone.
        """alter table tenantry.audit_heads
           add column erased bigint not null default 0 check (erased % 256 = 0 and erased >= 0),
           add column swept bigint not null default 0 check (swept >= 0),
           add check (swept <= erased and erased <= size)""",
        """create trigger erasure_only_grows before update of erased, swept on tenantry.audit_heads
           for each row execute function fence.erasure_only_grows()""",
        # Place, id and leaf stay: every proof needs the leaf, which tells nothing of what was there.
        "alter table tenantry.audit_sequence drop constraint audit_sequence_tenant_id_event_id_fkey",
        "grant delete on tenantry.audit_events to tenantry_sealer",
        """create policy sealer_erases on tenantry.audit_events as restrictive for delete to tenantry_sealer
           using (exists (
               select from tenantry.audit_sequence s join tenantry.audit_heads h on h.tenant_id = s.tenant_id
               where s.tenant_id = audit_events.tenant_id and s.event_id = audit_events.event_id
                 and s.sequence <= h.erased))""",
    )


def downgrade() -> None:
    run(
        "drop policy sealer_erases on tenantry.audit_events",
        "revoke delete on tenantry.audit_events from tenantry_sealer",
        # Refused where something was erased: what is gone does not come back.
        """alter table tenantry.audit_sequence add foreign key (tenant_id, event_id)
           references tenantry.audit_events""",
        "drop trigger erasure_only_grows on tenantry.audit_heads",
        "alter table tenantry.audit_heads drop column swept, drop column erased",
    )
    if shared():
        run("drop function fence.erasure_only_grows()")
