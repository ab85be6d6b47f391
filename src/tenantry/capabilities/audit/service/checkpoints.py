"""Signed checkpoints of tenants' logs, and the witness that is told of them before anybody else."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

import structlog

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import WitnessSilent
from tenantry.capabilities.audit.service.receipts import MAX_EVENTS, Receipt, Recorded
from tenantry.capabilities.audit.types import SignedCheckpoint, SignedRoot
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.errors import MerkleError
from tenantry.engines.merkle.notes import Note, Signer, VerifierKey
from tenantry.engines.merkle.tree import Frontier
from tenantry.foundation.clock import Clock
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.log_keys import LogKey, LogKeys

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_LIMIT: Final = 500
KEPT: Final = timedelta(days=1, minutes=1)
"""How long every checkpoint and root is kept; a policy of the database lets nobody take away one of the last day."""
Appender = Callable[[Sequence[SignedCheckpoint]], Awaitable[None]]

_log = structlog.get_logger(__name__)


class Witness(Protocol):
    """Whoever is told of checkpoints outside of the database; what it was told, the database's owner cannot unsay."""

    def tell(self, checkpoints: Sequence[SignedCheckpoint | SignedRoot]) -> None:
        """Keep them durably before returning. Raises WitnessSilent, and then nothing of them is committed."""


@dataclass(frozen=True, slots=True)
class Notary:
    """Signs for the logs of one region. A tenant's log has one origin wherever it is; the key names the region."""

    installation: str
    region: str
    keys: LogKeys
    clock: Clock

    def origin(self, tenant_id: UUID) -> str:
        return f"{self.installation}/{format_id(Prefix.TENANT, tenant_id)}"

    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """Give the public halves of the region's keys, oldest first. Raises Fault."""
        return tuple(_signer(self.name, key).key for key in self.keys.of(self.region, now=self.clock.now()))

    def signed(self, tenant_id: UUID, frontier: Frontier) -> SignedCheckpoint:
        """Sign what the tree is, now, by the newest key. Raises Fault."""
        now = self.clock.now()
        checkpoint = Checkpoint(self.origin(tenant_id), frontier.size, frontier.root)
        return SignedCheckpoint(tenant_id, frontier.size, now, self._noted(checkpoint.text, now))

    def acknowledge(self, recorded: Iterable[Recorded]) -> list[bytes]:
        """Sign a receipt for events that have committed, one for each tenant's log. Raises Fault."""
        now, logs = self.clock.now(), dict[UUID, list[tuple[str, bytes]]]()
        for one in recorded:
            logs.setdefault(one.tenant_id, []).append((format_id(Prefix.AUDIT_EVENT, one.event_id), one.leaf))
        return [
            self._noted(Receipt(self.origin(tenant_id), now, tuple(events[:MAX_EVENTS])).text, now)
            for tenant_id, events in logs.items()
        ]

    def root(self, frontier: Frontier) -> SignedRoot:
        """Sign what the region's own log is, now, by the newest key. Raises Fault."""
        now = self.clock.now()
        return SignedRoot(
            frontier.size, now, self._noted(Checkpoint(self.name, frontier.size, frontier.root).text, now)
        )

    def noted(self, text: str) -> bytes:
        """Sign a text of the log's, now, by the newest key. Raises Fault."""
        return self._noted(text, self.clock.now())

    def has_signed(self, note: bytes) -> bool:
        """Tell whether a key of the region stands below the note; that it verifies is not looked at."""
        keys = {(key.name, key.key_id) for key in self.verifier_keys()}
        return any((one.name, one.key_id) in keys for one in Note.parse(note).signatures)

    def countersigned(self, note: Note) -> bytes:
        """Add the region's signature to another's note. Raises Fault."""
        signer = _signer(self.name, self.keys.of(self.region, now=self.clock.now())[-1])
        return bytes(note.signed(signer))

    @property
    def name(self) -> str:
        """What the region's keys are called, and the origin of its own log: `INSTALLATION/REGION`."""
        return f"{self.installation}/{self.region}"

    def _noted(self, text: str, now: datetime) -> bytes:
        signer = _signer(self.name, self.keys.of(self.region, now=now)[-1])
        return bytes(Note(text, (signer.signature(text),)))


@lru_cache(maxsize=64)
def _signer(name: str, key: LogKey) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    public = VerifierKey(name, private.public_key().public_bytes_raw(), key.valid_from, key.valid_until)
    return Signer(public, private.sign)


class WitnessFile:
    """One file a day, a JSON object a line; only ever appended to, so its directory may be made append-only."""

    def __init__(self, directory: Path, *, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    def tell(self, checkpoints: Sequence[SignedCheckpoint | SignedRoot]) -> None:
        """Append and sync. A line that a crash or a full disk has cut off is followed by a whole one."""
        place = self._directory / f"{self._clock.now():%Y-%m-%d}.jsonl"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(place, "ab+", opener=_private) as file:
                if file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                    file.write(b"\n")
                file.write(b"".join(_line(one.made_at, one.note) for one in checkpoints))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise WitnessSilent(str(place), os.strerror(error.errno or 0)) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _line(made_at: datetime, note: bytes) -> bytes:
    return json.dumps({"made_at": made_at.isoformat(), "note": note.decode()}, ensure_ascii=False).encode() + b"\n"


async def sign_grown(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    *,
    notary: Notary,
    witness: Witness,
    append: Appender | None = None,
    thin: bool = False,
    limit: int = _LIMIT,
    after: UUID | None = None,
) -> UUID | None:
    """Sign a checkpoint for each tree that has grown since its last, of tenants behind `after` in the order of ids.

    Tells of the last that was looked at; None where there was none. Who goes on behind it ends, however busy they are.

    In one transaction, which the sealers' gate is only passed in when the witness was told, and the region's log has
    grown by `append`: nobody waits for those. What is signed is true by then, since the tree was, and grows only; a
    crash in between, or another that signs, makes the same checkpoint once more. A damaged tree is not signed for.
    `thin` also lets go of old checkpoints of the same trees, but one an hour: the last of each begins with all before
    it, and the witness has every one.
    """
    grown = await repository.find_unsigned(connection, after=after, limit=limit)
    if not grown:
        return None
    made = await asyncio.to_thread(_signed, grown, notary, witness)  # signing and syncing hold up no request
    if made and append is not None:
        await append(made)
    await repository.pass_gate(connection)
    if made:
        await repository.insert_checkpoints(connection, made)
        if thin:
            before = notary.clock.now() - KEPT
            await repository.thin_checkpoints(connection, [one.tenant_id for one in made], before=before)
    await repository.end_unsigned(connection, {tenant_id: size for tenant_id, (size, _) in grown.items()})
    return list(grown)[-1]


def _signed(
    grown: Mapping[UUID, tuple[int | None, bytes | None]], notary: Notary, witness: Witness
) -> list[SignedCheckpoint]:
    made = []
    for tenant_id, (size, stored) in grown.items():
        if size is None:
            continue
        try:
            made.append(notary.signed(tenant_id, Frontier.counted(stored or b"", size)))
        except MerkleError as error:
            _log.error("audit.tree_damaged", tenant=str(tenant_id), reason=str(error))
    if made:
        witness.tell(made)
    return made
