"""What is metered: meters with their units, events of use, and the hours they add up to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid5

MOST_QUANTITY: Final = 2**53 - 1
"""Of one event, in the meter's smallest unit: what JSON numbers carry exactly (RFC 8259 §6). Sums know no bound."""

_NAMESPACE: Final = UUID("6c9325eb-9654-5894-a86c-a288fb2137a2")
"""That of the URL `urn:tenantry:metering`."""
_MILLI: Final = 3


class Meter(StrEnum):
    """A kind of use. What nothing produces yet counts nothing until it is recorded."""

    JOB_CPU_SECONDS = "job_cpu_seconds"
    JOB_MEMORY_MIB_SECONDS = "job_memory_mib_seconds"
    """The highest memory of a job times its wall time: what had to be there for it, not what it held on average."""
    JOB_WALL_SECONDS = "job_wall_seconds"
    STORAGE_BYTE_HOURS = "storage_byte_hours"
    """Bytes kept when an hour was sampled, for that hour."""
    TOKENS = "tokens"
    EGRESS_BYTES = "egress_bytes"
    CONNECTOR_CALLS = "connector_calls"

    @property
    def unit(self) -> str:
        return _UNITS[self][0]

    @property
    def places(self) -> int:
        """Decimal places of a quantity; it is stored as whole numbers of the last of them."""
        return _UNITS[self][1]


_UNITS: Final[Mapping[Meter, tuple[str, int]]] = {
    Meter.JOB_CPU_SECONDS: ("seconds", _MILLI),
    Meter.JOB_MEMORY_MIB_SECONDS: ("MiB-seconds", _MILLI),
    Meter.JOB_WALL_SECONDS: ("seconds", _MILLI),
    Meter.STORAGE_BYTE_HOURS: ("byte-hours", 0),
    Meter.TOKENS: ("tokens", 0),
    Meter.EGRESS_BYTES: ("bytes", 0),
    Meter.CONNECTOR_CALLS: ("calls", 0),
}


@dataclass(frozen=True, slots=True)
class Used:
    """Something used, to be recorded. `quantity` is whole, in the meter's smallest unit.

    What it is, and with it whether it was recorded before, say workspace, meter, `subject` and `window`: the same four
    are the same event, whatever else they say.
    """

    workspace_id: UUID
    meter: Meter
    quantity: int
    subject: str
    """What was used or used it, by its id."""
    occurred_at: datetime
    window: str = ""
    """Which part of the subject's use, where it has more than one; the hour of a sample."""
    principal_id: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def event_id(self) -> UUID:
        """Derived, so that a repetition names the same event; as JSON no two lists of names read the same."""
        return uuid5(_NAMESPACE, json.dumps([self.workspace_id.hex, self.meter, self.subject, self.window]))


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """An event of use as it is kept."""

    event_id: UUID
    workspace_id: UUID
    meter: Meter
    quantity: int
    subject: str
    principal_id: str | None
    occurred_at: datetime
    recorded_at: datetime
    attributes: Mapping[str, Any]

    @property
    def amount(self) -> Decimal:
        return amount_of(self.meter, self.quantity)


@dataclass(frozen=True, slots=True)
class MeterHour:
    """What the events of an hour, by its UTC begin, add up to."""

    hour: datetime
    workspace_id: UUID
    meter: Meter
    quantity: int
    events: int

    @property
    def amount(self) -> Decimal:
        return amount_of(self.meter, self.quantity)


@dataclass(frozen=True, slots=True)
class MeterQuery:
    """From `since` to before `until`; None means any meter, and any workspace of the tenant."""

    since: datetime
    until: datetime
    meter: Meter | None = None
    workspace_id: UUID | None = None


HourPosition = tuple[datetime, UUID, Meter]
"""After which hour, workspace and meter a page begins."""
EventPosition = tuple[datetime, UUID]
"""After which time and event."""


def amount_of(meter: Meter, quantity: int) -> Decimal:
    """Tell a stored quantity in the meter's unit, exactly."""
    return Decimal(quantity).scaleb(-meter.places)


def thousandths(value: float) -> int | None:
    """Round what was measured to whole thousandths, ties to even; None for what no quantity can be."""
    if not 0 <= value <= MOST_QUANTITY / 1000:  # also of what is no number
        return None
    return int((Decimal(str(value)) * 1000).to_integral_value(ROUND_HALF_EVEN))
