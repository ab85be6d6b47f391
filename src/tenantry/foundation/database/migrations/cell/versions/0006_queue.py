"""The queue of jobs (engines/fairqueue, ADR 0007) and the purge list: ids and numbers only, seen by the dispatcher."""

from pathlib import Path

from tenantry.foundation.database.migrations.fencing import fence, open_to, run, shared

revision = "0006"
down_revision = "0005"

# The application says what it wants and what it used; state, place, attempt and charge are the dispatcher's.
_APPLICATION = (
    "select (tenant_id, workspace_id, principal_id, job_id, estimate_seconds, slots, labels, enqueued_at, "
    "cancel_requested, used_slot_seconds, state, attempt), "
    "insert (tenant_id, workspace_id, principal_id, job_id, estimate_seconds, slots, labels), "
    "update (cancel_requested, used_slot_seconds)"
)


def upgrade() -> None:
    if not shared():
        return
    text = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    run(*(statement.strip() for statement in text.split("-- ;;")))
    run(
        "grant usage on schema queue to tenantry_app, tenantry_mover",
        """create table queue.purges (
            tenant_id uuid not null,
            kind text not null,
            item_id uuid not null,
            due_at timestamptz not null,
            holder uuid,
            primary key (tenant_id, kind, item_id)
        )""",
        "create index purges_due on queue.purges (due_at)",
        "create index purges_holder on queue.purges (holder) where holder is not null",
    )
    fence("queue.entries", grants=_APPLICATION)
    fence("queue.purges", grants="select, insert, delete", workspace=False)
    open_to("queue.purges", role="tenantry_dispatcher", grants="select", name="dispatcher")


def downgrade() -> None:
    run("drop schema queue cascade", "create schema queue authorization tenantry_owner")
