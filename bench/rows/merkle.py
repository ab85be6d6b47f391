"""Row 8v: a whole log verified offline, reading the file included, beside hashing that file as one piece.

Once as lines against a root, which is the engine's; once as the bundle of a tenant's log, with all that is asked of it.
"""

import hashlib
import random
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.installation import Installation
from bench.report import Bar, Result, Series
from tenantry.capabilities.audit.service.bundle import BundleCheckpoint, BundleHeader, bundle_lines
from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.types import AuditEvent, Outcome, canonical_bytes
from tenantry.engines.merkle.bulk_file import verify_file
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.notes import Signer, VerifierKey
from tenantry.engines.merkle.tree import Frontier, leaf_hash
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import Actor, ActorType

_LINES, _QUICK_LINES = 1_000_000, 250_000
_LINE_BYTES = 450
_BAR_SECONDS = 2
_CHECKPOINT_LINES = 10_000
_TENANT: Final = UUID(int=1)
_BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - nothing is asked of it
    count = _QUICK_LINES if quick else _LINES
    result = Result("8v", f"{count} events of {_LINE_BYTES} bytes verified offline — against hashing the file as one")
    with tempfile.TemporaryDirectory() as made:
        file, bundle = Path(made) / "log.jsonl", Path(made) / "log.audit"
        root = _write(file, bundle, count)
        ways: dict[str, Callable[[], object]] = {
            "a bundle, two processes": lambda: verify_bundle(bundle),
            "lines, two processes": lambda: verify_file(file, size=count, root=root),
            "lines, one process": lambda: verify_file(file, size=count, root=root, processes=1),
            "SHA-256 of the file": lambda: _hash_file(file),
        }
        result.series = [Series(name, unit="s") for name in ways]
        for _ in range(1 if quick else 7):
            for series, way in zip(result.series, ways.values(), strict=True):
                begun = time.perf_counter()
                way()
                series.samples.append(time.perf_counter() - begun)
    for series in result.series[:2]:
        p50 = series.percentile(0.5) * _LINES / count
        result.bars.append(Bar(f"p50, {series.name}", p50, _BAR_SECONDS, unit=" s a million"))
    return [result]


def _write(file: Path, bundle: Path, count: int) -> bytes:
    """Write the log as lines and as a bundle; gives its root."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key = VerifierKey("log.example/us", private.public_key().public_bytes_raw())
    tenant = format_id(Prefix.TENANT, _TENANT)
    origin = f"log.example/{tenant}"
    chance = random.Random(1)  # noqa: S311 - lines that are alike on every run
    frontier, leaves, checkpoints = Frontier(), list[bytes](), list[BundleCheckpoint]()
    with file.open("wb") as lines:
        for start in range(0, count, _CHECKPOINT_LINES):
            block = [_line(number, chance) for number in range(start, min(start + _CHECKPOINT_LINES, count))]
            lines.writelines(line + b"\n" for line in block)
            leaves += map(leaf_hash, block)
            frontier = frontier.append_many(leaves[start:]).frontier
            note = Checkpoint(origin, frontier.size, frontier.root).note.signed(Signer(key, private.sign))
            checkpoints.append(BundleCheckpoint(_BEGAN + timedelta(seconds=start), bytes(note)))
    header = BundleHeader(tenant, "us", origin, count, (key,), tuple(checkpoints))
    with file.open("rb") as lines, bundle.open("wb") as written:
        written.writelines(bundle_lines(header, zip((line[:-1] for line in lines), leaves, strict=True)))
    return frontier.root


def _line(number: int, chance: random.Random) -> bytes:
    event = AuditEvent(
        tenant_id=_TENANT,
        event_id=UUID(int=number + 1),
        occurred_at=_BEGAN + timedelta(milliseconds=number),
        actor=Actor(ActorType.API_KEY, "key_01h455vb4pex5vsknk084sn02q"),
        action="job.created",
        resource_type="job",
        resource_id=f"job_{number:026}",
        outcome=Outcome.SUCCESS,
        ip="10.0.0.1",
        trace_id=chance.randbytes(16).hex(),
        details={"image": "python:3.13t"},
    )
    return canonical_bytes(event)


def _hash_file(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()
