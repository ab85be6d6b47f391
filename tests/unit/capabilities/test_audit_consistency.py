"""A checkpoint that was kept, held against the newest: what was changed before it is found out."""

from base64 import b64encode

import pytest
from tests.unit.capabilities.bundles import EVENTS, KEEPER, STRANGER, root_of

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service.consistency import KeptCheckpoint
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.engines.merkle.proofs import consistency_plan
from tenantry.engines.merkle.tree import Frontier, leaf_hash

LEAVES = [leaf_hash(one) for one in EVENTS]
TILES = {(tile.level, tile.start + at): one for tile in Frontier().append_many(LEAVES).tiles for at, one in
         enumerate(tile.hashes)}  # fmt: skip
OLD, NEW = 300, 500


def noted(size: int, events: list[bytes] = EVENTS) -> bytes:
    return KEEPER.note(size, root_of(events[:size]))


def path(size1: int, size2: int) -> list[str]:
    plan = consistency_plan(size1=size1, size2=size2)
    read = [
        LEAVES[one.start : one.stop] if one.level == 0 else [TILES[one.level, at] for at in range(one.start, one.stop)]
        for one in plan.ranges
    ]
    return [b64encode(one).decode() for one in plan.compute(read)]


def refused(kept: bytes, newest: bytes, proof: list[str], *keys: VerifierKey) -> str:
    with pytest.raises(BundleRefused) as caught:
        KeptCheckpoint.parse(kept).require_within(newest, proof, keys=keys or [KEEPER.key])
    return caught.value.code


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 600), (256, 600), (OLD, NEW), (NEW, NEW)])
def test_a_log_that_has_only_grown_is_consistent(old: int, new: int) -> None:
    kept = KeptCheckpoint.parse(noted(old))
    assert kept.require_within(noted(new), path(old, new), keys=[STRANGER.key, KEEPER.key]) == new


def test_a_log_that_was_rewritten_or_cut_is_not() -> None:
    other = [*EVENTS[:10], b"{}", *EVENTS[11:]]
    assert refused(noted(OLD), noted(NEW, other), path(OLD, NEW)) == "log_forked"
    assert refused(noted(OLD), noted(NEW), path(OLD, NEW)[1:]) == "log_forked"
    assert refused(noted(OLD), noted(NEW), ["?"]) == "log_forked"
    assert refused(noted(OLD), noted(OLD, other), []) == "log_forked"
    assert refused(noted(NEW), noted(OLD), path(OLD, NEW)) == "log_rolled_back"


def test_both_must_be_the_logs_own() -> None:
    proof = path(OLD, NEW)
    assert refused(noted(OLD), noted(NEW), proof, STRANGER.key) == "checkpoint_forged"
    assert refused(STRANGER.note(OLD, root_of(EVENTS[:OLD])), noted(NEW), proof) == "checkpoint_forged"
    assert refused(noted(OLD), STRANGER.note(NEW, root_of(EVENTS[:NEW])), proof) == "checkpoint_forged"
    assert refused(noted(OLD), noted(NEW).replace(b"500", b"501"), proof) == "checkpoint_forged"
    elsewhere = KEEPER.note(NEW, root_of(EVENTS[:NEW]), origin="log.example/ten_2")
    assert refused(noted(OLD), elsewhere, proof) == "checkpoint_foreign"
    assert refused(noted(OLD), b"no note", proof) == "checkpoint_malformed"
