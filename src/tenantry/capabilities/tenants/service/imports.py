"""Imports: a tenant put back from its archive, here or elsewhere, under the same id.

    provision  its place is made, empty and behind the fence
    rows       all rows in one transaction, as the manifest has summed them up; the keys, wrapped for this installation
    things     objects and images; then whoever keeps any says whether they and the rows are of each other
    settle     what ran elsewhere is ended, its owner is let in, its trail says where it comes from
    open       the fence lets it work, the directory knows it, the archive is removed

Each step may be done again. Until `open` nobody sees it, and giving up leaves nothing.
"""

import asyncio
import base64
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import archive_refused, export_key_wrong
from tenantry.capabilities.tenants.ports import (
    ArchivedStore,
    Arrival,
    Inspection,
    OwnerAdmission,
    Provisioner,
    TenantStore,
)
from tenantry.capabilities.tenants.service.archives import KEYS, Archive, ManifestTable, examine
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.exports import export_context
from tenantry.capabilities.tenants.service.import_files import ImportFiles, ImportRequest
from tenantry.capabilities.tenants.service.keyring import keyset_context
from tenantry.capabilities.tenants.service.moves import MoverAccess
from tenantry.capabilities.tenants.service.operations import DONE, Next, OperationLog
from tenantry.capabilities.tenants.service.platform_trail import tell_once, tell_platform
from tenantry.capabilities.tenants.types import (
    REVOCATIONS,
    Isolation,
    Operation,
    Owner,
    Seat,
    TenantStatus,
)
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.envelope.keyset_wrapper import KeysetWrapper
from tenantry.engines.envelope.wrapping import KeyWrapper
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.places import SHARED, is_schema, schema_at
from tenantry.foundation.database.transfer import TenantRows, TenantTable, open_rows
from tenantry.foundation.errors import Conflict, Fault, Gone, Invalid, TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

PROVISION: Final = "provision"
_CLOSED: Final = "suspended"
"""What the fence says until `open`: lifecycle work goes on, nobody else's."""

_SETTLE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.05

_log = structlog.get_logger(__name__)


class Imports:
    """The steps of an import; `access` by region, `archived` by the folder of the archive it is filled from.

    `kinds` are those of content that something here can forget.
    """

    interruptible: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        log: OperationLog,
        directory: Directory,
        cells: Cells,
        access: Mapping[str, MoverAccess],
        provisioner: Provisioner,
        archived: Mapping[str, ArchivedStore],
        stores: Mapping[str, TenantStore],
        files: ImportFiles,
        wrapper: KeyWrapper,
        admission: OwnerAdmission,
        kinds: Collection[str],
        inspections: Sequence[Inspection],
        arrivals: Sequence[Arrival],
        clock: Clock,
    ) -> None:
        self._log = log
        self._directory = directory
        self._cells = cells
        self._access = access
        self._provisioner = provisioner
        self._archived = archived
        self._stores = stores
        self._files = files
        self._wrapper = wrapper
        self._admission = admission
        self._kinds = kinds
        self._inspections = inspections
        self._arrivals = arrivals
        self._clock = clock

    async def run(self, operation: Operation) -> Next:
        """Do `operation.step`; see the table above."""
        steps = {
            PROVISION: self._provision,
            "rows": self._rows,
            "things": self._things,
            "settle": self._settle,
            "open": self._open,
        }
        try:
            return await steps[operation.step](operation)
        except asyncpg.PostgresError as error:
            if operation.step != "rows":
                raise
            raise archive_refused("rows", f"the database takes none of it ({type(error).__name__})") from error
        except (Unavailable, Conflict):
            raise
        except TenantryError as error:
            if operation.step != "open":
                raise
            message = f"the import met {error.code} and is tried again"
            raise Unavailable("import_interrupted", message, layer="tenants") from error

    async def abandon(self, operation: Operation) -> None:
        """Remove what there is of the tenant, its place in the directory last."""
        target = operation.target
        async with self._at(operation, _shared(target)) as cell:
            # What follows a tenant's rows may have begun with these: it is waited for, and what it left goes as well.
            await cell.place("read_only", home=schema_at(target.place) if is_schema(target.place) else target.place)
            await _delete_rows(cell, target)
            number = await cell.transaction_number()
        await self._settled(operation, number)
        async with self._at(operation, _shared(target)) as cell:
            await _delete_rows(cell, target)
            await cell.forget()
        if target.place != SHARED:
            await self._provisioner.remove(region=target.region, place=target.place)
        for store in self._stores.values():
            await store.erase(operation.tenant_id, region=target.region)
        await self._log.forget_import(operation)
        await self._files.remove(operation.operation_id, region=target.region)

    async def _provision(self, operation: Operation) -> Next:
        self._files.require_archive(operation)
        await self._provisioner.make(region=operation.target.region, place=operation.target.place)
        return Next("rows")

    async def _rows(self, operation: Operation) -> Next:
        """Restore rows and keys in one transaction; nothing of an earlier try is left there."""
        request, archive = await self._files.request(operation), await self._archive(operation)
        target = operation.target
        async with self._at(operation, target) as rows:
            tables, queue = await rows.tables(), await rows.tables(queue=True)
            for table in reversed([*queue, *tables]):
                await rows.delete(table)
            await rows.place(_CLOSED, home=schema_at(target.place))
            given = {table.name: table for table in archive.manifest.tables}
            wanted = [(each.name, each) for each in tables] + [(each.qualified, each) for each in queue]
            for name, table in wanted:
                if name in given:
                    await _restore(rows, table, given[name], archive)
                if name == "keysets":
                    await self._restore_keys(rows, table, operation, request, archive)
            await self._settle_rows(rows, operation, request)
            await rows.execute("select pg_notify($1, $2)", REVOCATIONS, operation.tenant_id.hex)
        return Next("things")

    async def _restore_keys(
        self, rows: TenantRows, table: TenantTable, operation: Operation, request: ImportRequest, archive: Archive
    ) -> None:
        owner, kept = operation.tenant_id, []
        for keyset_id, keyset, created_at in await open_keys(archive, request.export_key, owner=owner):
            wrapped = await keyset.wrapped(wrapper=self._wrapper, context=keyset_context(owner, keyset_id))
            kept.append((owner, keyset_id, wrapped, created_at))
        await rows.write(table, kept, columns=("tenant_id", "keyset_id", "wrapped", "created_at"))

    async def _settle_rows(self, rows: TenantRows, operation: Operation, request: ImportRequest) -> None:
        """Say where it is now. What only a process of its old installation could open is due to be forgotten."""
        target, now = operation.target, self._clock.now()
        await rows.execute(
            """update tenants set slug = $1, region = $2, isolation = $3, deleted_at = null, erase_after = null,
                   version = version + 1,
                   status = case when status = 'suspended' then status else 'active' end,
                   status_reason = case when status = 'suspended' then status_reason end""",
            request.slug,
            target.region,
            target.isolation.value,
        )
        await rows.execute("update workspaces set region = $1, version = version + 1 where region <> $1", target.region)
        await rows.execute("update queue.purges set due_at = $1, holder = null where holder is not null", now)
        unknown = "select exists (select from queue.purges where tenant_id = $1 and kind <> all ($2::text[]))"
        if await rows.value(unknown, operation.tenant_id, list(self._kinds)):
            raise archive_refused("purges", "something is to be forgotten there that nobody keeps here")

    async def _things(self, operation: Operation) -> Next:
        archive, region = await self._archive(operation), operation.target.region
        for member in archive.manifest.members:
            folder, _, name = member.name.partition("/")
            store = self._archived.get(folder)
            if store is None:
                continue
            if folder == "images":
                name = name.removesuffix(".tar")
            with archive.open(member.name) as content:
                await store.restore(
                    operation.tenant_id,
                    region=region,
                    name=name,
                    size=member.size_bytes,
                    about=member.about,
                    content=content,
                )
        for inspection in self._inspections:
            await inspection.inspect(operation.tenant_id, region=region)
        return Next("settle")

    async def _settle(self, operation: Operation) -> Next:
        """Let the owner in with the key that was shown, once."""
        request = await self._files.request(operation)
        scope = TenantScope(tenant_id=operation.tenant_id, region=operation.target.region, actor=SYSTEM)
        async with self._cells.session(scope, lifecycle=True) as session:
            tenant = await repository.find_tenant(session)
            if tenant is None:
                raise Fault("tenant_missing", "the rows of this tenant are gone", layer="tenants")
            details = {"region": operation.target.region, "isolation": operation.target.isolation.value}
            if await tell_once(session, "tenant.imported", operation, clock=self._clock, details=details):
                for arrival in self._arrivals:
                    await arrival.arrive(session)
                await self._admission.admit(session, owner=Owner.model_validate(tenant.owner), key=request.owner_key)
        return Next("open")

    async def _open(self, operation: Operation) -> Next:
        target = operation.target
        async with self._at(operation, target) as rows:
            status = TenantStatus(await rows.value("select status from tenants"))
            workspaces = await rows.value("select coalesce(array_agg(workspace_id), '{}') from workspaces")
            await rows.place(status.value, home=schema_at(target.place))
        if not is_schema(target.place):
            async with self._at(operation, _shared(target)) as cell:
                await cell.place("active", home=target.place)
        await self._directory.place_workspaces(workspaces, tenant_id=operation.tenant_id, region=target.region)
        await self._directory.set_status(operation.tenant_id, status)
        async with self._at(operation, _shared(target)) as cell:
            await cell.execute("select pg_notify($1, $2)", REVOCATIONS, operation.tenant_id.hex)
        await tell_platform(self._cells, "tenant.imported", operation, region=target.region, clock=self._clock)
        await self._files.remove(operation.operation_id, region=target.region)
        return Next(DONE)

    async def _settled(self, operation: Operation, number: int) -> None:
        """Wait for what was under way before a transaction; raises Unavailable to be called again."""
        deadline = self._clock.monotonic() + _SETTLE_SECONDS
        while True:
            async with self._at(operation, _shared(operation.target)) as cell:
                if await cell.oldest_transaction() > number:
                    return
            if self._clock.monotonic() > deadline:
                raise Unavailable("transactions_open", "older transactions are still open", layer="tenants")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _archive(self, operation: Operation) -> Archive:
        return await asyncio.to_thread(examine, self._files.require_archive(operation))

    def _at(self, operation: Operation, seat: Seat) -> AbstractAsyncContextManager[TenantRows]:
        access = self._access[seat.region]
        return open_rows(access.dsn, place=seat.place, signer=access.signer, tenant_id=operation.tenant_id)


async def _delete_rows(cell: TenantRows, target: Seat) -> None:
    """Delete what lies in the cell's shared tables."""
    tables = [*await cell.tables(queue=True), *(await cell.tables() if target.place == SHARED else ())]
    for table in reversed(tables):
        await cell.delete(table)


async def open_keys(archive: Archive, key: bytes, *, owner: UUID) -> list[tuple[UUID, Keyset, datetime]]:
    """Open the keysets of an archive; raises Invalid `export_key_wrong`, or `archive_refused` when there are none."""
    wrapper, found = KeysetWrapper(Keyset.of_key(key)), []
    try:
        for each in json.loads(archive.read(KEYS))["keysets"]:
            keyset_id = parse_id(Prefix.KEYSET, each["id"])
            wrapped = base64.b64decode(each["wrapped"], validate=True)
            keyset = await Keyset.unwrap(wrapped, wrapper=wrapper, context=export_context(owner, keyset_id))
            found.append((keyset_id, keyset, datetime.fromisoformat(each["created_at"])))
    except (Fault, Gone):
        raise export_key_wrong() from None
    except (ValueError, KeyError, TypeError, RecursionError, Invalid):
        raise archive_refused("keys", f"{KEYS} is none of ours") from None
    if not found:
        raise archive_refused("keys", "it has no keys: nothing in it could be opened")
    return found


async def _restore(rows: TenantRows, table: TenantTable, given: ManifestTable, archive: Archive) -> None:
    """Write a table's rows; raises Invalid when what was written is not what the manifest has summed up."""
    batches = archive.rows(given)
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        await rows.write_texts(table, batch, columns=given.columns)
    digest = await rows.digest(table, columns=given.columns)
    if (digest.rows, digest.sum) != (given.rows, given.sum):
        raise archive_refused("sum", f"{given.name} is not what the manifest has summed up")


def _shared(seat: Seat) -> Seat:
    return Seat(seat.region, Isolation.ROW_LEVEL, SHARED)
