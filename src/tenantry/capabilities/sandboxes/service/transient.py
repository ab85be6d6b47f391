"""Keys that live in memory only: content sealed under them goes when the process that made them does.

Each worker makes one at its start. A server that is to show what was sealed asks for it by NOTIFY, on the database of
the tenant whose content it is, and is answered under a key agreed for that one answer (X25519, HKDF-SHA-256,
AES-256-GCM): nothing that was written anywhere, a recorded channel included, opens it once both processes have ended.
Asking takes the installation's secret, so a database alone gets no answer.
"""

import asyncio
import base64
import contextlib
import hmac
import json
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.types import CONTENT_KEYS
from tenantry.engines.envelope.keyset import Keyset
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.errors import TenantryError, Unavailable
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import SYSTEM, TenantScope

_ANSWER_SECONDS: Final = 2.0
_SILENT_SECONDS: Final = 5.0
"""A holder that did not answer is not asked again before."""
_MOST_KNOWN: Final = 1000
_LABEL: Final = b"tenantry/transient/"
# Used once: the key is agreed anew for each answer.
_NONCE: Final = bytes(12)


class TransientKeys:
    """One for each cell in each process. `holder` names this process's own key, which it answers for."""

    def __init__(self, *, cell: Cell, secret: bytes) -> None:
        self.holder = new_id()
        self._cell = cell
        self._secret = hmac.digest(secret, _LABEL + cell.region.encode(), "sha256")
        self._own = Keyset.create()
        self._private = X25519PrivateKey.generate()
        self._public = self._private.public_key().public_bytes_raw()
        self._known: dict[UUID, Keyset] = {}
        self._asked: dict[UUID, asyncio.Future[Keyset]] = {}
        self._silent: dict[UUID, float] = {}
        self._answers: set[asyncio.Task[None]] = set()
        cell.link.subscribe(CONTENT_KEYS, self._hear)

    @property
    def own(self) -> Keyset:
        return self._own

    async def get(self, holder: UUID, *, tenant_id: UUID) -> Keyset:
        """Give a key by its holder; raises Unavailable `content_key_away` when that does not answer."""
        if holder == self.holder:
            return self._own
        if known := self._known.get(holder):
            return known
        loop = asyncio.get_running_loop()
        if self._silent.get(holder, 0.0) > loop.time():
            raise _away()
        asked = self._asked.get(holder)
        if asked is None:
            asked = self._asked[holder] = loop.create_future()
            await self._tell(tenant_id, {"ask": holder.hex, "tenant": tenant_id.hex, "to": _text(self._public)})
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await asyncio.shield(asked)
        except TimeoutError:
            self._asked.pop(holder, None)
            self._silent = {each: until for each, until in self._silent.items() if until > loop.time()}
            self._silent[holder] = loop.time() + _SILENT_SECONDS
            raise _away() from None

    async def _tell(self, tenant_id: UUID, message: dict[str, str]) -> None:
        text = json.dumps(message, sort_keys=True)
        payload = json.dumps({"text": text, "mac": _text(self._mac(text))})
        scope = TenantScope(tenant_id=tenant_id, region=self._cell.region, actor=SYSTEM)
        async with self._cell.session(scope, lifecycle=True, beside=True) as session:
            await repository.tell_content_keys(session, payload)

    def _hear(self, payload: str) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, InvalidTag, TenantryError):
            heard: dict[str, Any] = json.loads(payload)
            if not hmac.compare_digest(self._mac(heard["text"]), base64.b64decode(heard["mac"])):
                return
            message = json.loads(heard["text"])
            if message.get("ask") == self.holder.hex:
                answer = asyncio.get_running_loop().create_task(self._answer(message), name="content-key")
                self._answers.add(answer)
                answer.add_done_callback(self._answers.discard)
            elif message.get("to") == _text(self._public) and "give" in message:
                self._take(
                    UUID(message["give"]), base64.b64decode(message["from"]), base64.b64decode(message["sealed"])
                )

    async def _answer(self, message: dict[str, str]) -> None:
        once = X25519PrivateKey.generate()
        to = base64.b64decode(message["to"])
        public = once.public_key().public_bytes_raw()
        shared = once.exchange(X25519PublicKey.from_public_bytes(to))
        sealed = self._cipher(shared, public + to).encrypt(_NONCE, self._own.secret(), self.holder.bytes)
        given = {"give": self.holder.hex, "to": message["to"], "from": _text(public), "sealed": _text(sealed)}
        with contextlib.suppress(TenantryError):  # asked again
            await self._tell(UUID(message["tenant"]), given)

    def _take(self, holder: UUID, public: bytes, sealed: bytes) -> None:
        asked = self._asked.pop(holder, None)
        if asked is None or asked.done():
            return
        shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        opened = self._cipher(shared, public + self._public).decrypt(_NONCE, sealed, holder.bytes)
        keyset = self._known[holder] = Keyset.parse(opened)
        asked.set_result(keyset)
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def _mac(self, text: str) -> bytes:
        return hmac.digest(self._secret, text.encode(), "sha256")

    @staticmethod
    def _cipher(shared: bytes, publics: bytes) -> AESGCM:
        return AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_LABEL + publics).derive(shared))


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _away() -> Unavailable:
    return Unavailable(
        "content_key_away",
        "the worker that holds the key of this content does not answer: try again; if it has ended, so has the content",
        layer="sandboxes",
    )
