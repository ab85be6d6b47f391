"""Makes the text of a notice. What users have named is taken apart from everything that a reader might act upon."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.notifications.types import TEST_TOPIC, Delivery, Message, Notice
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_id, suffix_of

_PREFIXES: Final = {"grant_id": "jit", "approval_id": "apr", "evidence_id": "evd"}
"""Members of a payload that hold a bare uuid, and what such an id begins with."""
_BARE: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MARKUP: Final = re.compile(r"[<>&@*`~|#\[\]\\]")
"""What chat services read as a mention, a link or a style."""
_MAX_WORDS: Final = 200


def plain(text: str) -> str:
    """Make one line of a text that users wrote: no control or invisible characters, no markup, not longer than 200."""
    line = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in text)
    return " ".join(_MARKUP.sub("·", line).split())[:_MAX_WORDS]


def compose(delivery: Delivery, *, tenant_id: UUID) -> Message:
    """Make the message of a delivery: the same at each attempt."""
    notice = delivery.notice
    delivery_id, tenant = format_id(Prefix.DELIVERY, delivery.delivery_id), format_id(Prefix.TENANT, tenant_id)
    workspace = format_id(Prefix.WORKSPACE, notice.workspace_id) if notice.workspace_id else None
    at = notice.occurred_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    subject = plain(notice.topic.replace(".", " ").replace("_", " ")).capitalize()
    where = f" in {plain(notice.workspace_name)}" if notice.workspace_name else ""
    lines = {name.removesuffix("_id").replace("_", " "): value for name, value in notice.ids.items()}
    lines |= {plain(name): plain(value) for name, value in notice.facts.items()}
    if workspace:
        lines["workspace"] = f"{plain(notice.workspace_name or '')} ({workspace})".strip()
    lines |= {"tenant": tenant, "time": at, "delivery": delivery_id}
    head = "This is a test: the channel works." if notice.topic == TEST_TOPIC else f"{subject}{where}."
    return Message(
        delivery=delivery_id,
        topic=notice.topic,
        title=f"[Tenantry] {subject}{where}",
        body="\n".join([head, "", *(f"{name.capitalize()}: {value}" for name, value in lines.items())]) + "\n",
        document={
            "id": delivery_id,
            "event": str(delivery.event_id),
            "topic": notice.topic,
            "occurred_at": at,
            "tenant": tenant,
            "workspace": {"id": workspace, "name": notice.workspace_name} if workspace else None,
            "subject": {**notice.ids},
            "facts": {**notice.facts},
        },
    )


def shown_ids(ids: Mapping[str, str]) -> dict[str, str]:
    """Write bare uuids of a payload as the ids that the API shows."""
    return {name: _shown(name, value) for name, value in ids.items()}


def _shown(name: str, value: str) -> str:
    prefix = _PREFIXES.get(name)
    return f"{prefix}_{suffix_of(UUID(value))}" if prefix and _BARE.fullmatch(value) else value


def workspace_in(payload: Mapping[str, Any]) -> UUID | None:
    """Read which workspace an event is of, by TypeID or bare uuid; None for one of the whole tenant."""
    return _uuid(Prefix.WORKSPACE, payload.get("workspace_id"))


def user_in(payload: Mapping[str, Any], name: str) -> UUID | None:
    """Read which user a member of a payload names; None where it names none, or no user."""
    value = payload.get(name)
    return _uuid(Prefix.USER, value) if isinstance(value, str) and value.startswith(f"{Prefix.USER}_") else None


def _uuid(prefix: Prefix, value: object) -> UUID | None:
    if not isinstance(value, str):
        return None
    try:
        return UUID(value) if _BARE.fullmatch(value) else parse_id(prefix, value)
    except Invalid:
        return None


def happened_at(event_id: UUID) -> datetime:
    """Read when an event was made from its id, a UUIDv7 (RFC 9562 §5.7)."""
    return datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)


def noticed(notice: Notice) -> dict[str, Any]:
    """Write a notice as it is kept."""
    return {
        "topic": notice.topic,
        "occurred_at": notice.occurred_at.isoformat(),
        "workspace_id": notice.workspace_id.hex if notice.workspace_id else None,
        "workspace_name": notice.workspace_name,
        "ids": {**notice.ids},
        "facts": {**notice.facts},
    }
