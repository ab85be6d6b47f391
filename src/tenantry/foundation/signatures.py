"""Signed documents: canonical JSON (RFC 8785) under Ed25519 (RFC 8032), to be checked without this installation."""

import hashlib
from typing import Any, Final

from tenantry.kit.canonical_json import canonical_json

_DOMAIN: Final = b"tenantry/certificate/1\n"
"""Before the bytes that are signed, so that no signature of ours means anything else."""
_KEY_ID_LENGTH: Final = 16


class Signer:
    """Signs for the installation. The key never leaves it; `public_key` (32 bytes) may be shown to anybody."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(key)
        self.public_key = self._key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        return key_id_of(self.public_key)

    def sign(self, document: dict[str, Any]) -> bytes:
        """Sign; the same document always has the same signature."""
        return self._key.sign(_DOMAIN + canonical_json(document))


def key_id_of(public_key: bytes) -> str:
    """Name a public key: the first half of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[: 2 * _KEY_ID_LENGTH]


def is_signed(document: dict[str, Any], *, signature: bytes, public_key: bytes) -> bool:
    """Say whether the key's holder signed this document; False for anything malformed too."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _DOMAIN + canonical_json(document))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def is_signature(message: bytes, *, signature: bytes, public_key: bytes) -> bool:
    """Say whether the key's holder signed these bytes (Ed25519); False for anything malformed too."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
