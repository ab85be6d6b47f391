"""The border to Tink (https://developers.google.com/tink): everything untyped about it is in this module."""

import os
from collections.abc import Iterable
from functools import cache
from typing import Any, Final, cast

KEY_BYTES: Final = 32
# Tink's form of a ciphertext: 0x01, the key's id in four bytes, a nonce of 12, the content, a tag of 16.
PREFIX_BYTES: Final = 5
OVERHEAD_BYTES: Final = PREFIX_BYTES + 12 + 16
_PREFIX_VERSION: Final = 1
_AES_GCM: Final = "type.googleapis.com/google.crypto.tink.AesGcmKey"


class Unreadable(Exception):
    """What does not open: a ciphertext, a serialised keyset. Says no more, on purpose."""


class TinkKeyset:
    """A Tink keyset of AES-256-GCM keys and its primitive. Immutable; changes give another one."""

    __slots__ = ("_aead", "_message")

    def __init__(self, message: Any) -> None:
        _tink()
        from tink import KeysetHandle, aead

        self._message = message
        # The public way in (parse) wants a serialised keyset: one more copy of every key in memory.
        self._aead = KeysetHandle._create(message).primitive(aead.Aead)  # noqa: SLF001 - as said above

    @classmethod
    def parse(cls, serialised: bytes) -> "TinkKeyset":
        """Read what `serialised` gave; raises Unreadable for anything else."""
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tink import TinkError

        try:
            return cls(_tink().Keyset.FromString(serialised))
        except (DecodeError, TinkError):
            raise Unreadable from None

    @classmethod
    def of_one(cls, key_id: int, *, value: bytes | None = None) -> "TinkKeyset":
        message = _tink().Keyset(primary_key_id=key_id)
        _add_key(message, key_id, value=value)
        return cls(message)

    def with_primary(self, key_id: int) -> "TinkKeyset":
        message = _copied(self._message)
        _add_key(message, key_id)
        message.primary_key_id = key_id
        return TinkKeyset(message)

    def without(self, key_id: int) -> "TinkKeyset":
        """Drop a key's material; its id stays, so that what it sealed is known to be gone."""
        message = _copied(self._message)
        for key in message.key:
            if key.key_id == key_id:
                key.ClearField("key_data")
                key.status = _tink().DESTROYED
        return TinkKeyset(message)

    def serialised(self) -> bytes:
        """Give the keys in clear: to be wrapped at once, never stored or logged."""
        return cast("bytes", self._message.SerializeToString())

    @property
    def primary(self) -> int:
        return cast("int", self._message.primary_key_id)

    @property
    def keys(self) -> Iterable[tuple[int, bool]]:
        """Ids, and whether the material is still there."""
        alive = _tink().ENABLED
        return [(key.key_id, key.status == alive) for key in self._message.key]

    def encrypt(self, plaintext: bytes, associated: bytes) -> bytes:
        return cast("bytes", self._aead.encrypt(plaintext, associated))

    def decrypt(self, sealed: bytes, associated: bytes) -> bytes:
        from tink import TinkError

        try:
            return cast("bytes", self._aead.decrypt(sealed, associated))
        except TinkError:
            raise Unreadable from None


def key_id_in(sealed: bytes) -> int | None:
    """Read which key sealed it, None when it is no ciphertext of ours."""
    if len(sealed) < OVERHEAD_BYTES or sealed[0] != _PREFIX_VERSION:
        return None
    return int.from_bytes(sealed[1:PREFIX_BYTES], "big")


def _add_key(message: Any, key_id: int, *, value: bytes | None = None) -> None:
    from tink.proto import aes_gcm_pb2

    pb = _tink()
    key = aes_gcm_pb2.AesGcmKey(version=0, key_value=value or os.urandom(KEY_BYTES)).SerializeToString()
    data = pb.KeyData(type_url=_AES_GCM, value=key, key_material_type=pb.KeyData.SYMMETRIC)
    message.key.add(key_data=data, status=pb.ENABLED, key_id=key_id, output_prefix_type=pb.TINK)


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


@cache
def _tink() -> Any:
    # 8 MiB and 0.15 s, spent by the first keyset and not by an idle process.
    from tink import aead
    from tink.proto import tink_pb2

    aead.register()
    return tink_pb2
