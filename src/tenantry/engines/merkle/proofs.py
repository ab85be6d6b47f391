"""Proofs of RFC 9162: made from tiles (§2.1.3.1, §2.1.4.1), verified as §2.1.3.2 and §2.1.4.2 say.

Making one is planned first and computed then, so whoever keeps the hashes reads them in one query, async or not:

    plan = inclusion_plan(index=7, size=1000)
    proof = plan.compute([read(one.level, one.start, one.stop) for one in plan.ranges])

A plan reads what is complete at its size only: hashes that are stored once and never change.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from tenantry.engines.merkle.errors import Malformed, OutOfTree, ProofError
from tenantry.engines.merkle.tree import (
    EMPTY_ROOT,
    MAX_SIZE,
    TILE_HEIGHT,
    checked,
    folded,
    is_hash,
    is_size,
    node_hash,
    root_of,
)

_MAX_PROOF: Final = MAX_SIZE.bit_length() + 1


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Hashes `start` to `stop - 1` of a tile level, as `TileHashes` counts them; level 0 has the leaf hashes."""

    level: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`ranges` are disjoint and sorted, at most three a level, and none is longer than three tiles."""

    ranges: tuple[Range, ...]
    subtrees: tuple[tuple[Range, ...], ...]
    """What each hash of the answer is folded from: perfect subtrees, largest first."""

    def compute(self, hashes: Sequence[Sequence[bytes]]) -> tuple[bytes, ...]:
        """Compute the answer from what was read, in the order of `ranges`; raises Malformed where some is missing."""
        if [len(found) for found in hashes] != [one.stop - one.start for one in self.ranges]:
            raise Malformed("what was read is not what was planned")
        read = [checked(found) for found in hashes]
        starts = [(one.level, one.start) for one in self.ranges]

        def root(perfect: Range) -> bytes:
            place = bisect_right(starts, (perfect.level, perfect.start)) - 1
            first = self.ranges[place].start
            return root_of(read[place][perfect.start - first : perfect.stop - first])

        return tuple(folded([root(perfect) for perfect in subtree]) for subtree in self.subtrees)


def inclusion_plan(*, index: int, size: int) -> Plan:
    """Plan the proof that leaf `index`, from 0, is in the tree of `size`; what it computes goes from leaf to root.

    Raises OutOfTree unless 0 <= index < size.
    """
    if not (is_size(index) and is_size(size) and index < size):
        raise OutOfTree("the tree has no such leaf")
    siblings = []
    start, stop = 0, size
    while stop - start > 1:
        split = _split(start, stop)
        if index < split:
            siblings.append((split, stop))
            stop = split
        else:
            siblings.append((start, split))
            start = split
    return _planned(reversed(siblings))


def consistency_plan(*, size1: int, size2: int) -> Plan:
    """Plan the proof that the tree of `size2` begins with the tree of `size1`.

    Between equal sizes, and from an empty tree, there is nothing to prove: it is empty. Raises OutOfTree unless
    0 <= size1 <= size2.
    """
    if not (is_size(size1) and is_size(size2) and size1 <= size2):
        raise OutOfTree("no tree of the one size begins with one of the other")
    if size1 == 0:
        return _planned(())
    spans = []
    start, stop = 0, size2
    while stop != size1:
        split = _split(start, stop)
        if size1 <= split:
            spans.append((split, stop))
            stop = split
        else:
            spans.append((start, split))
            start = split
    if start:
        spans.append((start, stop))
    return _planned(reversed(spans))


def frontier_plan(*, size: int) -> Plan:
    """Plan the edge of the tree at any earlier size: `Frontier(size, plan.compute(…))`, and with it the root then."""
    if not is_size(size):
        raise OutOfTree("no tree has that size")
    return _planned(_perfect(0, size))


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return if `proof` shows that the tree of `size` and `root` has the leaf hash `leaf` at `index`, else ProofError.

    Whatever it is given, it looks at 64 hashes at most. RFC 9162 §2.1.3.2.
    """
    _require_hashes(proof, leaf, root)
    if not (is_size(index) and is_size(size) and index < size):
        raise ProofError("the tree has no such leaf")
    node, last = index, size - 1
    found = leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the proof is too long")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            node, last = _risen(node, last)
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")
    if found != root:
        raise ProofError("the proof leads to another root")


def verify_consistency(*, size1: int, root1: bytes, size2: int, root2: bytes, proof: Sequence[bytes]) -> None:
    """Return if `proof` shows that the tree of `size2` begins with all of the tree of `size1`, else ProofError.

    RFC 9162 §2.1.4.2, which is about 0 < size1 < size2. With equal sizes the roots must be equal, from size 0 the root
    must be EMPTY_ROOT, and the proof must be empty (C2SP tlog-witness).
    """
    _require_hashes(proof, root1, root2)
    if not (is_size(size1) and is_size(size2) and size1 <= size2):
        raise ProofError("no tree of the one size begins with one of the other")
    if (size1 == 0 and root1 != EMPTY_ROOT) or (size1 == size2 and root1 != root2):
        raise ProofError("the root is not that of its size")
    if size1 in {0, size2}:
        if proof:
            raise ProofError("the proof is too long")
        return
    if not proof:
        raise ProofError("the proof is too short")
    perfect = size1 & (size1 - 1) == 0
    _replay([root1, *proof] if perfect else proof, size1, root1, size2, root2)


def _replay(path: Sequence[bytes], size1: int, root1: bytes, size2: int, root2: bytes) -> None:
    node, last = size1 - 1, size2 - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("the proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            node, last = _risen(node, last)
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")
    if old != root1 or new != root2:
        raise ProofError("the proof leads to another root")


def _risen(node: int, last: int) -> tuple[int, int]:
    """Rise from a node without a right sibling to where it is the right one of two, or to the root."""
    while node and not node & 1:
        node, last = node >> 1, last >> 1
    return node, last


def _require_hashes(proof: Sequence[bytes], *others: bytes) -> None:
    if not isinstance(proof, list | tuple) or len(proof) > _MAX_PROOF:
        raise ProofError(f"a proof is at most {_MAX_PROOF} hashes")
    if not all(is_hash(one) for one in (*others, *proof)):
        raise ProofError("a hash is 32 bytes")


def _split(start: int, stop: int) -> int:
    """Tell where a tree of two leaves or more is divided: behind the largest power of two that is less than all."""
    return start + (1 << (stop - start - 1).bit_length() - 1)


def _perfect(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut a subtree of the recursion, which begins where its first part may, into perfect ones, largest first."""
    while start < stop:
        width = 1 << (stop - start).bit_length() - 1
        yield start, start + width
        start += width


def _planned(spans: Iterator[tuple[int, int]] | Sequence[tuple[int, int]]) -> Plan:
    subtrees = tuple(tuple(_stored(*part) for part in _perfect(*span)) for span in spans)
    ranges: list[Range] = []
    for part in sorted(chain.from_iterable(subtrees)):
        start = part.start
        if ranges and (ranges[-1].level, ranges[-1].stop) == (part.level, start):
            start = ranges.pop().start
        ranges.append(Range(part.level, start, part.stop))
    return Plan(tuple(ranges), subtrees)


def _stored(start: int, stop: int) -> Range:
    """Tell where the hashes of a perfect subtree are stored that are nearest below its root, or its root."""
    level = ((stop - start).bit_length() - 1) // TILE_HEIGHT
    shift = level * TILE_HEIGHT
    return Range(level, start >> shift, stop >> shift)
