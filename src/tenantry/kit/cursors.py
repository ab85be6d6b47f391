"""Cursors: an opaque, signed place in a list. Tampered, foreign, re-filtered or expired ones do not open.

The signature covers what the list was asked for (`binding`: tenant, route and filters), so a cursor of one list is
worthless in another.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

LIFETIME_SECONDS: Final = 24 * 3600
_MAC_LENGTH: Final = 16


def encode_cursor(*, key: bytes, binding: str, position: str, now: int) -> str:
    """Make the cursor that continues after `position` (at most 200 characters); `now` in epoch seconds."""
    body = f"{now + LIFETIME_SECONDS}:{position}".encode()
    return base64.urlsafe_b64encode(_mac(key, binding, body) + body).decode().rstrip("=")


def decode_cursor(*, key: bytes, binding: str, cursor: str, now: int) -> str | None:
    """Give the position back, or None for any cursor that is not exactly this list's and still valid."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        mac, body = raw[:_MAC_LENGTH], raw[_MAC_LENGTH:]
        if not hmac.compare_digest(mac, _mac(key, binding, body)):
            return None
        expiry, _, position = body.decode().partition(":")
        return position if int(expiry) >= now else None
    except (binascii.Error, ValueError):
        return None


def _mac(key: bytes, binding: str, body: bytes) -> bytes:
    # The digest has one length, so no binding runs over into the body.
    return hmac.new(key, hashlib.sha256(binding.encode()).digest() + body, hashlib.sha256).digest()[:_MAC_LENGTH]
