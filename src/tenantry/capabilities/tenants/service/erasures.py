"""Erasure of a deleted tenant, once it cannot be restored any more.

    stop       nothing takes the deletion back from here on; what runs has ended, nothing more is written
    tally      everything is counted and summed up: the draft of the certificate, kept by the platform's own tenant
    stores     objects, images, cached entries, directories: what keys open goes before the keys do
    rows       all rows in one transaction, keys included; a place of the tenant's own as a whole
    certify    the certificate is signed; the directory keeps the slug, for ever

Each step may be done again. From `tally` on it is never given up: what fails is tried until it succeeds.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Final
from uuid import UUID

import structlog

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.ports import Provisioner, TenantStore
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.moves import MoverAccess
from tenantry.capabilities.tenants.service.operations import DONE, Next, OperationLog
from tenantry.capabilities.tenants.service.platform_trail import platform_scope, tell_platform
from tenantry.capabilities.tenants.service.tenants import ERASING
from tenantry.capabilities.tenants.types import (
    REVOCATIONS,
    Certificate,
    Isolation,
    Operation,
    Seat,
    TenantStatus,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.places import SHARED, schema_at
from tenantry.foundation.database.transfer import TenantRows, digest_of_all, open_rows
from tenantry.foundation.errors import Conflict, Denied, Fault, TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.signatures import Signer

STOP: Final = "stop"
FORM: Final = "tenantry-erasure/1"

_log = structlog.get_logger(__name__)


class Erasures:
    """The steps of an erasure; `access` by region, `stores` in the order in which they are erased."""

    interruptible: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        log: OperationLog,
        directory: Directory,
        cells: Cells,
        access: Mapping[str, MoverAccess],
        provisioner: Provisioner,
        stores: Mapping[str, TenantStore],
        forget_keys: Callable[[UUID, str], None],
        signer: Signer,
        clock: Clock,
    ) -> None:
        self._log = log
        self._directory = directory
        self._cells = cells
        self._access = access
        self._provisioner = provisioner
        self._stores = stores
        self._forget_keys = forget_keys
        self._signer = signer
        self._clock = clock

    async def run(self, operation: Operation) -> Next:
        """Do `operation.step`; see the table above."""
        if operation.step == STOP:
            return await self._stop(operation)
        steps = {"tally": self._tally, "stores": self._erase_stores, "rows": self._rows, "certify": self._certify}
        try:
            return await steps[operation.step](operation)
        except (Unavailable, Conflict):
            raise
        except TenantryError as error:
            _log.error("erasure.fault", operation=operation.operation_id.hex, step=operation.step, code=error.code)
            message = f"the erasure met {error.code} and is tried again"
            raise Unavailable("erasure_interrupted", message, layer="tenants") from error

    async def abandon(self, operation: Operation) -> None:
        """Leave the tenant as it is: only what was restored in the last moment is given up."""

    async def _stop(self, operation: Operation) -> Next:
        """Close the way back, in the row that `restore` locks; then wait for the end of what goes on."""
        if await self._log.clear_way(operation):
            raise Unavailable("operation_open", "another operation on this tenant has yet to end", layer="tenants")
        await self._require_seat(operation)
        async with self._at(operation, operation.source) as rows:
            status, due = await _deletion(rows)
            if status != TenantStatus.DELETED:
                raise Denied("tenant_restored", "the deletion was taken back", layer="tenants")
            if due is not None and due > self._clock.now():
                return Next(STOP, at=due)
            if await rows.count("evidence_holds", "released_at is null"):  # it can still be restored, and that released
                raise Unavailable("legal_hold", "a legal hold keeps what this tenant has", layer="evidence")
            await rows.execute("update tenants set status_reason = $1, version = version + 1", ERASING)
        async with self._at(operation, operation.source) as rows:
            if await rows.count("jobs", "status = 'running'"):
                raise Unavailable("tenant_draining", "jobs of this tenant have yet to end", layer="tenants")
            # Nothing comes to what is counted from here on; who still wants to write a word of it waits, and is told
            # in the end that there is no such tenant.
            await rows.place("read_only", home=schema_at(operation.source.place))
            number = await rows.transaction_number()
        async with self._at(operation, operation.source) as rows:
            if await rows.oldest_transaction() <= number:
                raise Unavailable("transactions_open", "older transactions are still open", layer="tenants")
            if await rows.count("audit_unsealed") or await rows.count("audit_unsigned"):
                raise Unavailable(
                    "events_unsealed", "audit events wait for their sequence or their checkpoint", layer="tenants"
                )
        return Next("tally")

    async def _require_seat(self, operation: Operation) -> None:
        """Follow the tenant where it has moved to since; raises Unavailable to be called again there."""
        placement = await self._directory.get(operation.tenant_id)
        seat = Seat(placement.region, placement.isolation, placement.placement)
        if seat != operation.source:
            await self._log.reseat(operation, seat)
            raise Unavailable("tenant_moved", "the erasure follows its tenant", layer="tenants")

    async def _tally(self, operation: Operation) -> Next:
        region = operation.source.region
        document = await self._counted(operation)
        for name, store in self._stores.items():
            tally = await store.measure(operation.tenant_id, region=region)
            sizes = {} if tally.size_bytes is None else {"size_bytes": tally.size_bytes}
            document["stores"][name] = {"count": tally.count, **sizes}
        draft = Certificate(operation.operation_id, operation.tenant_id, document, None, self._clock.now())
        async with self._cells.session(platform_scope(region), lifecycle=True) as session:
            await repository.keep_certificate_draft(session, draft)
        return Next("stores")

    async def _counted(self, operation: Operation) -> dict[str, Any]:
        """Count and sum up the rows, of one moment; ids, counts and digests only, no word of the tenant."""
        async with self._at(operation, operation.source, snapshot=True) as rows:
            digests = {table.name: await rows.digest(table) for table in await rows.tables()}
            slug = await rows.value("select slug from tenants")
            deleted, due = await rows.value("select array[deleted_at, erase_after] from tenants")
            size = await rows.value("select size from audit_heads")
            leaf = await rows.value(
                """select e.leaf from audit_sequence s join audit_events e using (tenant_id, event_id)
                   order by s.sequence desc limit 1"""
            )
        async with self._at(operation, _shared(operation.source)) as cell:
            digests |= {t.qualified: await cell.digest(t) for t in await cell.tables(queue=True)}
        counted = {name: digest for name, digest in sorted(digests.items()) if digest.rows}
        return {
            "form": FORM,
            "id": format_id(Prefix.OPERATION, operation.operation_id),
            "tenant": format_id(Prefix.TENANT, operation.tenant_id),
            "slug_sha256": hashlib.sha256(str(slug).encode()).hexdigest(),
            "region": operation.source.region,
            "isolation": operation.source.isolation.value,
            "deleted_at": deleted.isoformat(),
            "erase_after": due.isoformat(),
            "tallied_at": self._clock.now().isoformat(),
            "rows": {name: {"count": digest.rows, "sum": digest.sum} for name, digest in counted.items()},
            "rows_total": sum(digest.rows for digest in counted.values()),
            "rows_sha256": digest_of_all(counted),
            "audit": {"size": int(size or 0), "last_leaf": leaf.hex() if leaf else None},
            "keysets": counted["keysets"].rows if "keysets" in counted else 0,
            "stores": {},
        }

    async def _erase_stores(self, operation: Operation) -> Next:
        for store in self._stores.values():
            await store.erase(operation.tenant_id, region=operation.source.region)
        return Next("rows")

    async def _rows(self, operation: Operation) -> Next:
        """Delete all rows; who asks from then on is told that there is no such tenant."""
        source = operation.source
        async with self._at(operation, _shared(source)) as cell:
            tables = [*await cell.tables(queue=True), *(await cell.tables() if source.place == SHARED else ())]
            for table in reversed(tables):
                await cell.delete(table)
            await cell.forget()
            await cell.execute("select pg_notify($1, $2)", REVOCATIONS, operation.tenant_id.hex)
        self._forget_keys(operation.tenant_id, source.region)
        if source.place != SHARED:
            # Nobody goes there any more: first the directory knows of no such place, then there is none.
            await self._log.seat(operation.tenant_id, Seat(source.region, source.isolation, SHARED))
            await self._provisioner.remove(region=source.region, place=source.place)
        return Next("certify")

    async def _certify(self, operation: Operation) -> Next:
        region = operation.source.region
        async with self._cells.session(platform_scope(region), lifecycle=True) as session:
            draft = await repository.find_certificate_draft(session, operation.operation_id)
            if draft is None:
                raise Fault("certificate_missing", "the draft of this certificate is gone", layer="tenants")
            if draft.signature is None:
                document = {
                    **draft.document,
                    "erased_at": self._clock.now().isoformat(),
                    "signed_with": {"algorithm": "Ed25519", "key_id": self._signer.key_id},
                }
                signature = self._signer.sign(document)
                await repository.sign_certificate(session, draft.certificate_id, document=document, signature=signature)
        await self._log.erase_placement(operation.tenant_id, place=SHARED)
        await tell_platform(self._cells, "tenant.erased", operation, region=region, clock=self._clock)
        return Next(DONE)

    def _at(
        self, operation: Operation, seat: Seat, *, snapshot: bool = False
    ) -> AbstractAsyncContextManager[TenantRows]:
        access = self._access[seat.region]
        return open_rows(
            access.dsn, place=seat.place, signer=access.signer, tenant_id=operation.tenant_id, snapshot=snapshot
        )


async def _deletion(rows: TenantRows) -> tuple[str | None, Any]:
    """Tell status and date of the erasure from the tenant's row, and hold it."""
    status = await rows.value("select status from tenants for update")
    return status, await rows.value("select erase_after from tenants")


def _shared(seat: Seat) -> Seat:
    """Name the cell's own database, where its queue is; rows of a database of its own go with that."""
    return Seat(seat.region, Isolation.ROW_LEVEL, SHARED)
