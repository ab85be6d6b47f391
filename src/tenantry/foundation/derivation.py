"""Keys derived from one secret, each for one purpose: HKDF-SHA-256 (RFC 5869)."""

from typing import Final

_LENGTH: Final = 32
_DOMAIN: Final = b"tenantry/derived/1/"


def derive_key(secret: bytes, *, purpose: str) -> bytes:
    """Make the 32 bytes for a purpose; no purpose's key tells anything of another's, or of the secret."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=_LENGTH, salt=None, info=_DOMAIN + purpose.encode()).derive(secret)
