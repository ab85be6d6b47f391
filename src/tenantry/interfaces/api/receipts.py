"""Receipts of what a request has done: the log's signature over its events, as headers of the answer."""

from base64 import b64encode
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import structlog

from tenantry.capabilities.audit.service import Recorded
from tenantry.foundation.errors import TenantryError
from tenantry.interfaces.api.runtime import Runtime

HEADER: Final = "audit-receipt"

_log = structlog.get_logger(__name__)


def receipts_of(recorded: Sequence[Recorded], runtime: Runtime) -> list[str]:
    """Give a receipt for each log that the events are in, signed notes in base64; none where no key is to be had.

    What was done is done by then: an answer that it failed would be a lie.
    """
    by_region = groupby(sorted(recorded, key=attrgetter("region")), key=attrgetter("region"))
    try:
        notes = [note for region, events in by_region for note in runtime.notaries[region].acknowledge(events)]
    except TenantryError as error:
        _log.error("audit.no_receipt", code=error.code, events=len(recorded))
        return []
    return [b64encode(note).decode() for note in notes]


def headers_of(recorded: Sequence[Recorded], runtime: Runtime) -> list[tuple[bytes, bytes]]:
    return [(HEADER.encode(), receipt.encode()) for receipt in receipts_of(recorded, runtime)] if recorded else []
