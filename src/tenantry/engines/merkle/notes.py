"""Signed notes of C2SP (signed-note), with signatures of type 0x01: Ed25519 over the text.

    text, one line or more, each ended by a newline
    (an empty line)
    — name base64(key id ‖ signature)             one line a signature
    key id = SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)[:4]

Signatures of unknown keys are passed over, whatever their type; one of a known key that is bad refuses the note.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tenantry.engines.merkle.errors import NoteError

MAX_NOTE_BYTES: Final = 1 << 20
MAX_SIGNATURES: Final = 100
_ED25519: Final = b"\x01"
_PUBLIC_BYTES: Final = 32
_ID_BYTES: Final = 4
_DASH: Final = "— "
_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # and what UTF-8 cannot say
_KEY: Final = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name, and when it counts: from `valid_from` until before `valid_until`, None without bound.

    Rotation is a list of these: a retired key keeps its time, so that what it signed then still verifies.
    """

    name: str
    public: bytes
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.name) or len(self.public) != _PUBLIC_BYTES:
            raise NoteError("a key has 32 bytes, and a name without spaces and plus")

    @classmethod
    def parse(cls, text: str, *, valid_from: datetime | None = None, valid_until: datetime | None = None) -> Self:
        """Read `name+key id+base64(0x01 ‖ public key)`; raises NoteError unless it is exactly what `str` gives."""
        found = _KEY.fullmatch(text)
        encoded = canonical_base64(found[3]) if found else None
        if found is None or encoded is None or encoded[:1] != _ED25519:
            raise NoteError("no verifier key of Ed25519")
        key = cls(found[1], encoded[1:], valid_from, valid_until)
        if key.key_id.hex() != found[2]:
            raise NoteError("the key is not the one of its id")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(_ED25519 + self.public).decode()}"

    @property
    def key_id(self) -> bytes:
        """4 bytes: with the name they tell keys apart; they prove nothing."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_BYTES]

    def counts(self, at: datetime) -> bool:
        return (self.valid_from is None or self.valid_from <= at) and (
            self.valid_until is None or at < self.valid_until
        )

    def verifies(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A key and whoever signs with its private half: `sign` takes the text's bytes and gives the 64 of a signature."""

    key: VerifierKey
    sign: Callable[[bytes], bytes]

    def signature(self, text: str) -> "Signature":
        """Sign the text of a note. That the private half is the key's is not looked at: `Note.signed` does."""
        return Signature(self.key.name, self.key.key_id, self.sign(text.encode()))


@dataclass(frozen=True, slots=True)
class Signature:
    """One line below a note. `value` is empty of meaning before a key with that name and id has verified it."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {b64encode(self.key_id + self.value).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it stands, believed by nobody yet. `bytes(note)` is what `parse` reads, byte for byte."""

    text: str
    signatures: tuple[Signature, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or _CONTROL.search(self.text):
            raise NoteError("a text ends with a newline and has no control characters")

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a note of at most MAX_NOTE_BYTES and MAX_SIGNATURES strictly; raises NoteError."""
        if len(raw) > MAX_NOTE_BYTES:
            raise NoteError(f"a note has at most {MAX_NOTE_BYTES} bytes")
        try:
            text, gap, below = raw.decode().rpartition("\n\n")
        except UnicodeDecodeError:
            raise NoteError("a note is UTF-8") from None
        lines = below.split("\n")
        if not gap or lines.pop() or not 0 < len(lines) <= MAX_SIGNATURES:
            raise NoteError(f"a note is a text, an empty line, and 1 to {MAX_SIGNATURES} lines of signatures")
        return cls(text + "\n", tuple(_signature(line) for line in lines))

    def __bytes__(self) -> bytes:
        return f"{self.text}\n{''.join(map(str, self.signatures))}".encode()

    def signed(self, *signers: Signer) -> "Note":
        """Add their signatures, below those that are there; raises NoteError for one that its own key refuses."""
        return self.with_signatures((one.key, one.sign(self.text.encode())) for one in signers)

    def with_signatures(self, made: Iterable[tuple[VerifierKey, bytes]]) -> "Note":
        """Add signatures over `text.encode()` that were made elsewhere; raises NoteError for one that does not verify.

        What the same key has signed here before is replaced.
        """
        added = []
        for key, value in made:
            if not key.verifies(self.text, value):
                raise NoteError("a signature is not of the key it is said to be of")
            added.append(Signature(key.name, key.key_id, value))
        places = {(one.name, one.key_id) for one in added}
        kept = [one for one in self.signatures if (one.name, one.key_id) not in places]
        return Note(self.text, (*kept, *added))

    def verify(self, *, keys: Sequence[VerifierKey], at: datetime | None) -> tuple[VerifierKey, ...]:
        """Give those of `keys`, valid `at` that time (None: at any), which have signed; at least one.

        A note says not when it was signed: `at` is when the caller knows it to be from, or now. Raises NoteError when
        none has signed, when a signature of one of them is bad, and when two of them cannot be told apart.
        """
        known: dict[tuple[str, bytes], VerifierKey] = {}
        for key in keys.of(self) if isinstance(keys, KeyRing) else keys:
            if (at is None or key.counts(at)) and known.setdefault((key.name, key.key_id), key).public != key.public:
                raise NoteError("two keys have one name and id")
        found: dict[VerifierKey, None] = {}
        for signature in self.signatures:
            signer = known.get((signature.name, signature.key_id))
            if signer is None:
                continue
            if not signer.verifies(self.text, signature.value):
                raise NoteError("a signature of a known key is bad")
            found[signer] = None
        if not found:
            raise NoteError("no known key has signed")
        return tuple(found)


class KeyRing(tuple[VerifierKey, ...]):  # noqa: SLOT001 - it keeps its index
    """Keys that are found by name and id: for many notes and many keys, whoever has chosen their number."""

    @cached_property
    def _places(self) -> dict[tuple[str, bytes], list[VerifierKey]]:
        places: dict[tuple[str, bytes], list[VerifierKey]] = {}
        for key in dict.fromkeys(self):
            places.setdefault((key.name, key.key_id), []).append(key)
        return places

    def of(self, note: Note) -> list[VerifierKey]:
        """Give those that the note names as its signers, which proves nothing."""
        named = dict.fromkeys((one.name, one.key_id) for one in note.signatures)
        return [key for place in named for key in self._places.get(place, ())]


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    value = canonical_base64(encoded)
    if not line.startswith(_DASH) or not _is_name(name) or value is None or len(value) <= _ID_BYTES:
        raise NoteError("a line of a signature is a dash, a name, and base64 of key id and signature")
    return Signature(name, value[:_ID_BYTES], value[_ID_BYTES:])


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not _CONTROL.search(name) and not any(map(str.isspace, name))


def canonical_base64(encoded: str) -> bytes | None:
    """Decode base64 that has one spelling only: padded, without stray bits or characters; None for any other."""
    try:
        decoded = b64decode(encoded, validate=True)
    except (NoBase64, ValueError):
        return None
    return decoded if b64encode(decoded).decode() == encoded else None
