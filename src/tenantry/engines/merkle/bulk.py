"""A whole log verified at once, from its lines and the root that was signed: in order, once through, in little memory.

Hashing a line takes less than a microsecond, and handing it to another process about as long. So lines are verified
where they arrive; of a file, each process can read a part of its own (`bulk_file`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from typing import BinaryIO, Final

from tenantry.engines.merkle.errors import LogMismatch, Malformed
from tenantry.engines.merkle.tree import (
    HASH_BYTES,
    LEAF_PREFIX,
    TILE_HEIGHT,
    TILE_WIDTH,
    Frontier,
    folded,
    is_hash,
    is_size,
    parents,
)

BLOCK_LINES: Final = 32 * TILE_WIDTH
Look = Callable[[int, list[bytes], list[bytes]], None]


@dataclass(frozen=True, slots=True)
class Beside:
    """Hashes that came with the lines and tell which are bad: `level` 0 has one a line, 1 one for each whole 256 lines.

    `hashes` is all of the level side by side, as tiles have them. The verdict is the root's alone; where it is against
    the lines, hashes of level 0 are held against it, too, and those of level 1 are believed.
    """

    level: int
    hashes: bytes | memoryview

    def __post_init__(self) -> None:
        if self.level not in {0, 1} or len(self.hashes) % HASH_BYTES:
            raise Malformed("beside lines there are hashes of level 0 or 1")

    def believed(self, *, size: int, root: bytes) -> bool:
        if self.level:
            return True
        frontier, step = Frontier(), BLOCK_LINES * HASH_BYTES
        for at in range(0, len(self.hashes), step):
            frontier = frontier.append_many(apart(bytes(self.hashes[at : at + step]))).frontier
        return (frontier.size, frontier.root) == (size, root)


@dataclass(frozen=True, slots=True)
class Hashed:
    """Lines from the start of a tile on: the hashes of whole tiles, and of the leaves behind them."""

    tiles: list[bytes]
    tail: list[bytes]

    @property
    def count(self) -> int:
        """How many lines that were."""
        return len(self.tiles) * TILE_WIDTH + len(self.tail)

    @property
    def root(self) -> bytes:
        edges = (Frontier().append_many(hashes).frontier.edge for hashes in (self.tiles, self.tail))
        return folded([*chain.from_iterable(edges)])


def verify_lines(lines: Iterable[bytes], *, size: int, root: bytes, beside: Beside | None = None) -> None:
    """Return if `lines` are exactly the leaves of the tree of `size` and `root`, else raise LogMismatch.

    `lines` are the leaves' bytes, without line ends; never more than `size` + 1 are taken, and a block of them is in
    memory. With hashes beside the error names where lines and hashes part.
    """
    require_head(size, root)
    search = _Search(beside) if beside else None
    hashed = hash_lines(islice(lines, size + 1), look=search.look if search else None)
    if (hashed.count, hashed.root) != (size, root):
        raise _mismatch(search, hashed.count, size=size, root=root)


def hash_lines(lines: Iterable[bytes], *, look: Look | None = None) -> Hashed:
    """Hash lines that begin where a tile does; `look` is told each block's first line, leaf and tile hashes."""
    each, tiles, tail = iter(lines), list[bytes](), list[bytes]()
    while block := list(islice(each, BLOCK_LINES)):
        leaves = [sha256(LEAF_PREFIX + line).digest() for line in block]
        whole = len(leaves) - len(leaves) % TILE_WIDTH
        more, tail = leaves[:whole], leaves[whole:]
        for _ in range(TILE_HEIGHT):
            more = parents(more)
        if look:
            look(len(tiles) * TILE_WIDTH, leaves, more)
        tiles += more
    return Hashed(tiles, tail)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    r"""Give the lines without their `\n`; raises LogMismatch, without an index, where the last one was cut off."""
    while block := list(islice(file, BLOCK_LINES)):
        if not block[-1].endswith(b"\n"):
            raise LogMismatch("the last line is cut off")
        yield from [line[:-1] for line in block]


def require_head(size: int, root: bytes) -> None:
    """Raise Malformed unless it is a size and a root."""
    if not is_size(size) or not is_hash(root):
        raise Malformed("a log has a size and a root")


@dataclass(slots=True)
class _Search:
    """Looks for the first line, or the first of a tile, where other hashes are beside than were found."""

    beside: Beside
    parted: int | None = None

    def look(self, first: int, leaves: list[bytes], tiles: list[bytes]) -> None:
        if self.parted is not None:
            return
        found, shift = (tiles, TILE_HEIGHT) if self.beside.level else (leaves, 0)
        start = (first >> shift) * HASH_BYTES
        given = bytes(self.beside.hashes[start : start + len(found) * HASH_BYTES])
        if b"".join(found) != given:
            same = [one == other for one, other in zip(found, apart(given), strict=False)]
            self.parted = first + ((same.index(False) if False in same else len(same)) << shift)


def _mismatch(search: _Search | None, count: int, *, size: int, root: bytes) -> LogMismatch:
    wrong = "the lines lead to another root"
    if count != size:
        wrong = f"there are {'more' if count > size else f'{count}'} lines instead of {size}"
    if search is None:
        return LogMismatch(wrong)
    if not search.beside.believed(size=size, root=root):
        return LogMismatch(f"{wrong}, and the hashes beside them lead to neither")
    width = TILE_WIDTH if search.beside.level else 1
    place = count // width * width if search.parted is None else search.parted
    where = f"one of {width} from {place}" if width > 1 else f"{place}"
    return LogMismatch(f"{wrong}: the first bad one is {where}", index=place, width=width)


def apart(hashes: bytes) -> list[bytes]:
    """Cut hashes that stand side by side."""
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
