r"""An audit bundle: one file with all events of a tenant's log, and what it takes to verify them without a server.

line 1            the header: RFC 8785 JSON, see `BundleHeader`
N - E lines       the canonical bytes of events E + 1 to N, in order of their sequence; E is 0, or how many have left
⌈N / 256⌉ lines   base64 of the leaf hashes of 256 events each, of the last what is left; also of those that have left

Each line ends with `\n`. The leaf hashes prove nothing: the checkpoints do, and with the hashes the first bad event is
named. Writing and reading are here, no database and no network; `bundle_verifier` holds a file against its checkpoints.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Self

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.engines.merkle.tree import HASH_BYTES, TILE_WIDTH, is_hash, is_size
from tenantry.kit.canonical_json import canonical_json
from tenantry.kit.strict_json import NotStrictError, parse_json

FORM: Final = 1
ERASED_FORM: Final = 2
"""Of a bundle with the member `erased`."""
KIND: Final = "tenantry/audit-bundle"
MAX_HEADER_BYTES: Final = 4 << 20
"""A log writes at most 1000 checkpoints there, of some 400 bytes each; JSON may cost thirty times its size to read."""
MAX_KEYS: Final = 1000
_MEMBERS: Final = {"form", "kind", "tenant", "region", "origin", "size", "keys", "checkpoints", "sum"}


@dataclass(frozen=True, slots=True)
class BundleCheckpoint:
    """A checkpoint as it was signed (`note`, a C2SP signed note), and when the log says that was."""

    made_at: datetime
    note: bytes


@dataclass(frozen=True, slots=True)
class BundleHeader:
    """What a bundle says of itself.

    tenant        TypeID; each event is of it
    region        of the key that signed the last checkpoint
    origin        the log's, `INSTALLATION/TENANT`; its keys are called `INSTALLATION/REGION`
    size          how many events the log has had
    keys          the log's verifier keys, at most MAX_KEYS and each once, with the times they count for
    checkpoints   ascending by size; the last has `size`. Only a bundle of no events may have none.
    erased        how many of the events, from the first on, have left: whole tiles of 256. Not there if none have.

    The line has a member more, `sum`: SHA-256 in hexadecimal of the header without it. It tells damage where nothing
    is signed (times, keys, notes of others); against a forger the signatures stand, not the sum.
    """

    tenant: str
    region: str
    origin: str
    size: int
    keys: tuple[VerifierKey, ...]
    checkpoints: tuple[BundleCheckpoint, ...]
    erased: int = 0

    @property
    def events(self) -> int:
        """How many events follow."""
        return self.size - self.erased

    def line(self) -> bytes:
        """Write the first line, its end included."""
        form: dict[str, Any] = {
            "form": ERASED_FORM if self.erased else FORM,
            "kind": KIND,
            "tenant": self.tenant,
            "region": self.region,
            "origin": self.origin,
            "size": self.size,
            "keys": [
                {"key": str(key), "valid_from": _written(key.valid_from), "valid_until": _written(key.valid_until)}
                for key in self.keys
            ],
            "checkpoints": [{"made_at": _written(one.made_at), "note": one.note.decode()} for one in self.checkpoints],
        }
        form |= {"erased": self.erased} if self.erased else {}
        return canonical_json({**form, "sum": sha256(canonical_json(form)).hexdigest()}) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read exactly what `line` writes; raises BundleRefused `bundle_malformed` for anything else."""
        try:
            form = parse_json(line) if line.endswith(b"}\n") else None
            if not isinstance(form, dict) or form.get("kind") != KIND or set(form) != _members(form.get("form")):
                raise BundleRefused(
                    "bundle_malformed", f"the first line is no header of a {KIND} of form {FORM} or {ERASED_FORM}"
                )
            header = cls(
                _text(form["tenant"]),
                _text(form["region"]),
                _text(form["origin"]),
                form["size"],
                tuple(_key(one) for one in form["keys"]),
                tuple(BundleCheckpoint(_read(one["made_at"]), one["note"].encode()) for one in form["checkpoints"]),
                form.get("erased", 0),
            )
            whole = (
                is_size(header.size) and _is_erased(header) and _are_told_apart(header.keys) and header.line() == line
            )
        except (NotStrictError, NoteError, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise BundleRefused("bundle_malformed", "the header cannot be read: it was altered or damaged") from error
        if not whole:
            raise BundleRefused("bundle_malformed", "the header is not as it was written: it was altered or damaged")
        return header


class LeafLines:
    """Collects leaf hashes while events are streamed, and gives the lines that follow them; 43 bytes an event."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._open = bytearray()

    def add(self, leaf: bytes) -> None:
        """Take the leaf hash, 32 bytes, of the next event; raises ValueError for what is none."""
        if not is_hash(leaf):
            raise ValueError(f"a leaf is {HASH_BYTES} bytes")
        self._open += leaf
        if len(self._open) == TILE_WIDTH * HASH_BYTES:
            self._lines += leaf_lines(self._open)
            self._open.clear()

    def lines(self) -> Iterator[bytes]:
        """Give all lines, their ends included."""
        yield from self._lines
        yield from leaf_lines(self._open)


def bundle_lines(header: BundleHeader, events: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Give the lines of a bundle without erased events: canonical bytes and leaf hash of each, in order of sequence."""
    leaves = LeafLines()
    yield header.line()
    for canonical, leaf in events:
        leaves.add(leaf)
        yield canonical + b"\n"
    yield from leaves.lines()


def leaf_lines(hashes: bytes | bytearray) -> Iterator[bytes]:
    """Write leaf hashes that stand side by side, 256 a line."""
    width = TILE_WIDTH * HASH_BYTES
    for at in range(0, len(hashes), width):
        yield b64encode(hashes[at : at + width]) + b"\n"


def leaf_bytes(size: int) -> int:
    """Tell how many bytes the lines of so many leaf hashes have, their ends included."""
    whole, rest = divmod(size, TILE_WIDTH)
    return whole * _line_bytes(TILE_WIDTH) + (_line_bytes(rest) if rest else 0)


def _line_bytes(hashes: int) -> int:
    return -(-hashes * HASH_BYTES // 3) * 4 + 1


def _members(form: object) -> set[str]:
    return _MEMBERS | {"erased"} if form == ERASED_FORM else _MEMBERS if form == FORM else set()


def _is_erased(header: BundleHeader) -> bool:
    return is_size(header.erased) and header.erased % TILE_WIDTH == 0 and header.erased <= header.size


def _are_told_apart(keys: tuple[VerifierKey, ...]) -> bool:
    return len(keys) <= MAX_KEYS and len({(key.name, key.key_id) for key in keys}) == len(keys)


def _written(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="microseconds") if at else None


def _read(text: object) -> datetime:
    return datetime.fromisoformat(_text(text))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("no text")
    return value


def _key(form: dict[str, str | None]) -> VerifierKey:
    begin, end = (None if form[name] is None else _read(form[name]) for name in ("valid_from", "valid_until"))
    return VerifierKey.parse(_text(form["key"]), valid_from=begin, valid_until=end)
