from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn, Self

from tenantry.engines.envelope.tink_border import KEY_BYTES, TinkKeyset, Unreadable, key_id_in
from tenantry.engines.envelope.wrapping import KeyWrapper
from tenantry.foundation.errors import Conflict, Fault, Gone, Invalid

MAX_LIVE_KEYS: Final = 10
MAX_SEALED_AT_ONCE: Final = 16 << 20
# What a seal is for goes before the associated data, so that none opens as another.
_VALUE: Final = b"\x01"
_PART: Final = b"\x02"
_KEYSET: Final = b"\x03"


class KeyState(StrEnum):
    ACTIVE = "active"
    GRACE = "grace"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class DataKey:
    """One key of a keyset: ids count from 1, the active one seals, grace ones open, retired ones are gone."""

    id: int
    state: KeyState


class Keyset:
    """Data keys in memory. Immutable: `rotated` and `retired` give another, to be wrapped and stored by the caller.

    AES-256-GCM with random nonces: rotate before one key has sealed 2³² times (NIST SP 800-38D §8.3).
    """

    __slots__ = ("_tink",)

    def __init__(self, tink: TinkKeyset) -> None:
        self._tink = tink

    @classmethod
    def create(cls) -> Self:
        return cls(TinkKeyset.of_one(1))

    @classmethod
    def of_key(cls, key: bytes) -> Self:
        """Make one of a key that somebody keeps elsewhere; raises Invalid `key_length` unless it has 256 bits."""
        if len(key) != KEY_BYTES:
            raise Invalid("key_length", f"a key has {KEY_BYTES} bytes")
        return cls(TinkKeyset.of_one(1, value=key))

    @classmethod
    async def unwrap(cls, wrapped: bytes, *, wrapper: KeyWrapper, context: bytes) -> Self:
        """Read what `wrapped` gave for this context; raises what `KeyWrapper.unwrap` raises."""
        return cls.parse(await wrapper.unwrap(wrapped, context=_KEYSET + context))

    async def wrapped(self, *, wrapper: KeyWrapper, context: bytes) -> bytes:
        return await wrapper.wrap(self._tink.serialised(), context=_KEYSET + context)

    @classmethod
    def parse(cls, secret: bytes) -> Self:
        """Read `secret()` of another process."""
        try:
            return cls(TinkKeyset.parse(secret))
        except Unreadable:
            raise Fault("keyset_unreadable", "these bytes are not a keyset") from None

    def secret(self) -> bytes:
        """Give the keys in clear, for a channel that is itself encrypted and keeps nothing."""
        return self._tink.serialised()

    @property
    def keys(self) -> tuple[DataKey, ...]:
        return tuple(DataKey(key_id, self._state(key_id, alive=alive)) for key_id, alive in self._tink.keys)

    @property
    def active(self) -> int:
        return self._tink.primary

    def rotated(self) -> "Keyset":
        """Add a key that seals from now on; raises Conflict `keyset_full` at ten live keys: re-seal and retire one."""
        ids = [key_id for key_id, _ in self._tink.keys]
        if sum(alive for _, alive in self._tink.keys) >= MAX_LIVE_KEYS:
            raise Conflict("keyset_full", f"a keyset holds {MAX_LIVE_KEYS} live keys; re-seal and retire the oldest")
        return Keyset(self._tink.with_primary(max(ids) + 1))

    def retired(self, key_id: int) -> "Keyset":
        """Destroy a key: what it sealed is gone. Idempotent; raises Conflict `key_active` for the one that seals."""
        if key_id == self.active:
            raise Conflict("key_active", f"key {key_id} seals; rotate before retiring it")
        if key_id not in dict(self._tink.keys):
            raise Invalid("key_unknown", f"the keyset has no key {key_id}", field="key_id")
        return Keyset(self._tink.without(key_id))

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Encrypt up to 16 MiB; 33 bytes longer. `associated` names the place (row, column …) and is not stored."""
        if len(plaintext) > MAX_SEALED_AT_ONCE:
            raise Invalid("plaintext_too_large", f"at most {MAX_SEALED_AT_ONCE} bytes are sealed at once; use a stream")
        return self._tink.encrypt(plaintext, _VALUE + associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt; raises Gone `key_destroyed`, or Fault `sealed_unreadable` when altered or moved to another place."""
        return self._opened(sealed, _VALUE + associated)

    def seal_part(self, plaintext: bytes, associated: bytes) -> bytes:
        """Seal a part of a stream (`streams`); never opens as a value."""
        return self._tink.encrypt(plaintext, _PART + associated)

    def open_part(self, sealed: bytes, associated: bytes) -> bytes:
        return self._opened(sealed, _PART + associated)

    def knows(self, sealed: bytes) -> bool:
        """Tell whether one of these keys sealed it, by the id it carries: a hint, not a proof."""
        return key_id_in(sealed) in dict(self._tink.keys)

    def is_current(self, sealed: bytes) -> bool:
        """Tell whether the active key sealed it; if not, seal anew before that key is retired."""
        return key_id_in(sealed) == self.active

    def _opened(self, sealed: bytes, associated: bytes) -> bytes:
        try:
            return self._tink.decrypt(sealed, associated)
        except Unreadable:
            key_id = key_id_in(sealed)
        if dict(self._tink.keys).get(key_id or 0) is False:
            raise Gone("key_destroyed", f"key {key_id}, which sealed this, is destroyed")
        raise unreadable()

    def _state(self, key_id: int, *, alive: bool) -> KeyState:
        if not alive:
            return KeyState.RETIRED
        return KeyState.ACTIVE if key_id == self.active else KeyState.GRACE

    def __repr__(self) -> str:
        return f"<Keyset of {len(self.keys)} keys, key {self.active} active>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyset is not pickled: wrap it")


def unreadable() -> Fault:
    return Fault("sealed_unreadable", "sealed content does not open: it was altered, cut short, or is in another place")
