"""Signs the tenant context that `fence.tenant()` verifies in PostgreSQL (ADR 0004).

Layout, fixed width so that SQL reads it by position:

    mac(64 hex) key(1) purpose(1) expiry(10 digits) tenant(32 hex) workspace(32 hex, or '*')

`mac` is HMAC-SHA-256 (RFC 2104) of everything after it. `expiry` is at most 60 s ahead of the database's clock at
transaction start. `purpose` is `n` for normal work and `p` for lifecycle work of the platform: only that one passes a
suspended tenant and may change `fence.tenant_state`.
"""

import hashlib
import hmac
import time
from typing import Final
from uuid import UUID

LIFETIME_SECONDS: Final = 45
_BLOCK: Final = 64


def derive_context_key(*, master: bytes, region: str) -> bytes:
    """One key per cell, so that a context of one region is worthless in another."""
    return hmac.new(master, b"tenantry/context/" + region.encode(), hashlib.sha256).digest()


def pads_of(key: bytes) -> tuple[bytes, bytes]:
    """Inner and outer HMAC pads (RFC 2104), which is what the database holds: its built-in `sha256()` does the rest."""
    block = key.ljust(_BLOCK, b"\0")
    return bytes(b ^ 0x36 for b in block), bytes(b ^ 0x5C for b in block)


class ContextSigner:
    """Signs contexts for one cell. `clock_offset` is database time minus ours in seconds, measured at each ping."""

    def __init__(self, *, key: bytes, key_id: str = "a") -> None:
        self._key = key
        self._key_id = key_id
        self.clock_offset = 0.0

    def sign(self, *, tenant_id: UUID, workspace_id: UUID | None, lifecycle: bool = False) -> str:
        """Make the value of `app.ctx`; it holds only hex, digits and `*`, so it needs no quoting."""
        expiry = int(time.time() + self.clock_offset) + LIFETIME_SECONDS
        workspace = workspace_id.hex if workspace_id else "*"
        body = f"{self._key_id}{'p' if lifecycle else 'n'}{expiry:010d}{tenant_id.hex}{workspace}"
        return hmac.digest(self._key, body.encode(), "sha256").hex() + body
