"""The port to whatever keeps the outermost key: a key file, AWS KMS, Vault transit, another keyset."""

from typing import Protocol


class KeyWrapper(Protocol):
    """Wraps short secrets (keysets, at most 64 KiB) under a key that never leaves its keeper.

    `context` says whose secret it is; what was wrapped for one context does not unwrap for another. `unwrap` raises
    Fault `wrapped_unreadable` for anything altered or moved, Gone `key_destroyed` when the wrapping key is no more, and
    Unavailable when the keeper does not answer (a retry is safe).
    """

    async def wrap(self, secret: bytes, *, context: bytes) -> bytes: ...

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes: ...

    def is_current(self, wrapped: bytes) -> bool:
        """Tell whether the newest version of the wrapping key made it; if not, wrap anew before the old one goes."""
        ...
