"""Proofs: what is made verifies, whatever is changed does not, and a plan reads little."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.merkle.known import CONSISTENCIES, ENTRIES, INCLUSIONS, ROOTS, Log, leaves_of

from tenantry.engines.merkle.errors import Malformed, OutOfTree, ProofError
from tenantry.engines.merkle.proofs import (
    consistency_plan,
    frontier_plan,
    inclusion_plan,
    verify_consistency,
    verify_inclusion,
)
from tenantry.engines.merkle.tree import EMPTY_ROOT, MAX_SIZE, Frontier, leaf_hash

TEST_TREE = Log([leaf_hash(entry) for entry in ENTRIES])
SMALL = Log(leaves_of(70))
LARGE = Log(leaves_of(66_000))
HASH = b"\x07" * 32
HUGE = 1 << 100_000  # more digits than Python writes
Proof = tuple[bytes, ...]


def included(log: Log, index: int, size: int) -> dict[str, Any]:
    proof = log.answer(inclusion_plan(index=index, size=size))
    return {"leaf": log.levels[0][index], "index": index, "size": size, "proof": proof, "root": log.root(size)}


def consistent(log: Log, size1: int, size2: int) -> dict[str, Any]:
    proof = log.answer(consistency_plan(size1=size1, size2=size2))
    return {"size1": size1, "root1": log.root(size1), "size2": size2, "root2": log.root(size2), "proof": proof}


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSIONS)
def test_inclusion_in_the_test_tree_is_proved_as_by_certificate_transparency(
    index: int, size: int, proof: list[str]
) -> None:
    made = included(TEST_TREE, index, size)
    assert ([one.hex() for one in made["proof"]], made["root"]) == (proof, ROOTS[size])
    verify_inclusion(**made)


@pytest.mark.parametrize(("size1", "size2", "proof"), CONSISTENCIES)
def test_consistency_of_the_test_tree_is_proved_as_by_certificate_transparency(
    size1: int, size2: int, proof: list[str]
) -> None:
    made = consistent(TEST_TREE, size1, size2)
    assert ([one.hex() for one in made["proof"]], made["root2"]) == (proof, ROOTS[size2])
    verify_consistency(**made)


def test_every_leaf_of_every_small_tree_is_proved() -> None:
    for size in range(1, 71):
        for index in range(size):
            verify_inclusion(**included(SMALL, index, size))


def test_every_small_tree_is_proved_to_begin_with_every_smaller() -> None:
    for size2 in range(71):
        for size1 in range(size2 + 1):
            verify_consistency(**consistent(SMALL, size1, size2))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 66_000), st.data())
def test_proofs_over_many_tiles_verify(size: int, data: st.DataObject) -> None:
    root = Frontier(size, LARGE.answer(frontier_plan(size=size))).root
    index = data.draw(st.integers(0, size - 1))
    proof = LARGE.answer(inclusion_plan(index=index, size=size))
    verify_inclusion(leaf=LARGE.levels[0][index], index=index, size=size, proof=proof, root=root)
    proof = LARGE.answer(consistency_plan(size1=size, size2=66_000))
    verify_consistency(size1=size, root1=root, size2=66_000, root2=LARGE.frontier.root, proof=proof)


def test_a_frontier_is_read_back_from_tiles() -> None:
    assert Frontier(66_000, LARGE.answer(frontier_plan(size=66_000))) == LARGE.frontier
    assert LARGE.answer(frontier_plan(size=0)) == ()


@settings(deadline=None, max_examples=300)
@given(st.integers(1, MAX_SIZE), st.data())
def test_a_plan_reads_at_most_three_ranges_a_level(size: int, data: st.DataObject) -> None:
    """Without a single hash of it: what a proof over quintillions of leaves would read."""
    levels = 1 + (size.bit_length() - 1) // 8
    for plan in (
        inclusion_plan(index=data.draw(st.integers(0, size - 1)), size=size),
        consistency_plan(size1=data.draw(st.integers(0, size)), size2=size),
        frontier_plan(size=size),
    ):
        assert len(plan.ranges) <= 3 * levels
        assert all(0 < one.stop - one.start <= 3 * 256 for one in plan.ranges)
        assert all(one.stop <= size >> 8 * one.level for one in plan.ranges)
        assert all(
            (one.level, one.stop) < (other.level, other.start)
            for one, other in zip(plan.ranges, plan.ranges[1:], strict=False)
        )


def test_a_proof_in_a_million_leaves_reads_a_few_hundred_hashes() -> None:
    plan = inclusion_plan(index=654_321, size=1_000_000)
    assert len(plan.ranges) <= 9
    assert sum(one.stop - one.start for one in plan.ranges) < 1000


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 5), (5, 5), (0, MAX_SIZE + 1), (True, 2), (0.0, 2)])
def test_a_leaf_outside_of_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(OutOfTree):
        inclusion_plan(index=index, size=size)


@pytest.mark.parametrize(("size1", "size2"), [(2, 1), (-1, 5), (1, MAX_SIZE + 1), (True, 2)])
def test_a_tree_does_not_begin_with_a_larger_one(size1: int, size2: int) -> None:
    with pytest.raises(OutOfTree):
        consistency_plan(size1=size1, size2=size2)


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1, True])
def test_there_is_no_frontier_of_no_size(size: int) -> None:
    with pytest.raises(OutOfTree):
        frontier_plan(size=size)


def test_numbers_too_long_to_be_written_are_refused_like_others() -> None:
    with pytest.raises(OutOfTree):
        inclusion_plan(index=HUGE, size=HUGE + 1)
    with pytest.raises(OutOfTree):
        consistency_plan(size1=HUGE, size2=HUGE)
    with pytest.raises(OutOfTree):
        frontier_plan(size=HUGE)


def test_what_was_read_must_be_what_was_planned() -> None:
    plan = inclusion_plan(index=3, size=7)
    right = [SMALL.levels[one.level][one.start : one.stop] for one in plan.ranges]
    wrong: list[Any]
    for wrong in ([], right[:-1], [*right, []], [right[0][1:], *right[1:]], [[b"x"] * len(right[0]), *right[1:]]):
        with pytest.raises(Malformed):
            plan.compute(wrong)


def flipped(value: bytes, bit: int) -> bytes:
    number = int.from_bytes(value, "big") ^ (1 << bit)
    return number.to_bytes(len(value), "big")


def spoiled(proof: Proof) -> Iterator[Proof]:
    """Change every proof in every way: one removed, one added anywhere, two swapped, one doubled, cut, extended."""
    for place in range(len(proof) + 1):
        yield (*proof[:place], HASH, *proof[place:])
        yield (*proof[:place], EMPTY_ROOT, *proof[place:])
    for place, one in enumerate(proof):
        yield proof[:place] + proof[place + 1 :]
        yield (*proof[:place], one, *proof[place:])
        yield (*proof[:place], one[:-1], *proof[place + 1 :])
        yield (*proof[:place], one + b"\0", *proof[place + 1 :])
        for other in range(place + 1, len(proof)):
            swapped = list(proof)
            swapped[place], swapped[other] = swapped[other], swapped[place]
            yield tuple(swapped)
    yield proof * 2


def refused(verify: Callable[..., None], given: dict[str, Any]) -> None:
    with pytest.raises(ProofError):
        verify(**given)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 20, 64, 70])
def test_an_inclusion_that_was_changed_in_any_way_is_refused(size: int) -> None:
    for index in {0, size // 2, size - 1}:
        true = included(SMALL, index, size)
        verify_inclusion(**true)
        for proof in spoiled(true["proof"]):
            if proof != true["proof"]:
                refused(verify_inclusion, true | {"proof": proof})
        for other in {*range(size + 2), -1, 2**64} - {index}:
            refused(verify_inclusion, true | {"index": other})
        for name in ("leaf", "root"):
            refused(verify_inclusion, true | {name: HASH})


@pytest.mark.parametrize(("size1", "size2"), [(1, 2), (1, 8), (3, 7), (4, 7), (6, 8), (8, 64), (33, 70), (64, 70)])
def test_a_consistency_that_was_changed_in_any_way_is_refused(size1: int, size2: int) -> None:
    true = consistent(SMALL, size1, size2)
    verify_consistency(**true)
    for proof in spoiled(true["proof"]):
        if proof != true["proof"]:
            refused(verify_consistency, true | {"proof": proof})
    for change in (
        {"root1": HASH},
        {"root2": HASH},
        {"root1": true["root2"]},
        {"size1": size2},
        {"size1": 0},
        {"size1": -1},
        {"size2": size1},
        {"size2": 2**64},
    ):
        refused(verify_consistency, true | change)
    refused(verify_consistency, true | {"size1": size2, "size2": size1})


@settings(deadline=None)
@given(st.integers(1, 70), st.data())
def test_one_bit_anywhere_spoils_an_inclusion(size: int, data: st.DataObject) -> None:
    true = included(SMALL, data.draw(st.integers(0, size - 1)), size)
    bit = data.draw(st.integers(0, 255))
    place = data.draw(st.sampled_from(["leaf", "root", *range(len(true["proof"]))]))
    if isinstance(place, str):
        refused(verify_inclusion, true | {place: flipped(true[place], bit)})
    else:
        proof = list(true["proof"])
        proof[place] = flipped(proof[place], bit)
        refused(verify_inclusion, true | {"proof": proof})


@settings(deadline=None)
@given(st.integers(0, 70), st.integers(0, 70), st.data())
def test_one_bit_anywhere_spoils_a_consistency(size1: int, size2: int, data: st.DataObject) -> None:
    assume(size1 <= size2)
    true = consistent(SMALL, size1, size2)
    bit = data.draw(st.integers(0, 255))
    place = data.draw(st.sampled_from(["root1", *(["root2"] if size1 else []), *range(len(true["proof"]))]))
    if isinstance(place, str):
        refused(verify_consistency, true | {place: flipped(true[place], bit)})
    else:
        proof = list(true["proof"])
        proof[place] = flipped(proof[place], bit)
        refused(verify_consistency, true | {"proof": proof})


@settings(deadline=None)
@given(st.integers(2, 70), st.data())
def test_a_log_that_was_rewritten_is_not_consistent(size2: int, data: st.DataObject) -> None:
    """A keeper that changes an old leaf has no proof left: not its new tree's, not the old one's."""
    size1 = data.draw(st.integers(1, size2 - 1))
    changed = data.draw(st.integers(0, size1 - 1))
    leaves = list(SMALL.levels[0])
    leaves[changed] = HASH
    forged = Log(leaves)
    for log in (SMALL, forged):
        made = consistent(log, size1, size2)
        refused(verify_consistency, made | {"root1": SMALL.root(size1), "root2": forged.root(size2)})


def test_a_proof_is_as_long_as_its_sizes_say_even_if_it_leads_to_the_root() -> None:
    """The last leaf of eight is not the only one of one, nor a tree of four the one of eight."""
    true = included(SMALL, 7, 8)
    for index, size in ((0, 1), (1, 2), (3, 4), (15, 16)):
        refused(verify_inclusion, true | {"index": index, "size": size})
    for size1, size2, said in ((2, 4, 8), (2, 8, 4), (3, 4, 8), (3, 7, 16)):
        refused(verify_consistency, consistent(SMALL, size1, size2) | {"size2": said})


def test_a_proof_that_is_too_long_for_any_tree_is_not_looked_at() -> None:
    with pytest.raises(ProofError, match="at most 64 hashes"):
        verify_inclusion(leaf=HASH, index=0, size=1, proof=[HASH] * 65, root=HASH)


def test_trees_of_one_size_need_one_root_and_no_proof() -> None:
    root = SMALL.root(5)
    verify_consistency(size1=5, root1=root, size2=5, root2=root, proof=())
    verify_consistency(size1=0, root1=EMPTY_ROOT, size2=5, root2=root, proof=())
    refused(verify_consistency, {"size1": 5, "root1": root, "size2": 5, "root2": root, "proof": (root,)})
    refused(verify_consistency, {"size1": 0, "root1": EMPTY_ROOT, "size2": 5, "root2": root, "proof": (root,)})
    refused(verify_consistency, {"size1": 0, "root1": root, "size2": 5, "root2": root, "proof": ()})
    refused(verify_consistency, {"size1": 0, "root1": HASH, "size2": 0, "root2": HASH, "proof": ()})


ODD: list[Any] = [
    HUGE,
    None,
    "",
    "a" * 32,
    b"\0" * 32,
    1,
    1.0,
    True,
    [],
    [None],
    [b""],
    ["a" * 32],
    [HASH] * 1000,
    {},
    (HASH,) * 65,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda value: type(value).__name__)
def test_whatever_a_stranger_hands_in_is_a_proof_error(odd: Any) -> None:
    inclusion, consistency = included(SMALL, 3, 7), consistent(SMALL, 3, 7)
    for verify, true in ((verify_inclusion, inclusion), (verify_consistency, consistency)):
        for name in true:
            if not (name == "size1" and odd in (1, 3)):
                refused(verify, true | {name: odd})


def test_random_proofs_are_refused() -> None:
    draw = Random(1)  # noqa: S311 - the same every time
    for _ in range(2000):
        size = draw.choice([1, 2, 7, 1000, MAX_SIZE])
        proof = [draw.randbytes(32) for _ in range(draw.randint(0, 66))]
        leaf, root = draw.randbytes(32), draw.randbytes(32)
        refused(
            verify_inclusion,
            {"leaf": leaf, "index": draw.randrange(size), "size": size, "proof": proof, "root": root},
        )
        refused(
            verify_consistency,
            {"size1": draw.randint(1, size), "root1": leaf, "size2": size, "root2": root, "proof": proof},
        )
