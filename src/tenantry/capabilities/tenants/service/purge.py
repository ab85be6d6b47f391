"""Forgets content whose time is over, whatever capability it is of: each registers its kind (`ports.ContentKind`).

A kind puts what ends into `queue.purges`, in the transaction of the end: its name, the item, the date, and where the
key lives in the memory of one process only, that process. The mode that counts is the one the item began with.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from tenantry.capabilities.tenants.ports import ContentKind, Keeping
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.database.transfer import purge_lock
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_BATCH: Final = 100
_HOLDERS: Final = "select distinct holder from queue.purges where holder is not null"
_BOOTS: Final = "select boot from queue.workers"
_DUE: Final = """select tenant_id, kind, item_id from queue.purges where due_at <= $1
                 order by due_at, item_id limit $2 offset $3"""
_DUE_OR_DEAD: Final = """select tenant_id, kind, item_id from queue.purges where due_at <= $1 or holder = any($4)
                         order by due_at, item_id limit $2 offset $3"""
_MAY: Final = "select pg_try_advisory_xact_lock_shared($1)"
_DONE: Final = "delete from queue.purges where tenant_id = $1 and kind = $2 and item_id = $3"
_AGAIN: Final = "insert into queue.purges (tenant_id, kind, item_id, due_at) values ($1, $2, $3, $4)"
_KEPT: Final = timedelta(hours=1)
"""How long what a legal hold keeps is not looked at again."""

_log = structlog.get_logger(__name__)


async def purge_due(
    pool: "Pool",
    *,
    queue: "Pool",
    cell: Cell,
    kinds: Mapping[str, ContentKind],
    clock: Clock,
    keeping: Keeping | None = None,
) -> int:
    """Purge what is due in one database, an item at a time; tells how many.

    Both pools are the dispatcher's, which sees ids only; `queue` is that of the cell, where workers report. Due is also
    what a process held that is no more: its content cannot be opened any longer. Objects go first: a crash in between
    leaves rows that say they are still to go. A tenant that is being exported keeps what is due until that has ended.
    What stays, for whatever reason, is passed over: nothing that is due waits for it. What is kept (`keeping`) is due
    again after a while.
    """
    with database_errors():
        held = {row["holder"] for row in await pool.fetch(_HOLDERS)}
        # Asked second: a holder reports before anything is put down under its name.
        dead = held - {row["boot"] for row in await queue.fetch(_BOOTS)} if held else set()
    now, purged, stays = clock.now(), 0, 0
    while True:
        # Apart, since a new connection pays for its first array more than for all else that it asks here.
        asked = (_DUE_OR_DEAD, now, _BATCH, stays, list(dead)) if dead else (_DUE, now, _BATCH, stays)
        with database_errors():
            due = await pool.fetch(*asked)
        for tenant_id, name, item_id in due:
            gone = name in kinds and await _purge(
                kinds[name], item_id, tenant_id=tenant_id, cell=cell, keeping=keeping, clock=clock
            )
            purged, stays = purged + gone, stays + (not gone)
            if name not in kinds:  # of another version of the product
                _log.error("purge.kind_unknown", kind=name)
        if len(due) < _BATCH:
            return purged


async def _purge(
    kind: ContentKind, item_id: UUID, *, tenant_id: UUID, cell: Cell, keeping: Keeping | None, clock: Clock
) -> bool:
    scope = TenantScope(tenant_id=tenant_id, region=cell.region, actor=SYSTEM)
    try:
        async with cell.session(scope, lifecycle=True) as session:
            if not await session.fetchval(_MAY, purge_lock(tenant_id)):
                _log.info("purge.postponed", tenant=tenant_id.hex, code="export_open")
                return False
            if keeping is not None and await keeping.keeps(session, kind=kind.name, item_id=item_id):
                await session.execute(_DONE, tenant_id, kind.name, item_id)
                await session.execute(_AGAIN, tenant_id, kind.name, item_id, clock.now() + _KEPT)
                return True
            await kind.remove_objects(session, item_id)
        async with cell.session(scope, lifecycle=True) as session:
            await kind.forget(session, item_id)
            await session.execute(_DONE, tenant_id, kind.name, item_id)
    except Unavailable as error:  # on the move: it is due again where it arrives
        _log.info("purge.postponed", tenant=tenant_id.hex, code=error.code)
        return False
    except Exception:  # noqa: BLE001 - what cannot be purged, of whomever, must not keep the others
        _log.exception("purge.failed", tenant=tenant_id.hex, kind=kind.name)
        return False
    return True
