"""Signed notes: what others signed is read, what is malformed refused, and every signature counts or is passed over."""

from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.notes import MAX_NOTE_BYTES, MAX_SIGNATURES, Note, Signature, Signer, VerifierKey

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# From the tests of golang.org/x/mod/sumdb/note, where the format comes from.
PETER = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
PETER_SEED = b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
ENOCH = VerifierKey.parse("EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop")
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
BY_ENOCH = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
# The example of C2SP signed-note; whose key it was is not told.
SALVATORE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3Ze"
    "kRwNtIc=\n"
)


def signer(name: str, seed: int = 1) -> Signer:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return Signer(VerifierKey(name, private.public_key().public_bytes_raw()), private.sign)


LOG, OTHER = signer("log.example/eu"), signer("log.example/us", 2)


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def test_a_note_that_others_have_signed_verifies() -> None:
    note = Note.parse(raw(f"{TEXT}\n{BY_PETER}{BY_ENOCH}"))
    assert note.text == TEXT
    assert note.verify(keys=[PETER], at=NOW) == (PETER,)
    assert note.verify(keys=[ENOCH, PETER], at=NOW) == (PETER, ENOCH)
    assert bytes(note) == raw(f"{TEXT}\n{BY_PETER}{BY_ENOCH}")


def test_it_is_signed_to_the_same_bytes() -> None:
    private = Ed25519PrivateKey.from_private_bytes(PETER_SEED)
    assert bytes(Note(TEXT).signed(Signer(PETER, private.sign))) == raw(f"{TEXT}\n{BY_PETER}")


def test_a_text_may_have_empty_lines() -> None:
    note = Note.parse(raw(SALVATORE))
    assert (note.text.count("\n\n"), note.signatures[0].key_id.hex()) == (1, "367ba04b")
    assert bytes(note) == raw(SALVATORE)
    with pytest.raises(NoteError, match="no known key"):
        note.verify(keys=[PETER], at=NOW)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n"), max_size=80))
def test_whatever_is_signed_comes_back(text: str) -> None:
    note = Note(f"{text}\n").signed(LOG, OTHER)
    read = Note.parse(bytes(note))
    assert read == note
    assert read.verify(keys=[OTHER.key, LOG.key], at=NOW) == (LOG.key, OTHER.key)


def test_others_sign_below_and_a_second_time_instead() -> None:
    first = Note(TEXT).signed(LOG)
    both = Note.parse(bytes(first)).signed(OTHER)
    assert both.signatures[:1] == first.signatures
    assert both.signed(LOG).signatures == (both.signatures[1], both.signatures[0])


def test_a_signature_may_be_made_elsewhere() -> None:
    made = LOG.sign(TEXT.encode())
    assert Note(TEXT).with_signatures([(LOG.key, made)]) == Note(TEXT).signed(LOG)


@pytest.mark.parametrize("made", [b"", b"\0" * 64, OTHER.sign(TEXT.encode()), LOG.sign(b"another text\n")])
def test_what_its_own_key_refuses_is_not_signed(made: bytes) -> None:
    with pytest.raises(NoteError):
        Note(TEXT).signed(Signer(LOG.key, lambda _: made))


MALFORMED = {
    "no signature": TEXT,
    "nothing below": TEXT + "\n",
    "nothing": "",
    "newlines": "\n\n\n",
    "no newline at the end": f"{TEXT}\n{BY_PETER[:-1]}",
    "no newline behind the second": f"{TEXT}\n{BY_PETER}{BY_ENOCH[:-1]}",
    "more behind": f"{TEXT}\n{BY_PETER}\n",
    "another line": f"{TEXT}\n{BY_PETER}Unexpected line.\n",
    "a line between": f"{TEXT}\nx\n{BY_PETER}",
    "no empty line": f"{TEXT}{BY_PETER}",
    "carriage returns": f"{TEXT}\n{BY_PETER}".replace("\n", "\r\n"),
    "one carriage return": f"{TEXT}\r\n\n{BY_PETER}",
    "a control character": f"\x01{TEXT}\n{BY_PETER}",
    "a tab": f"\t{TEXT}\n{BY_PETER}",
    "a zero": f"{TEXT}\n— Peter\0Neumann {BY_PETER.split()[2]}\n",
    "no UTF-8": f"\udcff{TEXT}\n{BY_PETER}",
    "a hyphen": f"{TEXT}\n{BY_PETER.replace('—', '-')}",
    "no space": f"{TEXT}\n{BY_PETER.replace('— ', '—')}",
    "two spaces": f"{TEXT}\n{BY_PETER.replace('— ', '—  ')}",
    "a space in the name": f"{TEXT}\n— Bad Name {BY_PETER.split()[2]}\n",
    "a wide space in the name": f"{TEXT}\n— Bad\u3000Name {BY_PETER.split()[2]}\n",
    "a plus in the name": f"{TEXT}\n— Bad+Name {BY_PETER.split()[2]}\n",
    "no name": f"{TEXT}\n—  {BY_PETER.split()[2]}\n",
    "no base64": f"{TEXT}\n— PeterNeumann ?\n",
    "no signature in the line": f"{TEXT}\n— PeterNeumann\n",
    "a space behind": f"{TEXT}\n{BY_PETER[:-1]} \n",
    "stray bits": f"{TEXT}\n{BY_PETER.replace('AM=', 'AN=')}",
    "no padding": f"{TEXT}\n{BY_PETER.replace('=', '')}",
    "too much padding": f"{TEXT}\n{BY_PETER.replace('=', '==')}",
    "base64 of URLs": f"{TEXT}\n{BY_PETER.replace('/', '_')}",
    "a key id alone": f"{TEXT}\n— PeterNeumann {b64encode(PETER.key_id).decode()}\n",
    "too many signatures": f"{TEXT}\n{BY_PETER * (MAX_SIGNATURES + 1)}",
    "too long": f"{'x' * MAX_NOTE_BYTES}\n\n{BY_PETER}",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_note_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Note.parse(raw(text))


def test_as_many_signatures_as_may_be_are_read() -> None:
    assert Note.parse(raw(f"{TEXT}\n{BY_PETER * MAX_SIGNATURES}")).verify(keys=[PETER], at=NOW) == (PETER,)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 8 * 300), st.data())
def test_one_bit_of_a_signed_note_changes_its_text_or_its_signer(bit: int, data: st.DataObject) -> None:
    """Flipped anywhere it is refused; only in the name or id of a signature does it become a stranger's."""
    whole = bytearray(raw(f"{TEXT}\n{BY_PETER}"))
    bit %= 8 * len(whole)
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NoteError):
        Note.parse(bytes(whole)).verify(keys=[PETER], at=NOW)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(NoteError):
        Note.parse(raw(f"{TEXT}\n{BY_PETER}")[:cut]).verify(keys=[PETER], at=NOW)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_note_or_a_note_error(given_bytes: bytes) -> None:
    for whole in (given_bytes, b"a\n\n\xe2\x80\x94 " + given_bytes + b"\n"):
        with suppress(NoteError):
            assert bytes(Note.parse(whole)) == whole


def test_a_known_key_with_a_bad_signature_refuses_the_note() -> None:
    stranger = Signature(OTHER.key.name, OTHER.key.key_id, b"of another algorithm")
    forged = Signature(LOG.key.name, LOG.key.key_id, b"\0" * 64)
    good = Note(TEXT).signed(LOG)
    assert Note(TEXT, (stranger, *good.signatures)).verify(keys=[LOG.key], at=NOW) == (LOG.key,)
    for signatures in ((forged,), (forged, *good.signatures), (*good.signatures, forged)):
        with pytest.raises(NoteError, match="is bad"):
            Note(TEXT, signatures).verify(keys=[LOG.key], at=NOW)


def test_half_of_a_known_key_is_a_stranger() -> None:
    """A name with another id, an id with another name: passed over, and so nobody has signed."""
    value = LOG.sign(TEXT.encode())
    for name, key_id in ((LOG.key.name, OTHER.key.key_id), (OTHER.key.name, LOG.key.key_id)):
        with pytest.raises(NoteError, match="no known key"):
            Note(TEXT, (Signature(name, key_id, value),)).verify(keys=[LOG.key], at=NOW)


def test_nobody_who_is_asked_for_is_nobody() -> None:
    with pytest.raises(NoteError, match="no known key"):
        Note(TEXT).signed(LOG).verify(keys=[], at=NOW)


def test_a_key_counts_in_its_time_and_rotation_is_a_list() -> None:
    day = timedelta(days=1)
    old = VerifierKey(LOG.key.name, LOG.key.public, None, NOW)
    new = VerifierKey(LOG.key.name, OTHER.key.public, NOW - day, None)
    keys = [old, new]
    by_old = Note(TEXT).signed(Signer(old, LOG.sign))
    by_new = Note(TEXT).signed(Signer(new, OTHER.sign))
    assert by_old.verify(keys=keys, at=NOW - day) == (old,)
    assert by_new.verify(keys=keys, at=NOW - day) == (new,)
    assert by_new.verify(keys=keys, at=NOW) == (new,)
    with pytest.raises(NoteError, match="no known key"):
        by_old.verify(keys=keys, at=NOW)
    with pytest.raises(NoteError, match="no known key"):
        by_new.verify(keys=keys, at=NOW - 2 * day)


def test_keys_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id has 32 bits: whoever wants a second key of one id finds it."""
    monkeypatch.setattr(VerifierKey, "key_id", b"same")
    twin = VerifierKey(LOG.key.name, OTHER.key.public)
    with pytest.raises(NoteError, match="one name and id"):
        Note(TEXT).signed(LOG).verify(keys=[LOG.key, twin], at=NOW)
    assert Note(TEXT).signed(LOG).verify(keys=[LOG.key, LOG.key], at=NOW) == (LOG.key,)


def test_a_key_is_written_with_its_name_and_id() -> None:
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert str(VerifierKey.parse(text)) == text
    assert str(LOG.key).startswith(f"log.example/eu+{LOG.key.key_id.hex()}+")
    assert VerifierKey.parse(str(LOG.key)) == LOG.key
    assert LOG.key.key_id == sha256(b"log.example/eu\n\x01" + LOG.key.public).digest()[:4]


def test_every_mangled_key_is_refused() -> None:
    text = str(PETER)
    parts = [text[start:stop] for start in range(len(text)) for stop in range(start, len(text) + 1)]
    changed = [text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :] for at in range(len(text))]
    others = [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",  # longer, with its own id
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # another algorithm, with its own id
        text.replace("c74f20a3", "C74F20A3"),
        f"{text}\n",
        f" {text}",
        text.replace("PeterNeumann", "Peter\ud800Neumann"),
    ]
    for wrong in {*parts, *changed, *others} - {text}:
        with pytest.raises(NoteError):
            VerifierKey.parse(wrong)


@pytest.mark.parametrize(
    ("name", "public"), [("", b"1" * 32), ("a b", b"1" * 32), ("a+b", b"1" * 32), ("a", b"1" * 31)]
)
def test_a_key_has_a_name_and_32_bytes(name: str, public: bytes) -> None:
    with pytest.raises(NoteError):
        VerifierKey(name, public)


@pytest.mark.parametrize("text", ["", "no newline", "a\r\n", "a\tb\n", "\x00\n", "\ud800\n"])
def test_no_text_is_signed_that_could_not_be_read_back(text: str) -> None:
    with pytest.raises(NoteError):
        Note(text)
