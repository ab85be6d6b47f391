"""Another's code agrees: tlog-scales verifies what we make, stores the same tiles, and makes what we verify."""

from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.merkle.known import Log, leaves_of
from tests.unit.merkle.test_notes import LOG, NOW
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import PlainEd25519Signer, Vkey
from tlog_scales.tlog import (
    Checkpoint as TheirCheckpoint,
)
from tlog_scales.tlog import (
    ConsistencyProof,
    ConsistencyProofInvalid,
    InclusionProof,
    InclusionProofInvalid,
)
from tlog_scales.writer import TilesWriter

from tenantry.engines.merkle.checkpoints import Checkpoint, open_checkpoint
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.engines.merkle.proofs import (
    consistency_plan,
    frontier_plan,
    inclusion_plan,
    verify_consistency,
    verify_inclusion,
)
from tenantry.engines.merkle.tree import Frontier

SIZE = 66_000
LOG_OF_MANY = Log(leaves_of(SIZE))
SEED = b"\x05" * 32


def root(size: int) -> bytes:
    return Frontier(size, LOG_OF_MANY.answer(frontier_plan(size=size))).root


def verifier_key(signer: PlainEd25519Signer) -> str:
    return str(signer.vkey.serialize())  # type: ignore[no-untyped-call]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, SIZE), st.data())
def test_our_proofs_verify_there(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = list(LOG_OF_MANY.answer(inclusion_plan(index=index, size=size)))
    leaf = LOG_OF_MANY.levels[0][index]
    InclusionProof(index, size, proof).check(leaf, root(size))
    with pytest.raises(InclusionProofInvalid):
        InclusionProof(index, size, proof).check(leaf, root(size)[::-1])
    size1 = data.draw(st.integers(1, size))
    proof = list(LOG_OF_MANY.answer(consistency_plan(size1=size1, size2=size)))
    ConsistencyProof(size1, size, proof).check(root(size1), root(size))
    with pytest.raises(ConsistencyProofInvalid):
        ConsistencyProof(size1, size, proof).check(root(size1)[::-1], root(size))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of the same entries, written by them in uneven batches and signed."""
    path = tmp_path_factory.mktemp("tiles") / "log"
    writer = TilesWriter.create(path, "log.example/theirs")
    for number in range(SIZE):
        writer.add_leaf(b"entry %d" % number)
        if number in {0, 254, 255, 256, 5000, SIZE - 1}:
            writer.commit([PlainEd25519Signer("log.example/theirs", SEED)])
    return path


def test_their_tiles_are_ours(theirs: Path) -> None:
    def stored(path: str) -> bytes:
        return (theirs / "tile" / path).read_bytes()

    levels = LOG_OF_MANY.levels
    assert stored("0/000") == b"".join(levels[0][:256])
    assert stored("0/256") == b"".join(levels[0][65536:65792])
    assert stored(f"0/257.p/{SIZE % 256}") == b"".join(levels[0][65792:])
    assert stored("1/000") == b"".join(levels[1][:256])
    assert stored("1/001.p/1") == levels[1][256]
    assert stored("2/000.p/1") == levels[2][0]


def test_their_proofs_and_checkpoints_are_ours(theirs: Path) -> None:
    reader = TilesReader(LocalBackend(theirs))
    assert reader.get_checkpoint().size == SIZE
    for index, size in ((0, 1), (7, 300), (65_535, 65_536), (65_999, SIZE), (12_345, SIZE)):
        proof = reader.get_inclusion_proof(index, size).node_hashes
        assert tuple(proof) == LOG_OF_MANY.answer(inclusion_plan(index=index, size=size))
        verify_inclusion(leaf=LOG_OF_MANY.levels[0][index], index=index, size=size, proof=proof, root=root(size))
        proof = reader.get_consistency_proof(size, SIZE).node_hashes
        assert tuple(proof) == LOG_OF_MANY.answer(consistency_plan(size1=size, size2=SIZE))
        verify_consistency(size1=size, root1=root(size), size2=SIZE, root2=root(SIZE), proof=proof)
    key = VerifierKey.parse(verifier_key(PlainEd25519Signer("log.example/theirs", SEED)))
    raw = (theirs / "checkpoint").read_bytes()
    found = open_checkpoint(raw, origin="log.example/theirs", keys=[key], at=NOW)
    assert found.checkpoint == Checkpoint("log.example/theirs", SIZE, LOG_OF_MANY.frontier.root)


def test_our_checkpoints_verify_there() -> None:
    ours = Checkpoint("log.example/eu", SIZE, LOG_OF_MANY.frontier.root)
    text = bytes(ours.note.signed(LOG)).decode()
    read = TheirCheckpoint.from_text(text)
    assert (read.origin, read.size, read.root_hash) == (ours.origin, ours.size, ours.root)
    read.verify(Vkey.from_string(str(LOG.key)))
    with pytest.raises(InvalidSignature):
        TheirCheckpoint.from_text(text.replace(str(SIZE), "1")).verify(Vkey.from_string(str(LOG.key)))


def test_both_sign_to_the_same_bytes() -> None:
    """Ed25519 is deterministic, so whole notes can be compared."""
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    key = VerifierKey("log.example/both", private.public_key().public_bytes_raw())
    signer = PlainEd25519Signer("log.example/both", SEED)
    assert str(key) == verifier_key(signer)
    made = TheirCheckpoint.make_signed("log.example/both", SIZE, LOG_OF_MANY.frontier.root, [signer]).serialize()
    ours = Checkpoint("log.example/both", SIZE, LOG_OF_MANY.frontier.root).note
    assert bytes(ours.with_signatures([(key, private.sign(ours.text.encode()))])).decode() == made
