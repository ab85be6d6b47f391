"""A stream into the tenant's own objects: a part for each batch, whole or not there.

    audit/streams/<stream>/<first>-<last>.jsonl    places of 19 digits, so that names sort as the events do

A part that came twice begins at the same place: of those that do, the last is the longest.
"""

from typing import Final

from tenantry.capabilities.audit.errors import NotTakenError
from tenantry.capabilities.audit.types.streams import AuditStream, Batch, Target
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.objects.ports import ObjectStore

_DIGITS: Final = 19


class ObjectSink:
    """The `Sink` port for objects."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def take(self, stream: AuditStream, target: Target | None, batch: Batch) -> None:
        del target
        name = format_id(Prefix.AUDIT_STREAM, stream.stream_id)
        key = f"audit/streams/{name}/{batch.first:0{_DIGITS}}-{batch.last:0{_DIGITS}}.jsonl"
        try:
            await self._objects.put(batch.tenant_id, key, batch.lines)
        except TenantryError as error:
            raise NotTakenError(error.code) from None
