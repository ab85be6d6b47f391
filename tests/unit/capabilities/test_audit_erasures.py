"""A bundle from whose log the beginning has left passes as the log has signed it away, and no other way."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.capabilities.bundles import (
    BEGAN,
    EVENTS,
    KEEPER,
    LINE_CHANGES,
    OTHER,
    SIZE,
    SIZES,
    STRANGER,
    Bundle,
    Keeper,
    altered_lines,
    event,
    good,
    refusal,
    root_of,
    uuid_at,
)

from tenantry.capabilities.audit.service import bundle_erasures, bundle_verifier
from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.service.erasures import Erasure, open_erasure
from tenantry.capabilities.audit.service.receipts import Receipt
from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.ids import Prefix, format_id

TELLS = 590
"""The place of the event that tells of the erasure."""
SIGNED_AT = BEGAN + timedelta(days=1)
ORIGIN = Bundle().header.origin


def erasure(size: int = 256, *, root: bytes | None = None, origin: str = ORIGIN, days: int = 90) -> Erasure:
    return Erasure(origin, SIGNED_AT, size, root_of(EVENTS[:size]) if root is None else root, days)


def telling(told: Erasure, *, by: Keeper = KEEPER, number: int = TELLS, **details: Any) -> bytes:
    said = told.details(by.signs(told.text))
    return event(number, action="audit.erased", resource_type="tenant", details=said | details)


class ErasedBundle(Bundle):
    """One of whose events the first `erased` have left."""

    def __init__(self, tells: bytes | None, *, erased: int = 256) -> None:
        events = list(EVENTS)
        if tells is not None:
            events[TELLS - 1] = tells
        super().__init__(events, SIZES)
        self.erase(erased)
        self.events = events[erased:]

    def erase(self, erased: int) -> None:
        """Let the header say so; no more."""
        self.header = replace(self.header, erased=erased)

    def sign_away(self, keeper: Keeper) -> None:
        changed = ErasedBundle(telling(erasure(), by=keeper))
        self.events, self.leaves, self.notes = changed.events, changed.leaves, changed.notes


def erased_bundle(*, signed: bool = True) -> ErasedBundle:
    return ErasedBundle(telling(erasure()) if signed else None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "acme.audit"


def written(file: Path, bundle: Bundle) -> Path:
    file.write_bytes(b"".join(bundle.lines()))
    return file


def test_what_was_signed_away_passes_and_is_told(file: Path) -> None:
    report = verify_bundle(written(file, erased_bundle()), keys=[KEEPER.key])
    assert (report.size, report.erasure) == (SIZE, erasure())
    whole = Bundle([*EVENTS[: TELLS - 1], telling(erasure()), *EVENTS[TELLS:]])
    assert report.root == verify_bundle(written(file, whole)).root
    witnessed = [KEEPER.note(size, root_of(EVENTS[:size])) for size in (1, 100, 256, 300)]
    assert verify_bundle(written(file, erased_bundle()), witnessed=witnessed).witnessed == 4


def test_a_log_of_which_all_is_there_is_form_1_byte_for_byte() -> None:
    assert good().startswith(b'{"checkpoints":')
    header, _, _ = good().partition(b"\n")
    assert b'"form":1' in header
    assert b"erased" not in header


def test_of_several_erasures_one_counts(file: Path) -> None:
    bundle = Bundle([*EVENTS[:588], telling(erasure(256), number=589), telling(erasure(512)), *EVENTS[590:]])
    bundle.header = replace(bundle.header, erased=512)
    bundle.events = bundle.events[512:]
    report = verify_bundle(written(file, bundle))
    assert report.erasure == erasure(512)
    missing = Bundle([*EVENTS[:588], telling(erasure(256), number=589), *EVENTS[589:]])
    missing.header = replace(missing.header, erased=512)
    missing.events = missing.events[512:]
    refused = refusal(file, b"".join(missing.lines()))
    assert (refused.code, refused.fields) == ("erasure_unsigned", {"first": 257, "last": 512})


def test_a_key_counts_for_its_time(file: Path) -> None:
    rotated = Keeper("log.example/us", 7)
    bundle = erased_bundle()
    bundle.sign_away(rotated)
    old = replace(rotated.key, valid_until=SIGNED_AT + timedelta(seconds=1))
    assert verify_bundle(written(file, bundle), keys=[KEEPER.key, old]).erasure == erasure()
    over = replace(rotated.key, valid_until=SIGNED_AT)
    assert refusal(file, b"".join(bundle.lines()), keys=[KEEPER.key, over]).code == "erasure_forged"


FORGED: list[tuple[str, bytes, str]] = [
    ("a stranger's note", telling(erasure(), by=STRANGER), "erasure_forged"),
    ("another tenant's", telling(erasure(origin=f"log.example/{format_id(Prefix.TENANT, OTHER)}")), "erasure_forged"),
    ("another installation's", telling(erasure(origin=ORIGIN.replace("log.", "dog."))), "erasure_forged"),
    ("another size's note", telling(erasure(512), events=256, root=root_of(EVENTS[:256]).hex()), "erasure_forged"),
    ("another size", telling(erasure(512)), "erasure_unsigned"),
    ("more days than were signed", telling(erasure(), days=9000), "erasure_forged"),
    ("a member more", telling(erasure(), more=1), "erasure_forged"),
    ("another history", telling(erasure(root=bytes(32))), "erasure_altered"),
    ("no note", event(TELLS, action="audit.erased", details={"events": 256}), "erasure_forged"),
    ("a checkpoint for a note", telling(erasure(), signed=KEEPER.note(256, root_of(EVENTS[:256])).decode()),
     "erasure_forged"),
    ("another action", event(TELLS, action="audit.read", details=erasure().details(KEEPER.signs(erasure().text))),
     "erasure_unsigned"),
]  # fmt: skip


@pytest.mark.parametrize(("tells", "code"), [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_what_the_log_has_not_signed_away_is_refused(tells: bytes, code: str, file: Path) -> None:
    refused = refusal(file, b"".join(ErasedBundle(tells).lines()))
    assert (refused.code, refused.fields["first"], refused.fields["last"]) == (code, 1, 256)


def test_a_beginning_that_was_removed_without_a_word_is_refused(file: Path) -> None:
    refused = refusal(file, b"".join(erased_bundle(signed=False).lines()))
    assert (refused.code, refused.fields) == ("erasure_unsigned", {"first": 1, "last": 256})
    plain = erased_bundle()
    plain.erase(0)
    refused = refusal(file, b"".join(plain.lines()))
    assert (refused.code, refused.fields["sequence"]) == ("event_missing", 1)


Change = Callable[[ErasedBundle], Any]
TAMPERED: list[tuple[str, Change, str, dict[str, int]]] = [
    ("more is said to have left", lambda b: b.erase(512), "erasure_altered", {"first": 257, "last": 512}),
    ("less is", lambda b: b.erase(0), "event_missing", {"sequence": 1}),
    ("a leaf of one that has left", lambda b: b.leaves.__setitem__(9, bytes(32)), "erasure_altered",
     {"first": 1, "last": 100}),
    ("the last leaf of those", lambda b: b.leaves.__setitem__(255, bytes(32)), "erasure_altered",
     {"first": 101, "last": 256}),
    ("a leaf of one that is here", lambda b: b.leaves.__setitem__(300, bytes(32)), "leaves_altered",
     {"first": 257, "last": 512}),
    ("the first here", lambda b: b.events.__setitem__(0, event(9000)), "event_altered", {"sequence": 257}),
    ("the first here and its leaf", lambda b: both(b, 256), "events_altered", {"first": 257, "last": 400}),
    ("a later one and its leaf", lambda b: both(b, 450), "events_altered", {"first": 401, "last": 600}),
    ("the first here removed", lambda b: b.events.pop(0), "event_missing", {"sequence": 257}),
    ("the second", lambda b: b.events.pop(1), "event_missing", {"sequence": 258}),
    ("the last", lambda b: b.events.pop(), "event_missing", {"sequence": 600}),
    ("a whole tile more", lambda b: b.events.__delitem__(slice(0, 256)), "event_missing", {"sequence": 257}),
    ("one that has left is there", lambda b: b.events.insert(0, EVENTS[255]), "erasure_altered",
     {"first": 256, "last": 256}),
    ("one inserted at the boundary", lambda b: b.events.insert(0, event(9000)), "event_inserted", {"sequence": 257}),
    ("one behind the last", lambda b: b.events.append(event(9000)), "bundle_overlong", {"sequence": 601}),
    ("neighbours swapped", lambda b: b.events.insert(7, b.events.pop(6)), "event_moved", {"sequence": 263}),
    ("all removed", lambda b: b.events.clear(), "event_missing", {"sequence": 257}),
    ("what tells of it altered", lambda b: b.events.__setitem__(TELLS - 257, telling(erasure(512))), "event_altered",
     {"sequence": TELLS}),
    ("what tells of it removed", lambda b: b.events.pop(TELLS - 257), "event_missing", {"sequence": TELLS}),
    ("another tenant's", lambda b: b.events.__setitem__(7, event(264, tenant=OTHER)), "event_foreign",
     {"sequence": 264}),
]  # fmt: skip


def both(bundle: ErasedBundle, at: int) -> None:
    bundle.events[at - 256] = event(9000)
    bundle.leaves[at] = leaf_hash(event(9000))


@pytest.mark.parametrize(("change", "code", "fields"), [row[1:] for row in TAMPERED], ids=[row[0] for row in TAMPERED])
def test_tampering_is_named(change: Change, code: str, fields: dict[str, int], file: Path) -> None:
    bundle = erased_bundle()
    change(bundle)
    refused = refusal(file, b"".join(bundle.lines()), keys=[KEEPER.key])
    told = {name: refused.fields.get(name) for name in fields}
    assert (refused.code, told) == (code, fields), refused.message


@pytest.mark.parametrize("erased", [-256, 1, 255, 300, 768, 1 << 52, "256", True, None, 0])
def test_a_header_that_says_no_number_of_tiles_is_refused(erased: Any, file: Path) -> None:
    header, *rest = erased_bundle().lines()
    form = {**json.loads(header), "erased": erased}
    del form["sum"]
    line = rfc8785.dumps({**form, "sum": sha256(rfc8785.dumps(form)).hexdigest()}) + b"\n"
    assert refusal(file, b"".join([line, *rest])).code == "bundle_malformed"


def test_a_file_cut_off_anywhere_is_refused(file: Path) -> None:
    whole = b"".join(erased_bundle().lines())
    lines = [at + 1 for at, byte in enumerate(whole) if byte == 10][:-1]
    for end in {*range(0, len(whole), 3989), *lines[::40], *lines[-4:], len(whole) - 1}:
        refusal(file, whole[:end], keys=[KEEPER.key])
    assert refusal(file, whole + b"\n").code == refusal(file, whole + whole).code == "bundle_overlong"


LINES = erased_bundle().lines()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_byte_changed_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(b"".join(LINES))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    refusal(tmp_path_factory.getbasetemp() / "flipped", bytes(whole))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 347), st.integers(0, 347), st.sampled_from(LINE_CHANGES))
def test_any_line_removed_doubled_or_moved_is_refused(
    tmp_path_factory: pytest.TempPathFactory, one: int, other: int, change: str
) -> None:
    lines = altered_lines(LINES, change, one, other)
    if lines != LINES:
        refusal(tmp_path_factory.getbasetemp() / "moved", b"".join(lines))


def test_receipts_of_what_has_left_are_held_against_its_leaves(file: Path) -> None:
    def receipt(*numbers: int, leaf: bytes | None = None) -> bytes:
        events = tuple(
            (format_id(Prefix.AUDIT_EVENT, uuid_at(number)), leaf or leaf_hash(EVENTS[number - 1]))
            for number in numbers
        )
        return KEEPER.signs(Receipt(ORIGIN, BEGAN - timedelta(days=365 * 99), events).text)

    bundle = erased_bundle()
    report = verify_bundle(written(file, bundle), receipts=[receipt(1, 256, 257), receipt(100)])
    assert (report.receipts, report.pending) == (4, 0)
    refused = refusal(file, b"".join(bundle.lines()), receipts=[receipt(7, leaf=bytes(32))])
    assert refused.code in {"event_unrecorded", "event_replaced"}


@pytest.mark.parametrize("processes", [1, 3])
def test_several_processes_find_the_same(processes: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_verifier, "BIG_LINES", 0)
    assert verify_bundle(written(file, erased_bundle()), processes=processes).erasure == erasure()
    bundle = erased_bundle()
    bundle.events[30] = event(9000)
    assert refusal(file, b"".join(bundle.lines()), processes=processes).fields["sequence"] == 287


@pytest.mark.parametrize("chunk", [1, 7, 64, 4096])
def test_what_tells_of_it_is_found_wherever_it_lies(chunk: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_erasures, "_CHUNK_BYTES", chunk)
    assert verify_bundle(written(file, erased_bundle())).erasure == erasure()


TEXT = erasure().text


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", TEXT[:-1], TEXT + "\n", TEXT + "more\n", TEXT.replace("erased 256", "erased 0"),
        TEXT.replace("erased 256", "erased 257"), TEXT.replace("erased 256", "erased 0256"),
        TEXT.replace("erased 256", "256"), TEXT.replace("+00:00", ""), TEXT.replace("+00:00", "+01:00"),
        TEXT.replace("days 90", "days 090"), TEXT.replace("days 90", "days -1"), TEXT.replace("days 90", "days"),
        TEXT.replace(b64encode(root_of(EVENTS[:256])).decode(), b64encode(bytes(31)).decode()),
        TEXT.replace("2026", "x"),
    ],
)  # fmt: skip
def test_what_is_no_erasure_is_none(text: str) -> None:
    with pytest.raises(NoteError):
        Erasure.parse(text)


def test_an_erasure_is_read_as_it_was_written() -> None:
    assert Erasure.parse(TEXT) == erasure()
    assert TEXT.split("\n")[1] == "erased 256 2026-03-02T12:00:00.000000+00:00"
    assert open_erasure(telling(erasure()), origin=ORIGIN, keys=[KEEPER.key]) == erasure()
    assert SIGNED_AT.tzinfo is UTC
    with pytest.raises(NoteError):
        Receipt.parse(TEXT)
    for line in (b"", b"{}", b"[]", b'{"action":"audit.erased","details":{"signed":1}}', b"[" * 100_000):
        with pytest.raises(NoteError):
            open_erasure(line, origin=ORIGIN, keys=[KEEPER.key])
