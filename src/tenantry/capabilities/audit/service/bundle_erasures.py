"""What of a bundle stands for events that have left: their leaf hashes, and the event that says so with a signature."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service.bundle import BundleHeader, leaf_bytes, leaf_lines
from tenantry.capabilities.audit.service.bundle_events import MAX_LINE_BYTES, Events
from tenantry.capabilities.audit.service.erasures import ERASED, Erasure, open_erasure
from tenantry.engines.merkle.bulk import apart
from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.notes import VerifierKey, canonical_base64
from tenantry.engines.merkle.tree import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, parents

_CHUNK_BYTES: Final = 1 << 20
# In canonical JSON no other member comes before it, and no text has a line feed.
_MARK: Final = b'\n{"action":"' + ERASED.encode() + b'",'


def read_erased(path: Path, *, at: int, erased: int) -> Events | None:
    """Read the leaf hashes of the first `erased` events, whole tiles, from byte `at` on; None where none stand."""
    part = Events(end=at)
    with path.open("rb") as file:
        file.seek(at)
        for _ in range(erased // TILE_WIDTH):
            line = file.read(leaf_bytes(TILE_WIDTH))
            hashes = canonical_base64(line.removesuffix(b"\n").decode("latin-1"))
            if hashes is None or len(hashes) != TILE_WIDTH * HASH_BYTES or next(leaf_lines(hashes), b"") != line:
                return None
            level = apart(hashes)
            for _ in range(TILE_HEIGHT):
                level = parents(level)
            part.tiles += level
            part.leaves += hashes
    return part


def require_erasure(
    path: Path, header: BundleHeader, events: Events, *, keys: Sequence[VerifierKey], offset: int
) -> Erasure:
    """Give what the log has signed of the events that are not here; `events` are all, as the checkpoints have them.

    Raises BundleRefused `erasure_unsigned`, `erasure_forged`, `erasure_altered` with `first` and `last`.
    """
    claimed, signed = False, list[Erasure]()
    for line in _told(path, offset=offset, end=events.end):
        try:
            signed.append(open_erasure(line, origin=header.origin, keys=keys))
        except NoteError:
            claimed = claimed or _claims(line, header.erased)
    sizes = sorted({one.size for one in signed if one.size <= header.erased} | {header.erased})
    roots = dict(zip(sizes, events.roots(sizes), strict=True))
    true = [one for one in signed if roots.get(one.size) == one.root]
    for one in true:
        if one.size == header.erased:
            return one
    first, last = max((one.size for one in true), default=0) + 1, header.erased
    where = f"events {first} to {last} are not here"
    if any(one.size == header.erased for one in signed):
        raise BundleRefused(
            "erasure_altered", f"{where}, and what was signed away is another history", first=first, last=last
        )
    if claimed:
        raise BundleRefused(
            "erasure_forged", f"{where}: an event tells of it, which the log has not signed", first=first, last=last
        )
    raise BundleRefused(
        "erasure_unsigned", f"{where}, and no event tells that the log has let them go", first=first, last=last
    )


def is_signed(path: Path, header: BundleHeader, part: Events, *, keys: Sequence[VerifierKey], offset: int) -> bool:
    """Say whether the leaf hashes of events that have left are those that were signed away, whatever follows them."""
    roots = list(part.roots([header.erased]))
    for line in _told(path, offset=offset, end=path.stat().st_size):
        try:
            erasure = open_erasure(line, origin=header.origin, keys=keys)
        except NoteError:
            continue
        if (erasure.size, [erasure.root]) == (header.erased, roots):
            return True
    return False


def _told(path: Path, *, offset: int, end: int) -> Iterator[bytes]:
    """Give the lines of events that tell of an erasure, which begin from byte `offset` on and before `end`."""
    with path.open("rb") as file:
        at = offset - 1  # the end of the line before
        while at < end:
            file.seek(at)
            chunk = file.read(min(_CHUNK_BYTES, end - at) + len(_MARK) - 1)
            found = chunk.find(_MARK)
            while found >= 0:
                file.seek(at + found + 1)
                yield file.readline(MAX_LINE_BYTES).removesuffix(b"\n")
                found = chunk.find(_MARK, found + 1)
            at += _CHUNK_BYTES


def _claims(line: bytes, erased: int) -> bool:
    try:
        told = json.loads(line)["details"]["events"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return type(told) is int and told == erased
