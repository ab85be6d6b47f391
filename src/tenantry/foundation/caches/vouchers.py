"""Who vouches that a tag is a resource's present one, so that no database need be asked (ADR 0017).

Leases after Nishtala et al. (2013): who misses takes a lease before it reads and fills by `compare_and_set` on it, so
what was read before a change is not kept after it. An entry counts only while it names its tenant's gate, which is
replaced to drop everything of a tenant at once.

What the store has lost, or was down for, is heard: this process doubts a name from the news of its change until it has
itself taken a lease of it, and a whole tenant, at first and after missed news or a new connection to the store, until
it has itself replaced the gate.
"""

import secrets
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tenantry.foundation.caches.ports import Caches, EtagEntry
from tenantry.foundation.changes import EVERYTHING, is_name
from tenantry.foundation.clock import Clock
from tenantry.foundation.errors import Unavailable

_LEASE_MS: Final = 5_000
_SILENT_SECONDS: Final = 1.0
_TENANTS: Final = 50_000
_DOUBTS: Final = 1_000
_CLOSED: Final = b"closed"
_LEASED: Final = b"leased"
_OPEN: Final = b"open"
_IS: Final = b"is"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to say what was read after it was taken, unless somebody changes or claims it meanwhile."""

    tenant_id: UUID
    name: str
    gate: str
    token: str


class Vouchers:
    """The vouching of one cell as one process does it.

    Who asks must hear news: a tag counts only if the process's link to the cell is fresh after the answer.
    """

    def __init__(self, caches: Caches, *, clock: Clock) -> None:
        self._etags = caches.etags
        # One that was restarted, or has failed over, may say again what it said before.
        caches.on_connect(self.forget_all)
        self._clock = clock
        # By tenant whose gate this process believes: what it doubts. Of any other tenant it doubts everything.
        self._doubts: OrderedDict[UUID, set[str]] = OrderedDict()
        # Counts news: what was written while some arrived ends no doubt.
        self._heard = 0
        self._silent_until = float("-inf")

    def hear(self, payload: str) -> None:
        """Doubt what has changed; whatever is not understood drops the whole tenant it begins with."""
        tenant, _, name = payload.partition("/")
        self._doubt(UUID(hex=tenant), name)

    def forget_all(self) -> None:
        """Doubt everything: news may have been missed, or the store have forgotten what was made of them."""
        self._heard += 1
        self._doubts.clear()

    async def ask(self, tenant_id: UUID, name: str) -> str | Lease | None:
        """Tell the present tag; else give a lease to whoever may say it after reading; None: neither.

        A store that does not answer is not asked again for a second.
        """
        if self._clock.monotonic() < self._silent_until:
            return None
        try:
            return await self._ask(tenant_id, name)
        except Unavailable:
            self._silent_until = self._clock.monotonic() + _SILENT_SECONDS
            return None

    async def fill(self, lease: Lease, tag: str) -> bool:
        """Vouch for what was read under the lease; tells False when it no longer holds."""
        value = b" ".join((_IS, lease.gate.encode(), tag.encode()))
        try:
            return bool(
                await self._etags.compare_and_set(
                    _key(lease.name), expected=lease.token, value=value, tenant=lease.tenant_id
                )
            )
        except Unavailable:
            return False

    async def close(self, tenant_id: UUID, names: Collection[str]) -> None:
        """Let nobody vouch; see `ChangeKeeper`. If the process dies, they stay closed for the time of an entry."""
        try:
            for name in names:
                await self._etags.put(_key(name), _fresh(_CLOSED), tenant=tenant_id)
        except Unavailable:
            self._doubt_all(tenant_id, names)

    async def open(self, tenant_id: UUID, names: Collection[str]) -> None:
        """Remove what there is: a closing, and whatever was filled before the commit if the closing was lost."""
        try:
            for name in names:
                await self._etags.delete(_key(name), tenant=tenant_id)
        except Unavailable:
            self._doubt_all(tenant_id, names)

    async def _ask(self, tenant_id: UUID, name: str) -> str | Lease | None:
        gate, entry = await self._etags.find_all((_key(EVERYTHING), _key(name)), tenant=tenant_id)
        doubts = self._doubts.get(tenant_id)
        if gate is None or doubts is None:
            opened = await self._reopen(tenant_id, gate)
            return None if opened is None else await self._lease(tenant_id, name, gate=opened, entry=entry)
        if _is(gate, _CLOSED):
            return None
        if name not in doubts and entry is not None:
            if (tag := _tag(entry, gate=gate.etag)) is not None:
                return tag
            if _is(entry, _LEASED):
                return None
        return await self._lease(tenant_id, name, gate=gate.etag, entry=entry)

    async def _reopen(self, tenant_id: UUID, gate: EtagEntry | None) -> str | None:
        """Replace the gate, which ends the doubts about its tenant: what names the new one was read after now."""
        if gate is not None and _is(gate, _CLOSED):
            return None
        heard = self._heard
        done = await self._etags.compare_and_set(
            _key(EVERYTHING), expected=gate.etag if gate else None, value=_fresh(_OPEN), tenant=tenant_id
        )
        if not done or heard != self._heard:
            return None
        self._doubts[tenant_id] = set()
        if len(self._doubts) > _TENANTS:
            self._doubts.popitem(last=False)
        return done.etag

    async def _lease(self, tenant_id: UUID, name: str, *, gate: str, entry: EtagEntry | None) -> Lease | None:
        if entry is not None and _is(entry, _CLOSED):
            return None
        heard = self._heard
        taken = await self._etags.compare_and_set(
            _key(name),
            expected=entry.etag if entry else None,
            value=_fresh(_LEASED),
            tenant=tenant_id,
            ttl_ms=_LEASE_MS,
        )
        if not taken or taken.etag is None:
            return None
        if heard == self._heard and (doubts := self._doubts.get(tenant_id)) is not None:
            doubts.discard(name)
        return Lease(tenant_id, name, gate=gate, token=taken.etag)

    def _doubt(self, tenant_id: UUID, name: str) -> None:
        self._heard += 1
        doubts = self._doubts.get(tenant_id)
        if doubts is None:
            return
        doubts.add(name)
        if name == EVERYTHING or not is_name(name) or len(doubts) > _DOUBTS:
            del self._doubts[tenant_id]

    def _doubt_all(self, tenant_id: UUID, names: Collection[str]) -> None:
        for name in names:
            self._doubt(tenant_id, name)


def _key(name: str) -> str:
    return f"versions/{name}"


def _fresh(kind: bytes) -> bytes:
    """Make an entry that equals no other: its ETag is a token."""
    return kind + b" " + secrets.token_hex(16).encode()


def _is(entry: EtagEntry, kind: bytes) -> bool:
    return entry.value.partition(b" ")[0] == kind


def _tag(entry: EtagEntry, *, gate: str) -> str | None:
    """Read the tag an entry vouches for; None unless it names the gate that is in force."""
    kind, _, said = entry.value.partition(b" ")
    named, _, tag = said.partition(b" ")
    return tag.decode() if kind == _IS and named == gate.encode() else None
