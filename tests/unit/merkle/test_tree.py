"""Roots, frontiers and the hashes of tiles: whatever the batches, what RFC 9162 defines."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.merkle.known import ENTRIES, ROOTS, Log, defined_root, leaves_of

from tenantry.engines.merkle.errors import Malformed, OutOfTree
from tenantry.engines.merkle.tree import EMPTY_ROOT, MAX_SIZE, Frontier, leaf_hash, node_hash, root_of

LEAVES = leaves_of(70_000)
HASH = b"\x01" * 32


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_test_tree_are_those_of_certificate_transparency(size: int) -> None:
    leaves = [leaf_hash(entry) for entry in ENTRIES[:size]]
    assert root_of(leaves) == ROOTS[size]
    assert Frontier().append_many(leaves).root == ROOTS[size]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert Frontier().root == root_of([]) == EMPTY_ROOT == ROOTS[0]


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    left, right = LEAVES[:2]
    assert node_hash(left, right) not in {leaf_hash(left + right), leaf_hash(b"\x01" + left + right)}


@settings(deadline=None)
@given(st.lists(st.integers(0, 700), max_size=8))
def test_batches_of_any_size_give_the_defined_root(batches: list[int]) -> None:
    frontier = Frontier()
    for count in batches:
        frontier = frontier.append_many(LEAVES[frontier.size : frontier.size + count]).frontier
        assert frontier == Frontier.from_bytes(frontier.to_bytes())
        assert frontier.root == defined_root(LEAVES[: frontier.size]) == root_of(LEAVES[: frontier.size])
    assert frontier.size == sum(batches)


@pytest.mark.parametrize("batch", [1, 255, 256, 257, 1000, 66_000, 70_000])
def test_tiles_have_every_complete_hash_once_and_in_order(batch: int) -> None:
    """`Log` asserts the order. Level 1 has a hash for 256 leaves, level 2 for 65536, and nothing of a partial one."""
    leaves = LEAVES if batch > 1 else LEAVES[:600]
    log = Log(leaves, batch=batch)
    for level, hashes in log.levels.items():
        width = 256**level
        assert len(hashes) == len(leaves) // width
        for place in {0, len(hashes) // 2, len(hashes) - 1}:
            assert hashes[place] == defined_root(leaves[place * width : (place + 1) * width])
    assert set(log.levels) == set(range(3 if len(leaves) >= 65_536 else 2))


def test_appending_changes_no_frontier() -> None:
    frontier = Frontier().append_many(LEAVES[:5]).frontier
    stored = frontier.to_bytes()
    frontier.append_many(LEAVES[5:500])
    assert frontier.to_bytes() == stored


def test_a_frontier_is_eight_bytes_and_a_hash_for_each_one_bit() -> None:
    frontier = Frontier().append_many(LEAVES[:0b1011]).frontier
    assert frontier.to_bytes() == (11).to_bytes(8, "big") + b"".join(
        defined_root(LEAVES[start:stop]) for start, stop in [(0, 8), (8, 10), (10, 11)]
    )


def test_appending_nothing_is_nothing() -> None:
    frontier = Frontier().append_many(LEAVES[:300]).frontier
    appended = frontier.append_many([])
    assert (appended.frontier, appended.tiles) == (frontier, ())


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\0" * 7,
        b"\0" * 9,
        b"\0" * 7 + b"\1",
        b"\0" * 7 + b"\1" + HASH[1:],
        b"\0" * 7 + b"\3" + HASH,
        b"\0" * 8 + HASH,
    ],
)
def test_bytes_that_are_no_frontier_are_refused(stored: bytes) -> None:
    with pytest.raises(Malformed):
        Frontier.from_bytes(stored)


@pytest.mark.parametrize("leaves", [[b""], [HASH, HASH + b"\0"], ["a" * 32], [None]])
def test_only_hashes_are_appended(leaves: Sequence[bytes]) -> None:
    with pytest.raises(Malformed):
        Frontier().append_many(leaves)


def test_a_tree_ends_at_the_largest_size() -> None:
    full = Frontier(MAX_SIZE, (HASH,) * 63)
    assert full.root
    with pytest.raises(OutOfTree):
        full.append_many([HASH])
    with pytest.raises(OutOfTree):
        Frontier.from_bytes(b"\xff" * 8 + HASH * 64)
