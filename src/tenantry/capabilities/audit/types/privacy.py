"""What of an event is about persons, or content, and how the log commits to it without saying it (ADR 0044, 0045).

The canonical bytes have a commitment in its place: HMAC-SHA256 over name and value under a salt of 16 random bytes, of
its own. Value and salt lie beside the event, sealed under the tenant's key. Once they are gone, nobody can tell what
was committed to, not even by trying all values there are; every hash, proof and signature stays what it was. Of content
in a workspace whose mode is `metadata_only` they are gone before the event is written.
"""

import hmac
import json
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tenantry.capabilities.audit.types import AuditEvent
from tenantry.capabilities.audit.types.classes import DETAILS, IP, REASON, DataClass, class_of, class_of_reason
from tenantry.kit.canonical_json import canonical_json

_SALT_BYTES: Final = 16
_PUBLIC: Final = DataClass.PUBLIC


class Opening(NamedTuple):
    """What a commitment is opened with."""

    salt: bytes
    value: Any


class Openings(NamedTuple):
    """What opens the commitments of one event, to be sealed; empty where there is nothing to keep.

    `personal` is kept whatever the mode; `whole`, which has content too, where the mode keeps content.
    """

    personal: bytes
    whole: bytes

    @property
    def differ(self) -> bool:
        """Say whether the mode of the workspace decides which of them is kept."""
        return self.personal is not self.whole


NOTHING: Final = Openings(b"", b"")


def committed(event: AuditEvent) -> tuple[AuditEvent, Openings]:
    """Give the event with commitments instead of what is not public, and what opens them.

    Raises ValueError for a value without a canonical form.
    """
    classes = {name: of for name in event.details if (of := class_of(event.action, name)) is not _PUBLIC}
    values = {DETAILS + name: event.details[name] for name in classes}
    content = [DETAILS + name for name, of in classes.items() if of is DataClass.CONTENT]
    coded = event.reason is None or class_of_reason(event.reason) is _PUBLIC
    if not coded:
        values[REASON] = str(event.reason)
        content.append(REASON)
    if event.ip is not None:
        values[IP] = event.ip
    if not values:
        return event, NOTHING
    found = {name: Opening(secrets.token_bytes(_SALT_BYTES), value) for name, value in values.items()}
    bare = replace(
        event,
        ip=None,
        reason=event.reason if coded else None,
        details={name: value for name, value in event.details.items() if name not in classes}
        if classes
        else event.details,
        committed={name: commitment(name, opening) for name, opening in found.items()},
    )
    whole = _told(found)
    if not content:
        return bare, Openings(whole, whole)
    return bare, Openings(_told({name: opening for name, opening in found.items() if name not in content}), whole)


def opened(event: AuditEvent, payload: bytes) -> AuditEvent:
    """Give the event with what `committed` took from it, as far as it is what was committed to.

    What is not, or not there, is named in `withheld`.
    """
    found = {name: value for name, value in _openings(payload).items() if _opens(event.committed, name, value)}
    details = {name.removeprefix(DETAILS): opening.value for name, opening in found.items() if name.startswith(DETAILS)}
    return replace(
        event,
        ip=found[IP].value if IP in found else event.ip,
        reason=found[REASON].value if REASON in found else event.reason,
        details={**event.details, **details},
        withheld=tuple(sorted(event.committed.keys() - found.keys())),
    )


def commitment(name: str, opening: Opening) -> str:
    """Commit to a value under a name: 43 characters of base64url."""
    digest = hmac.digest(opening.salt, canonical_json([name, opening.value]), "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _told(openings: Mapping[str, Opening]) -> bytes:
    if not openings:
        return b""
    told = {name: [b64encode(opening.salt).decode(), opening.value] for name, opening in openings.items()}
    return json.dumps(told, separators=(",", ":")).encode()


def _opens(known: Mapping[str, str], name: str, opening: Opening) -> bool:
    return hmac.compare_digest(known.get(name, ""), commitment(name, opening))


def _openings(payload: bytes) -> dict[str, Opening]:
    if not payload:
        return {}
    return {name: Opening(b64decode(salt), value) for name, (salt, value) in json.loads(payload).items()}
