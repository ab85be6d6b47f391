from tenantry.engines.envelope.keyset import Keyset
from tenantry.foundation.errors import Fault

_CONTEXT = b"wrapped\x00"


class KeysetWrapper:
    """Wraps under a keyset already at hand: keys below keys, without another call to the KMS."""

    def __init__(self, keyset: Keyset) -> None:
        self._keyset = keyset

    async def wrap(self, secret: bytes, *, context: bytes) -> bytes:
        return self._keyset.seal(secret, _CONTEXT + context)

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        return unwrapped(self._keyset, wrapped, context)

    def is_current(self, wrapped: bytes) -> bool:
        return self._keyset.is_current(wrapped)


def unwrapped(keyset: Keyset, wrapped: bytes, context: bytes) -> bytes:
    """Open what was wrapped; raises Gone `key_destroyed`, Fault `wrapped_unreadable` for anything else."""
    try:
        return keyset.open(wrapped, _CONTEXT + context)
    except Fault:
        raise Fault(
            "wrapped_unreadable", "a wrapped key does not open: it was altered, moved, or wrapped by another key"
        ) from None
