"""A small log, whoever keeps it, and bundles of it in the making."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service.bundle import BundleCheckpoint, BundleHeader, LeafLines
from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.types import AuditEvent, Outcome, canonical_bytes
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.notes import Note, Signer, VerifierKey
from tenantry.engines.merkle.tree import Frontier, leaf_hash
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import Actor, ActorType

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
TENANT, OTHER = UUID(int=1), UUID(int=2)
NAME = format_id(Prefix.TENANT, TENANT)
ORIGIN = f"log.example/{NAME}"
SIZE, SIZES = 600, (100, 256, 400, 600)
PLAIN = 450
"""So many events, from the first, the pattern decides; some of those that follow it leaves over."""
DETAILS: list[dict[str, Any]] = [
    {"job": "x" * 20},
    {},
    {"exit_code": -1, "image": "python:*"},
    {"a": 'quoted "text"\n', "b": True, "roles": ["admin", "auditor"]},
    {"nested": {"tenant": "ten_00000000000000000000000002"}, "share": 0.5},
    {"a": f'","tenant":"{format_id(Prefix.TENANT, OTHER)}"', "é": None},
]


class Keeper:
    """Whoever keeps a log: signs what it likes."""

    def __init__(self, name: str = "log.example/us", seed: int = 1, **times: datetime) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.key = VerifierKey(name, self._private.public_key().public_bytes_raw(), **times)

    def note(self, size: int, root: bytes, *, origin: str = ORIGIN) -> bytes:
        return self.signs(Checkpoint(origin, size, root).text)

    def signs(self, text: str) -> bytes:
        return bytes(Note(text).signed(Signer(self.key, self._private.sign)))


KEEPER = Keeper()
STRANGER = Keeper("log.example/us", 2)


def uuid_at(number: int, at: datetime | None = None) -> UUID:
    """An id as it is made at that time; without one, in 1970."""
    return UUID(int=number | (int(at.timestamp() * 1000) << 80 if at else 0))


def event(number: int, *, tenant: UUID = TENANT, **fields: Any) -> bytes:
    values: dict[str, Any] = {
        "tenant_id": tenant,
        "event_id": uuid_at(number),
        "occurred_at": BEGAN + timedelta(seconds=number),
        "actor": Actor(ActorType.API_KEY, "key_1", ("svc_1",) * (number % 3)),
        "action": "job.created",
        "resource_type": "job",
        "resource_id": f"job_{number}",
        "outcome": Outcome.SUCCESS,
        "workspace_id": UUID(int=7) if number % 2 else None,
        "details": DETAILS[number % (4 if number <= PLAIN else len(DETAILS))],
    }
    return canonical_bytes(AuditEvent(**values | fields))


def id_of(number: int) -> str:
    return format_id(Prefix.AUDIT_EVENT, UUID(int=number))


def root_of(events: Sequence[bytes]) -> bytes:
    return Frontier().append_many(map(leaf_hash, events)).root


EVENTS = [event(number) for number in range(1, SIZE + 1)]


class Bundle:
    """A bundle in the making, each part of which a test may change before it is written."""

    def __init__(self, events: Sequence[bytes] = EVENTS, sizes: Sequence[int] = SIZES) -> None:
        self.events, self.signed = list(events), list(events)
        self.notes = [KEEPER.note(size, root_of(events[:size])) for size in sizes]
        self.leaves = [leaf_hash(one) for one in events]
        self.header = BundleHeader(NAME, "us", ORIGIN, len(events), (KEEPER.key,), ())

    def lines(self) -> list[bytes]:
        stamped = (BundleCheckpoint(BEGAN + timedelta(hours=at), note) for at, note in enumerate(self.notes))
        collected = LeafLines()
        for leaf in self.leaves:
            collected.add(leaf)
        header = self.header if self.header.checkpoints else replace(self.header, checkpoints=tuple(stamped))
        return [header.line(), *(one + b"\n" for one in self.events), *collected.lines()]

    def resigned(self) -> "Bundle":
        """Sign what the events are now, as the log's keeper can."""
        self.leaves = [leaf_hash(one) for one in self.events]
        self.notes = [KEEPER.note(size, root_of(self.events[:size])) for size in SIZES]
        return self


@cache
def good() -> bytes:
    return b"".join(Bundle().lines())


def refusal(file: Path, content: bytes, **arguments: Any) -> BundleRefused:
    file.write_bytes(content)
    with pytest.raises(BundleRefused) as caught:
        verify_bundle(file, **arguments)
    return caught.value


LINE_CHANGES = ["removed", "doubled", "swapped", "moved"]


def altered_lines(lines: Sequence[bytes], change: str, one: int, other: int) -> list[bytes]:
    """Lines of which one was removed, doubled, swapped with another, or moved to its place."""
    altered = list(lines)
    match change:
        case "removed":
            del altered[one]
        case "doubled":
            altered.insert(other, altered[one])
        case "swapped":
            altered[one], altered[other] = altered[other], altered[one]
        case "moved":
            altered.insert(other, altered.pop(one))
    return altered
