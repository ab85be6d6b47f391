"""The class of each field of an event: what is said, what is sealed, what is content (ADR 0045).

`docs/reference/audit-fields.md` is made from this table. What nobody has listed is taken to be about persons.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final


class DataClass(StrEnum):
    PUBLIC = "public"
    """Ids, codes, numbers, names of things: written as it is, hashed for ever."""
    PERSONAL = "personal"
    """About persons: committed to, sealed beside the event, and can be forgotten."""
    CONTENT = "content"
    """What people or programs wrote: the same, but in `metadata_only` nothing that opens it is kept."""


class FreeText(str):
    """A reason that somebody wrote, however much it looks like a code: content."""

    __slots__ = ()


IP: Final = "ip"
REASON: Final = "reason"
DETAILS: Final = "details."

_PUBLIC: Final = (
    *("action", "address_replaced", "after", "allowed_by", "approval", "arguments", "attempt", "attempts"),
    *("before", "by", "bytes", "cancelled_by", "capability", "case", "changed", "channel", "code"),
    *("confirmed_by", "connections", "count", "days", "delivery", "deleted", "digest", "dry_run"),
    *(
        "effect",
        "ended_at",
        "ended_jobs",
        "environment",
        "error",
        "events",
        "examined",
        "exempted_by",
        "exit_code",
        "expired",
    ),
    *("expires_at", "faults", "fields", "files_kept", "fingerprint", "floor_days", "forgetting", "format", "from"),
    *("gained", "grace_until", "granted_by", "group", "held", "hint", "image", "inputs", "into", "isolation", "issuer"),
    *("job", "key", "kind", "layer", "left", "limits", "loaded", "lost", "method", "minutes", "mode"),
    *("name", "needed", "permission", "permissions", "phases", "plan", "policy"),
    *("position", "principal", "provider", "reason", "recipient", "region", "repairs", "replaced", "requested_by"),
    *("role", "roles", "root", "route", "rule", "sandbox", "scanned", "secret_rotated", "secrets", "selector"),
    *(
        "sequence",
        "sequences",
        "sha256",
        "signed",
        "size",
        "size_bytes",
        "skipped",
        "slug",
        "snapshots",
        "state",
        "status",
    ),
    *("step", "stream", "subject", "successor", "taken", "tampered", "tenant", "to", "topic", "topics"),
    *("under_floor", "used_by", "version", "vote", "warning", "was", "workspace"),
)
_PERSONAL: Final = ("email", "owner")
_CONTENT: Final = ("command", "comment", "description", "detail", "file", "message", "path", "program", "remedy")

CLASSES: Final[Mapping[str, DataClass]] = {
    **dict.fromkeys(_PUBLIC, DataClass.PUBLIC),
    **dict.fromkeys(_PERSONAL, DataClass.PERSONAL),
    **dict.fromkeys(_CONTENT, DataClass.CONTENT),
}
"""Of a member of `details`, by its name."""
OF_NOUNS: Final[Mapping[tuple[str, str], DataClass]] = {
    ("workspace", "path"): DataClass.PUBLIC,  # names a workspace
    ("region", "route"): DataClass.CONTENT,  # the address as it was asked for
}
"""The same where it means something else in events of one noun: `workspace` of `workspace.created`."""

_CODE: Final = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")


@lru_cache(maxsize=4096)  # names come from the code, so they are few
def class_of(action: str, member: str) -> DataClass:
    """Tell the class of a member of `details` in events of an action."""
    noun = action.partition(".")[0]
    return OF_NOUNS.get((noun, member)) or CLASSES.get(member, DataClass.PERSONAL)


def class_of_reason(reason: str) -> DataClass:
    """Codes are public; what reads like a text, or is known to be one, is content."""
    coded = type(reason) is not FreeText and _CODE.fullmatch(reason) is not None
    return DataClass.PUBLIC if coded else DataClass.CONTENT
