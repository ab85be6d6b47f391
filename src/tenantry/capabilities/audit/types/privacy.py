"""What of an event is about persons, and how the log commits to it without saying it (ADR 0044).

The canonical bytes have a commitment in its place: HMAC-SHA256 over name and value under a salt of 16 random bytes, of
its own. Value and salt lie beside the event, sealed under the tenant's key. Once they are gone, nobody can tell what
was committed to, not even by trying all values there are; every hash, proof and signature stays what it was.
"""

import hmac
import json
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tenantry.capabilities.audit.types import AuditEvent
from tenantry.kit.canonical_json import canonical_json

PUBLIC_DETAILS: Final = frozenset(
    {
        *("action", "address_replaced", "after", "allowed_by", "approval", "attempt", "attempts", "before"),
        *("by", "bytes", "capability", "changed", "code", "connections", "count", "digest"),
        *("environment", "error", "exempted_by", "exit_code", "expires_at", "fields", "file", "format"),
        *("from", "gained", "granted_by", "group", "hint", "image", "inputs", "isolation"),
        *("job", "key", "kind", "layer", "limits", "lost", "method", "minutes"),
        *("name", "needed", "path", "permission", "permissions", "phases", "plan", "policy"),
        *("position", "principal", "provider", "reason", "region", "repairs", "replaced", "role"),
        *("roles", "route", "rule", "sandbox", "secret_rotated", "secrets", "sequence", "sequences"),
        *("size", "size_bytes", "slug", "state", "status", "step", "stream", "taken"),
        *("tenant", "to", "topic", "topics", "used_by", "version", "vote", "warning"),
        *("workspace",),
        *("deleted", "dry_run", "ended_at", "examined", "expired", "faults", "floor_days", "held"),
        *("left", "scanned", "selector", "sha256", "subject", "tampered", "under_floor"),
    }
)
"""Members of details that are written as they are: ids, codes, numbers, names of things. What is not listed is taken to
be about persons."""
_SALT_BYTES: Final = 16
_DETAILS: Final = "details."


class Opening(NamedTuple):
    """What a commitment is opened with."""

    salt: bytes
    value: Any


def committed(event: AuditEvent) -> tuple[AuditEvent, bytes]:
    """Give the event with commitments instead of what is personal, and what opens them; empty where there is nothing.

    Raises ValueError for a value without a canonical form.
    """
    names = [name for name in event.details if name not in PUBLIC_DETAILS]
    if event.ip is None and not names:
        return event, b""
    found = {f"{_DETAILS}{name}": Opening(secrets.token_bytes(_SALT_BYTES), event.details[name]) for name in names}
    if event.ip is not None:
        found["ip"] = Opening(secrets.token_bytes(_SALT_BYTES), event.ip)
    bare = replace(
        event,
        ip=None,
        details={name: value for name, value in event.details.items() if name in PUBLIC_DETAILS}
        if names
        else event.details,
        committed={name: commitment(name, opening) for name, opening in found.items()},
    )
    told = {name: [b64encode(opening.salt).decode(), opening.value] for name, opening in found.items()}
    return bare, json.dumps(told, separators=(",", ":")).encode()


def opened(event: AuditEvent, payload: bytes) -> AuditEvent:
    """Give the event with what `committed` took from it, as far as it is what was committed to.

    What is not, or not there, is named in `withheld`.
    """
    found = {name: value for name, value in _openings(payload).items() if _opens(event.committed, name, value)}
    details = {
        name.removeprefix(_DETAILS): opening.value for name, opening in found.items() if name.startswith(_DETAILS)
    }
    return replace(
        event,
        ip=found["ip"].value if "ip" in found else event.ip,
        details={**event.details, **details},
        withheld=tuple(sorted(event.committed.keys() - found.keys())),
    )


def commitment(name: str, opening: Opening) -> str:
    """Commit to a value under a name: 43 characters of base64url."""
    digest = hmac.digest(opening.salt, canonical_json([name, opening.value]), "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _opens(known: Mapping[str, str], name: str, opening: Opening) -> bool:
    return hmac.compare_digest(known.get(name, ""), commitment(name, opening))


def _openings(payload: bytes) -> dict[str, Opening]:
    if not payload:
        return {}
    return {name: Opening(b64decode(salt), value) for name, (salt, value) in json.loads(payload).items()}
