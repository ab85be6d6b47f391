"""Exports: a tenant's own copy of everything it has.

    collect    one archive, streamed into an object of the tenant; beside it its size, its digest, and its key, wrapped

The step may be done again: it writes another archive over the one that a crash has left. What is read of the database
is read at one moment; objects and images follow it, and until they are written nothing of the tenant is purged: what
the rows name is there. What came after that moment is in the archive without a row, and an import leaves it out.
"""

import base64
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.errors import export_gone, export_not_ready
from tenantry.capabilities.tenants.ports import ArchivedStore
from tenantry.capabilities.tenants.service.archives import (
    FORMAT,
    LEFT_OUT,
    PURGES,
    ArchiveWriter,
    json_member,
    rows_member,
    write_key,
)
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.keyring import keyset_context
from tenantry.capabilities.tenants.service.moves import MoverAccess
from tenantry.capabilities.tenants.service.operations import DONE, Next, OperationLog, new_operation
from tenantry.capabilities.tenants.types import (
    EXPORTS,
    Operation,
    OperationKind,
    OperationStatus,
    Seat,
    StoredThing,
    TenantStatus,
)
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.envelope.keyset_wrapper import KeysetWrapper
from tenantry.engines.envelope.wrapping import KeyWrapper
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.migrate import head_revision
from tenantry.foundation.database.transfer import TenantRows, TenantTable, open_rows
from tenantry.foundation.errors import NotFound
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.objects.ports import ObjectStore

COLLECT: Final = "collect"
_EXPIRED: Final = "expired"
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, repr=False)
class Export:
    """An archive that lies ready. `key` opens the keys in it, and with them what is sealed."""

    size_bytes: int
    sha256: str
    key: str


class Exports:
    """The steps of an export; `access`, `objects` by region, `stores` by the folder of the archive they fill."""

    interruptible: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        access: Mapping[str, MoverAccess],
        objects: Mapping[str, ObjectStore],
        stores: Mapping[str, ArchivedStore],
        wrapper: KeyWrapper,
        clock: Clock,
    ) -> None:
        self._access = access
        self._objects = objects
        self._stores = stores
        self._wrapper = wrapper
        self._clock = clock

    async def run(self, operation: Operation) -> Next:
        """Collect everything into one object; the key is put down last, so that what has a key is whole."""
        tenant_id, objects = operation.tenant_id, self._objects[operation.source.region]
        key, writer = os.urandom(_KEY_BYTES), ArchiveWriter()
        async with self._rows(operation, operation.source, snapshot=False) as held:
            await held.hold_purges()
            async with aclosing(self._archive(operation, key, writer)) as archive:
                stat = await objects.put(tenant_id, archive_key(operation), archive)
        wrapped = await self._wrapper.wrap(key, context=_key_context(operation))
        beside = {"size_bytes": stat.size, "sha256": stat.sha256, "key": base64.b64encode(wrapped).decode()}
        await objects.put(tenant_id, _beside(operation), json.dumps(beside).encode())
        return Next(DONE)

    async def abandon(self, operation: Operation) -> None:
        """Remove what there is of it."""
        await remove_export(self._objects[operation.source.region], operation)

    async def _archive(self, operation: Operation, key: bytes, writer: ArchiveWriter) -> AsyncGenerator[bytes, None]:
        """Stream the archive; see `archives.form`."""
        source, tables = operation.source, []
        async with self._rows(operation, source, snapshot=True) as rows:
            slug = str(await rows.value("select slug from tenants"))
            for table in [*await rows.tables(), *(t for t in await rows.tables(queue=True) if t.qualified == PURGES)]:
                if _named(table) in LEFT_OUT:
                    continue
                async with aclosing(self._table(rows, table, writer)) as pieces:
                    async for piece in pieces:
                        yield piece
                digest = await rows.digest(table)
                about = {"name": _named(table), "columns": table.columns, "rows": digest.rows, "sum": digest.sum}
                tables.append(about)
            async for piece in writer.add("keys/", await self._keys(rows, operation, key), suffix=".json"):
                yield piece
        for name, store in self._stores.items():
            suffix = ".tar" if name == "images" else ""
            async for thing in store.things(operation.tenant_id, region=source.region):
                async for piece in writer.add(f"{name}/", thing, suffix=suffix):
                    yield piece
        manifest = {
            "format": FORMAT,
            "operation": format_id(Prefix.OPERATION, operation.operation_id),
            "tenant": format_id(Prefix.TENANT, operation.tenant_id),
            "slug": slug,
            "region": source.region,
            "isolation": source.isolation.value,
            "revision": head_revision("cell"),
            "created_at": self._clock.now().isoformat(),
            "tables": tables,
            "left_out": [{"what": what, "why": why} for what, why in LEFT_OUT.items()],
        }
        async for piece in writer.finish(manifest):
            yield piece

    async def _table(self, rows: TenantRows, table: TenantTable, writer: ArchiveWriter) -> AsyncGenerator[bytes, None]:
        async for thing in rows_member(_named(table), rows.read_texts(table)):
            async for piece in writer.add("rows/", thing, suffix=".jsonl"):
                yield piece

    async def _keys(self, rows: TenantRows, operation: Operation, key: bytes) -> StoredThing:
        """Wrap the tenant's keysets under the export's key: they are in clear here and nowhere else."""
        export, owner = KeysetWrapper(Keyset.of_key(key)), operation.tenant_id
        kept = []
        for table in await rows.tables():
            if table.name != "keysets":
                continue
            async for batch in rows.read(table, columns=("keyset_id", "wrapped", "created_at")):
                for keyset_id, wrapped, created_at in batch:
                    keyset = await Keyset.unwrap(
                        wrapped, wrapper=self._wrapper, context=keyset_context(owner, keyset_id)
                    )
                    again = await keyset.wrapped(wrapper=export, context=export_context(owner, keyset_id))
                    kept.append(
                        {
                            "id": format_id(Prefix.KEYSET, keyset_id),
                            "wrapped": base64.b64encode(again).decode(),
                            "created_at": created_at.isoformat(),
                        }
                    )
        return json_member("keyset", {"keysets": kept})

    def _rows(self, operation: Operation, seat: Seat, *, snapshot: bool) -> Any:
        access = self._access[seat.region]
        return open_rows(
            access.dsn, place=seat.place, signer=access.signer, tenant_id=operation.tenant_id, snapshot=snapshot
        )


class ExportService:
    """Exports of one tenant. `audit` is that tenant's trail."""

    def __init__(
        self,
        *,
        directory: Directory,
        log: OperationLog,
        objects: Mapping[str, ObjectStore],
        wrapper: KeyWrapper,
        audit: AuditService,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._log = log
        self._objects = objects
        self._wrapper = wrapper
        self._audit = audit
        self._clock = clock

    async def request(self, tenant_id: UUID, *, requested_by: str) -> Operation:
        """Begin an export; raises Conflict `operation_open` while another operation works on the tenant."""
        placement, now = await self._directory.get(tenant_id), self._clock.now()
        seat = Seat(placement.region, placement.isolation, placement.placement)
        operation = new_operation(
            OperationKind.EXPORT,
            step=COLLECT,
            tenant_id=tenant_id,
            source=seat,
            target=seat,
            requested_by=requested_by,
            now=now,
        )
        await self._record("tenant.export_requested", operation)
        return await self._log.begin(operation)

    async def describe(self, operation: Operation) -> Export:
        """Tell size, digest and key, which the trail is told of; raises Conflict `export_not_ready`, Gone."""
        beside = await self._require_ready(operation)
        wrapped = base64.b64decode(beside["key"])
        key = await self._wrapper.unwrap(wrapped, context=_key_context(operation))
        await self._record("tenant.export_key_read", operation)
        return Export(beside["size_bytes"], beside["sha256"], write_key(key))

    async def content(self, operation: Operation) -> tuple[int, str, AsyncIterator[bytes]]:
        """Stream the archive, after its size and digest; raises as `describe` does."""
        beside = await self._require_ready(operation)
        await self._record("tenant.export_read", operation)
        objects = await self._objects_of(operation.tenant_id)
        return beside["size_bytes"], beside["sha256"], objects.get(operation.tenant_id, archive_key(operation))

    async def _require_ready(self, operation: Operation) -> dict[str, Any]:
        if operation.status is not OperationStatus.SUCCEEDED:
            raise export_not_ready(operation.status)
        objects = await self._objects_of(operation.tenant_id)
        try:
            content = [piece async for piece in objects.get(operation.tenant_id, _beside(operation))]
        except NotFound:
            raise export_gone() from None
        beside: dict[str, Any] = json.loads(b"".join(content))
        return beside

    async def _objects_of(self, tenant_id: UUID) -> ObjectStore:
        """Find where the tenant's objects are now: it may have moved since."""
        return self._objects[(await self._directory.get(tenant_id)).region]

    async def _record(self, action: str, operation: Operation) -> None:
        await self._audit.record(
            action,
            resource_type="operation",
            resource_id=format_id(Prefix.OPERATION, operation.operation_id),
        )


async def remove_old_exports(
    log: OperationLog, directory: Directory, objects: Mapping[str, ObjectStore], *, now: datetime, kept: timedelta
) -> int:
    """Remove exports that have lain ready for their time; tells how many. Repeating it is safe."""
    count = 0
    for operation in await log.list_ended_exports(tuple(objects), before=now - kept):
        placement = await directory.find(operation.tenant_id)
        if placement is not None and placement.status is not TenantStatus.ERASED and placement.region in objects:
            await remove_export(objects[placement.region], operation)
        await log.mark_ended(operation, step=_EXPIRED)
        count += 1
    return count


async def remove_export(objects: ObjectStore, operation: Operation) -> None:
    """Remove key and archive, the key first: what has a key is whole."""
    await objects.delete(operation.tenant_id, _beside(operation))
    await objects.delete(operation.tenant_id, archive_key(operation))


def archive_key(operation: Operation) -> str:
    """Name the object that is the archive."""
    return f"{EXPORTS}{operation.operation_id.hex}.tar"


def export_context(owner: UUID, keyset_id: UUID) -> bytes:
    """Name what a keyset in an archive is bound to."""
    return b"tenantry/export/" + owner.bytes + keyset_id.bytes


def _beside(operation: Operation) -> str:
    return f"{EXPORTS}{operation.operation_id.hex}.json"


def _key_context(operation: Operation) -> bytes:
    return b"tenantry/export-key/" + operation.tenant_id.bytes + operation.operation_id.bytes


def _named(table: TenantTable) -> str:
    """Name a table as the manifest does: those of the place by their names, the queue's with its schema."""
    return table.qualified if table.qualified == PURGES else table.name
