"""How what was used is shown: as answers of the API, as lines of CSV, and as CloudEvents 1.0."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field

from tenantry.capabilities.limits.service.metering import HOUR
from tenantry.capabilities.limits.types.metering import MeterEvent, MeterHour
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.schema import Answer, Moment
from tenantry.kit import cloud_events
from tenantry.kit.spreadsheets import csv_lines

HOUR_COLUMNS: Final = ("hour", "workspace", "meter", "quantity", "unit", "events", "finished")
EVENT_COLUMNS: Final = (
    *("id", "occurred_at", "workspace", "meter", "quantity", "unit", "subject", "principal", "recorded_at"),
)


class _Quantity(Answer):
    workspace: str
    meter: str
    quantity: str = Field(description="an exact decimal number, in `unit`")
    unit: str


class HourAnswer(_Quantity):
    hour: Moment = Field(description="its begin")
    events: int = Field(description="so many add up to it")
    finished: bool = Field(description="only what is recorded late adds to it")


class EventAnswer(_Quantity):
    id: str = Field(description="follows from what was used: a repetition has the same")
    occurred_at: Moment
    subject: str = Field(description="what was used, or used it, by its id")
    principal: str | None
    recorded_at: Moment
    attributes: dict[str, Any]


class MeteringPage(Answer):
    """One page; `next_cursor` null on the last."""

    items: list[HourAnswer] | list[EventAnswer]
    next_cursor: str | None
    rolled_up_to: Moment | None = Field(description="hours that end until then are finished; null: none is")


def hour_answer(found: MeterHour, *, rolled_up_to: datetime | None) -> HourAnswer:
    return HourAnswer(
        hour=found.hour,
        workspace=format_id(Prefix.WORKSPACE, found.workspace_id),
        meter=found.meter.value,
        quantity=f"{found.amount:f}",
        unit=found.meter.unit,
        events=found.events,
        finished=rolled_up_to is not None and found.hour + HOUR <= rolled_up_to,
    )


def event_answer(found: MeterEvent) -> EventAnswer:
    return EventAnswer(
        id=format_id(Prefix.METER_EVENT, found.event_id),
        occurred_at=found.occurred_at,
        workspace=format_id(Prefix.WORKSPACE, found.workspace_id),
        meter=found.meter.value,
        quantity=f"{found.amount:f}",
        unit=found.meter.unit,
        subject=found.subject,
        principal=found.principal_id,
        recorded_at=found.recorded_at,
        attributes=dict(found.attributes),
    )


def csv_of(items: Sequence[Answer], columns: Sequence[str]) -> str:
    rows = [item.model_dump(mode="json") for item in items]
    return csv_lines([[_cell(row[name]) for name in columns] for row in rows])


def cloud_event(found: EventAnswer, *, tenant_id: UUID) -> dict[str, Any]:
    """Tell an event as CloudEvents 1.0 has it; source and id together are unique, and a repetition's are the same."""
    told = found.model_dump(mode="json")
    return cloud_events.cloud_event(
        event_id=found.id,
        source=f"/tenants/{format_id(Prefix.TENANT, tenant_id)}/workspaces/{found.workspace}",
        kind=f"tenantry.metering.{found.meter}",
        subject=found.subject,
        time=told["occurred_at"],
        data={name: told[name] for name in ("quantity", "unit", "principal", "attributes")},
    )


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
