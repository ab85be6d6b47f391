"""Weights and caps in the queue (ADR 0007): what the application sets in `queue.shares` the queue's functions obey."""

import re
from pathlib import Path
from typing import Final

from tenantry.foundation.database.migrations.fencing import fence, run, shared

revision = "0014"
down_revision = "0013"

_HERE: Final = Path(__file__).parent
_APPLICATION = (
    "select (tenant_id, workspace_id, weight, most_running, changed), "
    "insert (tenant_id, workspace_id, weight, most_running), update (weight, most_running, changed)"
)
_BEFORE: Final = "0006_queue.sql"
_AFTER: Final = "0014_queue_shares.sql"
_CHANGED: Final = ("lanes", "nodes", "fronts")
_NIL: Final = "'00000000-0000-0000-0000-000000000000'"


def upgrade() -> None:
    if not shared():
        return
    run(
        "alter table queue.entries add column claimed_at timestamptz",
        "alter table queue.gate add column recounted_at timestamptz not null default now()",
        "alter table queue.nodes add column most_running integer check (most_running >= 0)",
        "alter table queue.fronts add column held boolean not null default false, "
        "add column shut integer not null default 0",
        "drop index queue.fronts_waiting",
        "create index fronts_waiting on queue.fronts (lane, parent, vt, node) where queued > shut and not held",
        "create index fronts_held on queue.fronts (node, lane) where held",
    )
    _drop_functions(_BEFORE)
    run(*_statements(_AFTER))
    fence("queue.shares", grants=_APPLICATION, workspace=False)
    # A whole tenant's share is a row of no workspace; whoever submits to one of its workspaces keeps that, too.
    run(
        f"create policy workspace on queue.shares as restrictive to tenantry_app using (workspace_id = {_NIL} "
        "or workspace_id is not distinct from coalesce((select fence.workspace()), workspace_id))"
    )


def downgrade() -> None:
    if not shared():
        return
    _drop_functions(_AFTER)
    run(
        "drop table queue.shares",
        # Else the owner, who changes rows here, sees none.
        *(f"alter table queue.{table} no force row level security" for table in _CHANGED),
        # Weights were nobody's before: they would stay for ever.
        "update queue.nodes set weight = 1",
        "drop index queue.fronts_waiting",
        "drop index queue.fronts_held",
        "alter table queue.fronts drop column held, drop column shut",
        "create index fronts_waiting on queue.fronts (lane, parent, vt, node) where queued > 0",
        "alter table queue.nodes drop column most_running",
        "alter table queue.gate drop column recounted_at",
        "alter table queue.entries drop column claimed_at",
        # What was hidden at a cap may be below what descents start from.
        "update queue.lanes l set least_vt = least(l.least_vt, (select min(f.vt) from queue.fronts f "
        "where f.lane = l.id and f.parent = 0 and f.queued > 0))",
        "update queue.fronts p set least_vt = least(p.least_vt, (select min(c.vt) from queue.fronts c "
        "where c.lane = p.lane and c.parent = p.node and c.queued > 0))",
        *(f"alter table queue.{table} force row level security" for table in _CHANGED),
    )
    run(*(statement for statement in _statements(_BEFORE) if " FUNCTION " in statement))


def _drop_functions(name: str) -> None:
    made = re.findall(r"^CREATE FUNCTION (queue\.\w+)", "\n".join(_statements(name)), re.MULTILINE)
    run(*(f"drop function {function}" for function in made))


def _statements(name: str) -> list[str]:
    text = (_HERE / name).read_text(encoding="utf-8")
    return [statement.strip() for statement in text.split("-- ;;")]
