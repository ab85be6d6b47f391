"""Checkpoints: those of a public log are read, what is not exactly one is refused, and the log itself has signed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.merkle.test_notes import LOG, NOW, OTHER

from tenantry.engines.merkle.checkpoints import Checkpoint, open_checkpoint
from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.notes import Note, Signer, VerifierKey
from tenantry.engines.merkle.tree import EMPTY_ROOT, MAX_SIZE

ORIGIN = "log.example/eu"
ROOT = b"\x01" * 32
SUMDB = "go.sum database tree"
SUMDB_KEY = VerifierKey.parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
# Heads of Go's checksum database; the third is the example of C2SP tlog-checkpoint under the name it was signed with.
HEADS = {
    6476701: """mb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=

— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=
""",
    15067302: """gJyioq6dwR9n+NjEWORfYmH+ubeYm3kH42BBQ0bTpYI=

— sum.golang.org Az3grp1rvWOs5NKlr/xR4GLN/CDyzzakmt1o61uSxYKpK1SerqOP2ClbX/peKUZjYnyomH5Xz7GZG3TpB7OeKn4E2ww=
— test.example.com qTGhC/xIPQ0AXKHK6Y+9ypRfuvMZWPjRXM8NiOg5M1WREn07VQXyuIXM3NRNav3ieVFLUqDRK77PWDmL6w8w84UqeAw=
""",
    20852163: """CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— sum.golang.org Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
""",
    65209736: """5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo=

— sum.golang.org Az3grnbssgK7ubgFX36gVETtNv0U23qxyAhAMai2QUfeGa3nB/akvkMdlUErfcZz7l/R3cVtYspg3dxXABkGZZKdsQ8=
""",
}


def opened(note: Note, *, keys: list[VerifierKey], witnesses: list[VerifierKey]) -> tuple[VerifierKey, ...]:
    return open_checkpoint(bytes(note), origin=ORIGIN, keys=keys, witnesses=witnesses, at=NOW).signers


@pytest.mark.parametrize("size", HEADS)
def test_heads_of_a_public_log_are_opened(size: int) -> None:
    raw = f"{SUMDB}\n{size}\n{HEADS[size]}".encode()
    found = open_checkpoint(raw, origin=SUMDB, keys=[SUMDB_KEY], at=NOW)
    assert (found.checkpoint.size, found.signers) == (size, (SUMDB_KEY,))
    assert found.checkpoint.text.encode() == raw.partition(b"\n\n")[0] + b"\n"
    for wrong in (raw.replace(b"database", b"databasE"), raw.replace(b"%d" % size, b"%d" % (size + 1))):
        with pytest.raises(NoteError, match="is bad"):
            open_checkpoint(wrong, origin=SUMDB, keys=[SUMDB_KEY], at=NOW)


LINE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@settings(deadline=None)
@given(LINE, st.integers(1, MAX_SIZE), st.binary(min_size=32, max_size=32), st.lists(LINE, max_size=3))
def test_a_checkpoint_comes_back_as_it_was_signed(origin: str, size: int, root: bytes, more: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(more))
    raw = bytes(checkpoint.note.signed(LOG))
    found = open_checkpoint(raw, origin=origin, keys=[LOG.key], at=NOW)
    assert (found.checkpoint, found.signers) == (checkpoint, (LOG.key,))


def test_the_text_is_origin_size_and_root() -> None:
    assert Checkpoint("example.com/behind-the-sofa", 7, b"\0" * 32).text == (
        "example.com/behind-the-sofa\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
    )
    assert Checkpoint("a", 0, EMPTY_ROOT, ("x", "y")).text.endswith("FU=\nx\ny\n")


_HASH = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "a\n",
        "a\n1\n",
        f"a\n1\n{_HASH}",
        f"\n1\n{_HASH}\n",
        f"a\n\n{_HASH}\n",
        "a\n1\n\n",
        f"a\n01\n{_HASH}\n",
        f"a\n+1\n{_HASH}\n",
        f"a\n-1\n{_HASH}\n",
        f"a\n1_0\n{_HASH}\n",
        f"a\n 1\n{_HASH}\n",
        f"a\n1 \n{_HASH}\n",
        f"a\n\u0661\n{_HASH}\n",
        f"a\n0x1\n{_HASH}\n",
        f"a\n{MAX_SIZE + 1}\n{_HASH}\n",
        f"a\n{'9' * 5000}\n{_HASH}\n",
        f"a\n0\n{_HASH}\n",
        f"a\n1\n{_HASH[:-1]}\n",
        f"a\n1\n{_HASH}=\n",
        f"a\n1\n{_HASH[:-2]}B=\n",
        f"a\n1\n{_HASH} \n",
        "a\n1\nAAAA\n",
        f"a\n1\n{'A' * 44}\n",
        f"a\n1\n{_HASH}\nx",
        f"a\n1\n{_HASH}\n\n",
        f"a\n1\n{_HASH}\nx\n\ny\n",
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    ("origin", "size", "root", "more"),
    [
        ("", 1, ROOT, ()),
        ("a\nb", 1, ROOT, ()),
        ("a", -1, ROOT, ()),
        ("a", MAX_SIZE + 1, ROOT, ()),
        ("a", True, ROOT, ()),
        ("a", 1, ROOT[1:], ()),
        ("a", 0, ROOT, ()),
        ("a", 1, ROOT, ("",)),
        ("a", 1, ROOT, ("x\ny",)),
        ("a", 1, ROOT, ("x\n",)),
    ],
)
def test_what_has_no_text_is_no_checkpoint(origin: str, size: int, root: bytes, more: tuple[str, ...]) -> None:
    with pytest.raises(NoteError):
        Checkpoint(origin, size, root, more)


def test_another_logs_checkpoint_is_refused_however_well_signed() -> None:
    raw = bytes(Checkpoint("log.example/us", 1, ROOT).note.signed(LOG))
    with pytest.raises(NoteError, match="another log"):
        open_checkpoint(raw, origin=ORIGIN, keys=[LOG.key], at=NOW)


def test_a_note_that_is_no_checkpoint_is_refused_however_well_signed() -> None:
    with pytest.raises(NoteError):
        open_checkpoint(bytes(Note(f"{ORIGIN}\n").signed(LOG)), origin=ORIGIN, keys=[LOG.key], at=NOW)


def test_witnesses_sign_beside_the_log_and_not_in_its_place() -> None:
    note = Checkpoint(ORIGIN, 1, ROOT).note
    both = note.signed(OTHER, LOG)
    assert opened(both, keys=[LOG.key], witnesses=[]) == (LOG.key,)
    assert opened(both, keys=[LOG.key], witnesses=[OTHER.key]) == (LOG.key, OTHER.key)
    assert opened(note.signed(LOG), keys=[LOG.key], witnesses=[OTHER.key]) == (LOG.key,)
    with pytest.raises(NoteError, match="no known key"):
        opened(note.signed(OTHER), keys=[LOG.key], witnesses=[OTHER.key])


def test_a_witness_that_signed_badly_refuses_the_checkpoint() -> None:
    note = Checkpoint(ORIGIN, 1, ROOT).note
    elsewhere = Checkpoint(ORIGIN, 2, ROOT).note.signed(OTHER)
    mixed = Note(note.text, (*note.signed(LOG).signatures, *elsewhere.signatures))
    assert opened(mixed, keys=[LOG.key], witnesses=[]) == (LOG.key,)
    with pytest.raises(NoteError, match="is bad"):
        opened(mixed, keys=[LOG.key], witnesses=[OTHER.key])


def test_a_rotated_key_opens_what_it_signed_in_its_time() -> None:
    old = VerifierKey(ORIGIN, LOG.key.public, None, NOW)
    new = VerifierKey(ORIGIN, OTHER.key.public, NOW, None)
    note = Checkpoint(ORIGIN, 1, ROOT).note
    with pytest.raises(NoteError, match="no known key"):
        opened(note.signed(Signer(old, LOG.sign)), keys=[old, new], witnesses=[])
    assert opened(note.signed(Signer(new, OTHER.sign)), keys=[old, new], witnesses=[]) == (new,)
