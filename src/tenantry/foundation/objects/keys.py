import re
from typing import Final
from uuid import UUID

from tenantry.foundation.errors import Fault, Invalid, NotFound
from tenantry.foundation.ids import Prefix, format_id

DIGEST_BYTES: Final = 32
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MAX_KEY: Final = 512
_MAX_SEGMENTS: Final = 32


def segments_of(key: str) -> list[str]:
    """Split a key; raises Invalid `object_key_malformed`, without the key: it may be a stranger's input."""
    if len(key) <= _MAX_KEY:
        segments = key.split("/")
        if len(segments) <= _MAX_SEGMENTS and all(map(_sound, segments)):
            return segments
    raise Invalid(
        "object_key_malformed",
        f"a key is up to {_MAX_SEGMENTS} segments of [A-Za-z0-9._-] joined by '/', none '.' or '..'",
        field="key",
    )


def _sound(segment: str) -> bool:
    return _SEGMENT.fullmatch(segment) is not None and segment not in {".", ".."}


def folder_of(tenant_id: UUID) -> str:
    """Name the tenant's folder; a text is refused, it could hold a path."""
    if not isinstance(tenant_id, UUID):
        raise Invalid("tenant_malformed", "a tenant is named by its UUID", field="tenant_id")
    return format_id(Prefix.TENANT, tenant_id)


def absent() -> NotFound:
    return NotFound("object_absent", "no such object")


def damaged() -> Fault:
    return Fault("object_damaged", "an object's content does not match its digest; restore it from a backup")
