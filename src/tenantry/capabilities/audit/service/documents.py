"""An event as others read it: the API's document, the flat line of a day's file, a CloudEvent."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tenantry.capabilities.audit.types import AuditEvent
from tenantry.foundation.ids import Prefix, format_id
from tenantry.kit.cloud_events import cloud_event

_SEQUENCE_DIGITS: Final = 19
_WRITER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


def document_of(event: AuditEvent) -> dict[str, Any]:
    """Give the event as `GET /audit` shows it."""
    return {
        "id": format_id(Prefix.AUDIT_EVENT, event.event_id),
        "sequence": event.sequence,
        "occurred_at": told(event.occurred_at),
        "tenant": format_id(Prefix.TENANT, event.tenant_id),
        "workspace": format_id(Prefix.WORKSPACE, event.workspace_id) if event.workspace_id else None,
        "actor": {"type": event.actor.type.value, "id": event.actor.id, "chain": list(event.actor.chain)},
        "action": event.action,
        "resource": {"type": event.resource_type, "id": event.resource_id},
        "outcome": event.outcome.value,
        "reason": event.reason,
        "ip": event.ip,
        "trace_id": event.trace_id,
        "details": dict(event.details),
        "withheld": list(event.withheld),
    }


def flat_line(event: AuditEvent) -> bytes:
    """Write the event as a line of a day's file: flat keys, one JSON object, ended by a line feed."""
    return (
        written(
            {
                "event_id": format_id(Prefix.AUDIT_EVENT, event.event_id),
                "timestamp": told(event.occurred_at),
                "workspace_id": format_id(Prefix.WORKSPACE, event.workspace_id) if event.workspace_id else None,
                "actor_type": event.actor.type.value,
                "actor_id": event.actor.id,
                "action": event.action,
                "resource_type": event.resource_type,
                "resource_id": event.resource_id,
                "details": dict(event.details),
                "outcome": event.outcome.value,
                "ip_address": event.ip,
                "reason": event.reason,
                "trace_id": event.trace_id,
                "sequence": event.sequence,
                "withheld": list(event.withheld),
            }
        )
        + b"\n"
    )


def cloud_document(event: AuditEvent) -> dict[str, Any]:
    """Tell an event as a CloudEvent; `sequence` is the extension of that name, and sorts as text."""
    return cloud_event(
        event_id=format_id(Prefix.AUDIT_EVENT, event.event_id),
        source=f"/tenants/{format_id(Prefix.TENANT, event.tenant_id)}/audit",
        kind=f"tenantry.audit.{event.action}",
        subject=f"{event.resource_type}/{event.resource_id}",
        time=told(event.occurred_at),
        data=document_of(event),
        sequence=f"{event.sequence or 0:0{_SEQUENCE_DIGITS}}",
    )


def written(document: Mapping[str, Any]) -> bytes:
    """Write JSON in ASCII alone (RFC 8259 §7): no line break, control character or escape sequence stands in it raw."""
    return _WRITER.encode(document).encode()


def told(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
