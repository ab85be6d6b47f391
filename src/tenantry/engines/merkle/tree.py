"""The tree of RFC 9162 §2.1 (the same as in RFC 6962), and its right edge, which is all that appending needs.

leaf hash   SHA-256(0x00 ‖ bytes)                 node hash   SHA-256(0x01 ‖ left ‖ right)
empty root  SHA-256()                             sizes       0 to 2⁶³ - 1, so they fit a signed 64-bit column
tile        256 hashes side by side; level 0 has the leaf hashes, each level above one hash for 256 of the level
            below, complete ones only (C2SP tlog-tiles)

Hashes are `bytes` of 32. Leaves are counted from 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from tenantry.engines.merkle.errors import Malformed, OutOfTree

HASH_BYTES: Final = 32
MAX_SIZE: Final = (1 << 63) - 1
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
EMPTY_ROOT: Final = sha256().digest()
LEAF_PREFIX: Final = b"\x00"
_NODE: Final = b"\x01"
_SIZE_BYTES: Final = 8


def leaf_hash(content: bytes) -> bytes:
    """Hash a leaf: SHA-256(0x00 ‖ content). The prefixes keep a node from being passed off as a leaf."""
    return sha256(LEAF_PREFIX + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(_NODE + left + right).digest()


def parents(hashes: Iterable[bytes]) -> list[bytes]:
    """Hash neighbours in pairs; an odd last one is left out."""
    each = iter(hashes)
    return [sha256(_NODE + left + right).digest() for left, right in zip(each, each, strict=False)]


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Give the root of the tree over these hashes; of none it is EMPTY_ROOT. Linear in time and memory."""
    while len(hashes) > 1:
        odd = hashes[-1:] if len(hashes) & 1 else ()
        hashes = [*parents(hashes), *odd]
    return hashes[0] if hashes else EMPTY_ROOT


def folded(edge: Sequence[bytes]) -> bytes:
    """Give the root over perfect subtrees that stand side by side, largest first; over none EMPTY_ROOT."""
    if not edge:
        return EMPTY_ROOT
    root = edge[-1]
    for left in reversed(edge[:-1]):
        root = node_hash(left, root)
    return root


def checked(hashes: Iterable[bytes]) -> list[bytes]:
    """Raise Malformed unless each of them is 32 bytes."""
    found = list(hashes)
    if not all(is_hash(one) for one in found):
        raise Malformed(f"a hash is {HASH_BYTES} bytes")
    return found


def is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_BYTES


def is_size(value: object) -> bool:
    """Tell whether it can be the size of a tree. True and False are no numbers here."""
    return type(value) is int and 0 <= value <= MAX_SIZE


@dataclass(frozen=True, slots=True)
class TileHashes:
    """Hashes of a tile level from 1 on that one append completed: those at `start`, `start + 1` … of their level."""

    level: int
    start: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree, known as a compact range: `edge` has the roots of the perfect subtrees, largest first.

    There are as many as `size` has one-bits. Immutable: what is rolled back was never appended.
    """

    size: int = 0
    edge: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not is_size(self.size):
            raise OutOfTree(f"a size is 0 to {MAX_SIZE}")
        if len(checked(self.edge)) != self.size.bit_count():
            raise Malformed(f"the edge of {self.size} leaves is {self.size.bit_count()} hashes")

    @property
    def root(self) -> bytes:
        return folded(self.edge)

    def append_many(self, leaves: Iterable[bytes]) -> "Appended":
        """Append leaf hashes, level by level: as many node hashes as leaves, and at most one more a level.

        Raises Malformed for what is no hash, OutOfTree beyond MAX_SIZE.
        """
        nodes = checked(leaves)
        size = self.size + len(nodes)
        before, edge, tiles = list(self.edge), [], []
        height = 0
        while nodes or self.size >> height:
            if self.size >> height & 1:
                nodes.insert(0, before.pop())
            if len(nodes) & 1:
                edge.append(nodes.pop())
            nodes = parents(nodes)
            height += 1
            if nodes and height % TILE_HEIGHT == 0:
                tiles.append(TileHashes(height // TILE_HEIGHT, self.size >> height, tuple(nodes)))
        return Appended(Frontier(size, tuple(reversed(edge))), tuple(tiles))

    @classmethod
    def counted(cls, stored: bytes, size: int) -> Self:
        """Read what `to_bytes` gave of a tree of that `size`; raises Malformed or OutOfTree for anything else."""
        frontier = cls.from_bytes(stored)
        if frontier.size != size:
            raise OutOfTree(f"a tree of {frontier.size} leaves, of which {size} are counted")
        return frontier

    def to_bytes(self) -> bytes:
        """Serialise: the size in 8 bytes, big-endian, then the edge; at most 2024 bytes."""
        return b"".join((self.size.to_bytes(_SIZE_BYTES, "big"), *self.edge))

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """Read what `to_bytes` gave; raises Malformed or OutOfTree for anything else."""
        size, rest = int.from_bytes(stored[:_SIZE_BYTES], "big"), stored[_SIZE_BYTES:]
        if len(stored) < _SIZE_BYTES:
            raise Malformed("a frontier begins with its size")
        return cls(size, tuple(rest[at : at + HASH_BYTES] for at in range(0, len(rest), HASH_BYTES)))


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append made: the new frontier, and what is to be stored beside the leaf hashes for proofs."""

    frontier: Frontier
    tiles: tuple[TileHashes, ...]

    @property
    def root(self) -> bytes:
        return self.frontier.root
