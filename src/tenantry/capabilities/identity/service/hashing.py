"""Secrets as they are stored, and what is made of them: HMAC-SHA-256 under the installation's pepper."""

import base64
import hashlib
import hmac
from typing import Final

_LOOKUP_LENGTH: Final = 16


class KeyHasher:
    """Turns the text of a key into what is stored: HMAC-SHA-256 under the pepper, a part of it for look-up."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper

    def lookup(self, text: str) -> bytes:
        return self._mac(b"lookup", text)[:_LOOKUP_LENGTH]

    def verifier(self, text: str) -> bytes:
        return self._mac(b"verify", text)

    def matches(self, text: str, verifier: bytes) -> bool:
        return hmac.compare_digest(self.verifier(text), verifier)

    def derive(self, purpose: str, text: str) -> str:
        """Make another secret of one, which does not have to be stored: 43 characters of base64url."""
        return base64.urlsafe_b64encode(self._mac(purpose.encode(), text)).rstrip(b"=").decode()

    def _mac(self, purpose: bytes, text: str) -> bytes:
        return hmac.new(self._pepper, purpose + b"/" + text.encode(), hashlib.sha256).digest()
