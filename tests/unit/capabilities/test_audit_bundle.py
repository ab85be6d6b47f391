"""A bundle passes as its log has signed it, and no other way; what was done to it is named."""

import json
import re
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
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
    NAME,
    ORIGIN,
    OTHER,
    SIZE,
    STRANGER,
    Bundle,
    altered_lines,
    event,
    good,
    id_of,
    refusal,
    root_of,
)

from tenantry.capabilities.audit.service import bundle_verifier
from tenantry.capabilities.audit.service.bundle import (
    BundleCheckpoint,
    BundleHeader,
    LeafLines,
    bundle_lines,
    leaf_bytes,
)
from tenantry.capabilities.audit.service.bundle_search import first_bad
from tenantry.capabilities.audit.service.bundle_verifier import BundleReport, verify_bundle
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.tree import EMPTY_ROOT, leaf_hash
from tenantry.foundation.ids import Prefix, format_id

Change = Callable[[Bundle], Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "acme.audit"


def test_a_bundle_passes_as_it_was_signed(file: Path) -> None:
    file.write_bytes(good())
    expected = BundleReport(
        NAME, SIZE, root_of(EVENTS).hex(), BEGAN + timedelta(hours=3), ("log.example/us",), False, 0
    )
    assert verify_bundle(file) == expected
    receipt = KEEPER.note(77, root_of(EVENTS[:77]))
    other = KEEPER.note(9999, root_of(EVENTS), origin="log.example/ten_2")
    pinned = verify_bundle(file, keys=[KEEPER.key, STRANGER.key], witnessed=[receipt, other])
    assert pinned == replace(expected, pinned=True, witnessed=1)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 512])
def test_a_log_of_any_size_passes(size: int, file: Path) -> None:
    lines = Bundle(EVENTS[:size], (size,)).lines()
    header = BundleHeader.parse(lines[0])
    assert list(bundle_lines(header, ((one, leaf_hash(one)) for one in EVENTS[:size]))) == lines
    assert sum(map(len, lines[1 + size :])) == leaf_bytes(size)
    file.write_bytes(b"".join(lines))
    assert verify_bundle(file).root == root_of(EVENTS[:size]).hex()


@pytest.mark.parametrize("sizes", [(), (0,)])
def test_an_empty_log_passes(sizes: tuple[int, ...], file: Path) -> None:
    file.write_bytes(b"".join(Bundle([], sizes).lines()))
    report = verify_bundle(file)
    assert (report.size, report.root, report.made_at is None) == (0, EMPTY_ROOT.hex(), not sizes)
    refused = refusal(file, b"".join(Bundle([], sizes).lines()), witnessed=[KEEPER.note(1, root_of(EVENTS[:1]))])
    assert refused.code == "log_rolled_back"


def edit(bundle: Bundle) -> None:
    bundle.events[299] = bundle.events[299].replace(b"job.created", b"job.deleted")


def swap(bundle: Bundle) -> None:
    bundle.events[9], bundle.events[500] = bundle.events[500], bundle.events[9]


def forge_leaves(bundle: Bundle) -> None:
    bundle.leaves = [leaf_hash(one) for one in bundle.events][:SIZE]


def edit_and_forge(bundle: Bundle) -> None:
    edit(bundle)
    forge_leaves(bundle)


def repeat(bundle: Bundle) -> None:
    bundle.events[400] = event(7, action="job.ended")
    bundle.resigned()


def sign_foreign(bundle: Bundle) -> None:
    bundle.events[300] = event(301, tenant=OTHER)
    bundle.resigned()


def sign_escaped(bundle: Bundle) -> None:
    bundle.events[20] = event(21, tenant=OTHER, reason=f'","tenant":"{NAME}","trace_id":"","workspace":null}}')
    bundle.resigned()


def sign_nested(bundle: Bundle) -> None:
    bundle.events[20] = event(21, tenant=OTHER, details={"tenant": NAME})
    bundle.resigned()


def sign_spaced(bundle: Bundle) -> None:
    bundle.events[20] = bundle.events[20].replace(b'"form":1', b'"form": 1')
    bundle.resigned()


def sign_doubled_member(bundle: Bundle) -> None:
    bundle.events[20] = bundle.events[20].replace(b'"tenant":', b'"tenant":"ten_00000000000000000000000002","tenant":')
    bundle.resigned()


def sign_unsorted(bundle: Bundle) -> None:
    bundle.events[20] = event(21, details={"a": "1", "b": "2"}).replace(b'"a":"1","b":"2"', b'"b":"2","a":"1"')
    bundle.resigned()


def sign_unsorted_third(bundle: Bundle) -> None:
    sorted_ = b'"a":"1","b":"2","c":"3"'
    bundle.events[20] = event(21, details={"a": "1", "b": "2", "c": "3"}).replace(sorted_, b'"a":"1","c":"3","b":"2"')
    bundle.resigned()


def sign_nothing(bundle: Bundle) -> None:
    bundle.events[20] = b""
    bundle.resigned()


def sign_nested_deep(bundle: Bundle) -> None:
    bundle.events[20] = b"[" * 100_000
    bundle.resigned()


def sign_long(bundle: Bundle) -> None:
    bundle.events[20] = event(21, details={"a": "a" * (1 << 20)})
    bundle.resigned()


def sign_not_utf8(bundle: Bundle) -> None:
    bundle.events[20] = event(21, details={"a": "Q"}).replace(b"Q", b"\xff")
    bundle.resigned()


TAMPERED: list[tuple[str, Change, str, int | None]] = [
    ("an event edited", edit, "event_altered", 300),
    ("with a NUL", lambda b: b.events.__setitem__(4, b.events[4] + b"\0"), "event_altered", 5),
    ("with CR", lambda b: b.events.__setitem__(4, b.events[4] + b"\r"), "event_altered", 5),
    ("its first byte", lambda b: b.events.__setitem__(4, b"[" + b.events[4][1:]), "event_altered", 5),
    ("without its end", lambda b: b.events.__setitem__(4, b.events[4][:-1]), "event_altered", 5),
    (
        "two lines made one",
        lambda b: b.events.__setitem__(slice(4, 6), [b.events[4] + b.events[5]]),
        "event_altered",
        5,
    ),
    ("one line made two", lambda b: b.events.__setitem__(slice(4, 5), [b.events[4], b""]), "event_inserted", 6),
    ("the first deleted", lambda b: b.events.pop(0), "event_missing", 1),
    ("one deleted", lambda b: b.events.pop(255), "event_missing", 256),
    ("three deleted", lambda b: b.events.__delitem__(slice(10, 13)), "event_missing", 11),
    ("the last deleted", lambda b: b.events.pop(), "event_missing", 600),
    ("the tail cut off", lambda b: b.events.__delitem__(slice(450, None)), "event_missing", 451),
    ("all deleted", lambda b: b.events.clear(), "event_missing", 1),
    ("one inserted", lambda b: b.events.insert(300, event(9000)), "event_inserted", 301),
    ("one doubled", lambda b: b.events.insert(300, b.events[300]), "event_inserted", 302),
    ("one behind the last", lambda b: b.events.append(event(601)), "bundle_overlong", 601),
    ("neighbours swapped", lambda b: b.events.insert(7, b.events.pop(6)), "event_moved", 7),
    ("two swapped", swap, "event_moved", 10),
    ("one moved to the end", lambda b: b.events.append(b.events.pop(6)), "event_moved", 7),
    ("another tenant's event", lambda b: b.events.__setitem__(7, event(8, tenant=OTHER)), "event_foreign", 8),
    ("another tenant's event signed", sign_foreign, "event_foreign", 301),
    ("a tenant inside a string", sign_escaped, "event_foreign", 21),
    ("a tenant in the details", sign_nested, "event_foreign", 21),
    ("an id twice", repeat, "event_repeated", 401),
    ("a space signed", sign_spaced, "event_malformed", 21),
    ("a member twice", sign_doubled_member, "event_malformed", 21),
    ("two details unsorted", sign_unsorted, "event_malformed", 21),
    ("a third detail unsorted", sign_unsorted_third, "event_malformed", 21),
    ("an empty line signed", sign_nothing, "event_malformed", 21),
    ("brackets without end", sign_nested_deep, "event_malformed", 21),
    ("a line too long", sign_long, "event_malformed", 21),
    ("bytes that are no text", sign_not_utf8, "event_malformed", 21),
    ("events and leaf hashes", edit_and_forge, "events_altered", None),
    ("a leaf hash", lambda b: b.leaves.__setitem__(300, bytes(32)), "leaves_altered", None),
    ("a leaf hash too many", lambda b: b.leaves.append(bytes(32)), "leaves_altered", None),
    ("a leaf hash too few", lambda b: b.leaves.pop(), "leaves_altered", None),
    ("an event of fork", lambda b: b.notes.__setitem__(1, KEEPER.note(256, bytes(32))), "checkpoint_forked", None),
    ("no checkpoint", lambda b: b.notes.clear(), "checkpoint_missing", None),
    ("the last checkpoint missing", lambda b: b.notes.pop(), "checkpoint_missing", None),
    ("checkpoints in disorder", lambda b: b.notes.insert(0, b.notes.pop(1)), "checkpoints_unordered", None),
    ("a checkpoint twice", lambda b: b.notes.append(b.notes[3]), "checkpoints_unordered", None),
    (
        "another root in a checkpoint",
        lambda b: b.notes.__setitem__(1, b.notes[1].replace(b64encode(root_of(EVENTS[:256])), b64encode(bytes(32)))),
        "checkpoint_forged",
        None,
    ),
    (
        "a stranger's checkpoint",
        lambda b: b.notes.__setitem__(3, STRANGER.note(SIZE, root_of(EVENTS))),
        "checkpoint_unknown_key",
        None,
    ),
    (
        "another log's checkpoint",
        lambda b: b.notes.__setitem__(3, KEEPER.note(SIZE, root_of(EVENTS), origin="log.example/ten_2")),
        "checkpoint_foreign",
        None,
    ),
    ("no checkpoint at all", lambda b: b.notes.__setitem__(3, b"none\n"), "checkpoint_malformed", None),
]


@pytest.mark.parametrize(
    ("change", "code", "sequence"), [row[1:] for row in TAMPERED], ids=[row[0] for row in TAMPERED]
)
def test_tampering_is_named(change: Change, code: str, sequence: int | None, file: Path) -> None:
    bundle = Bundle()
    change(bundle)
    refused = refusal(file, b"".join(bundle.lines()))
    assert (refused.code, refused.fields.get("sequence")) == (code, sequence), refused.message


def test_the_events_id_is_told_where_there_is_one(file: Path) -> None:
    bundle = Bundle()
    edit(bundle)
    refused = refusal(file, b"".join(bundle.lines()))
    assert refused.fields == {"sequence": 300, "event": id_of(300)}
    assert refused.message == f"event 300 is not as it was signed ({id_of(300)})"


@pytest.mark.parametrize(("at", "between"), [(0, (1, 100)), (99, (1, 100)), (100, (101, 256)), (599, (401, 600))])
def test_checkpoints_narrow_where_the_leaf_hashes_were_altered_too(
    at: int, between: tuple[int, int], file: Path
) -> None:
    bundle = Bundle()
    bundle.events[at] = event(9000)
    forge_leaves(bundle)
    refused = refusal(file, b"".join(bundle.lines()))
    assert (refused.code, refused.fields["first"], refused.fields["last"]) == ("events_altered", *between)
    assert f"between {between[0]} and {between[1]}" in refused.message
    bundle.events[at] = event(9000, tenant=OTHER)
    assert refusal(file, b"".join(bundle.lines())).fields["sequence"] == at + 1
    del bundle.events[at]
    assert refusal(file, b"".join(bundle.lines())).code == "bundle_cut"
    bundle.events[at:at] = [event(9000), event(9001)]
    assert refusal(file, b"".join(bundle.lines())).code == "bundle_overlong"


def test_a_file_cut_off_anywhere_is_refused(file: Path) -> None:
    whole = b"".join(Bundle(EVENTS[:300], (100, 300)).lines())
    begins = whole.index(b"\n") + 1
    lines = [at + 1 for at, byte in enumerate(whole) if byte == 10][:-1]
    for end in {*range(0, len(whole), 997), *lines[::20], *lines[-3:], len(whole) - 1, begins - 1}:
        refused = refusal(file, whole[:end])
        assert refused.code == ("bundle_malformed" if end < begins else "bundle_cut"), end
    assert refusal(file, whole + b"\n").code == refusal(file, whole + whole).code == "bundle_overlong"
    assert refusal(file, whole.replace(b"\n", b"\r\n")).code == "bundle_malformed"


def witnesses() -> list[tuple[bytes, str]]:
    return [
        (KEEPER.note(601, root_of([*EVENTS, event(601)])), "log_rolled_back"),
        (KEEPER.note(600, bytes(32)), "log_forked"),
        (KEEPER.note(77, root_of(EVENTS[:78])), "log_forked"),
        (STRANGER.note(77, root_of(EVENTS[:77])), "checkpoint_unknown_key"),
        (KEEPER.note(77, root_of(EVENTS[:77])).replace(b"\n77\n", b"\n78\n"), "checkpoint_forged"),
        (KEEPER.note(77, root_of(EVENTS[:77]), origin="log.example/ten_2"), "witness_foreign"),
        (b"", "witness_foreign"),
        (ORIGIN.encode() + b"\n", "checkpoint_malformed"),
    ]


@pytest.mark.parametrize(("note", "code"), witnesses())
def test_a_checkpoint_from_elsewhere_shows_another_history(note: bytes, code: str, file: Path) -> None:
    refused = refusal(
        file, good(), witnessed=[KEEPER.note(400, root_of(EVENTS[:400])), note][code == "witness_foreign" :]
    )
    assert refused.code == code


def test_a_log_signed_anew_passes_by_its_own_keys_alone(file: Path) -> None:
    """Whoever has no key of the log writes another log; who pins the key, or kept a checkpoint, sees it."""
    bundle = Bundle()
    edit(bundle)
    bundle.leaves = [leaf_hash(one) for one in bundle.events]
    bundle.notes = [STRANGER.note(SIZE, root_of(bundle.events))]
    bundle.header = replace(bundle.header, keys=(STRANGER.key,))
    forged = b"".join(bundle.lines())
    file.write_bytes(forged)
    assert verify_bundle(file).pinned is False
    assert refusal(file, forged, keys=[KEEPER.key]).code == "checkpoint_unknown_key"
    assert refusal(file, forged, keys=[]).code == "checkpoint_unknown_key"
    assert refusal(file, forged, witnessed=[KEEPER.note(1, root_of(EVENTS[:1]))]).code == "checkpoint_unknown_key"


def test_a_key_counts_for_its_time(file: Path) -> None:
    bundle = Bundle()
    for key, passes in (
        (replace(KEEPER.key, valid_from=BEGAN, valid_until=BEGAN + timedelta(hours=3, microseconds=1)), True),
        (replace(KEEPER.key, valid_until=BEGAN + timedelta(hours=3)), False),
        (replace(KEEPER.key, valid_from=BEGAN + timedelta(microseconds=1)), False),
    ):
        bundle.header = replace(bundle.header, keys=(key,))
        content = b"".join(bundle.lines())
        if passes:
            file.write_bytes(content)
            assert verify_bundle(file).size == SIZE
        else:
            assert refusal(file, content).code == "checkpoint_unknown_key"
            assert refusal(file, good(), keys=[key]).code == "checkpoint_unknown_key"
    file.write_bytes(good())
    retired = replace(KEEPER.key, valid_from=BEGAN, valid_until=BEGAN + timedelta(hours=4))
    assert verify_bundle(file, witnessed=[KEEPER.note(1, root_of(EVENTS[:1]))], keys=[retired]).witnessed == 1


def test_a_clock_that_was_set_back_is_no_forgery(file: Path) -> None:
    bundle = Bundle()
    stamped = [BundleCheckpoint(BEGAN - timedelta(hours=at), note) for at, note in enumerate(bundle.notes)]
    bundle.header = replace(bundle.header, checkpoints=tuple(stamped))
    file.write_bytes(b"".join(bundle.lines()))
    assert verify_bundle(file).made_at == BEGAN - timedelta(hours=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"region": "eu"},
        {"tenant": format_id(Prefix.TENANT, OTHER)},
        {"tenant": "ten_1", "origin": "log.example/ten_1"},
        {"origin": NAME},
    ],
)
def test_what_the_header_names_is_what_was_signed(changes: dict[str, str], file: Path) -> None:
    bundle = Bundle()
    bundle.header = replace(bundle.header, **changes)  # type: ignore[arg-type]
    assert refusal(file, b"".join(bundle.lines())).code == "bundle_malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"form": 2}, {"form": True}, {"form": 1.0}, {"kind": "other"}, {"size": -1}, {"size": "600"}, {"size": 1 << 63},
        {"size": True}, {"more": 1}, {"keys": None}, {"keys": [{}]}, {"keys": [{"key": "x"}]}, {"tenant": ""},
        {"tenant": None}, {"checkpoints": [1]}, {"checkpoints": [{"made_at": "now", "note": ""}]}, {"sum": "0" * 64},
        {"checkpoints": [{"made_at": "2026-03-01T12:00:00", "note": ""}]}, {"region": ["us"]},
    ],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(change: dict[str, Any], file: Path) -> None:
    header, _, rest = good().partition(b"\n")
    form = {**json.loads(header), **change}
    assert refusal(file, json.dumps(form, sort_keys=True, separators=(",", ":")).encode() + b"\n" + rest).code == (
        "bundle_malformed"
    )


@pytest.mark.parametrize(
    "head", [b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b"[" * 99999 + b"\n", b"{" + b'"a":' * 9999 + b"}\n"]
)
def test_what_is_no_header_is_refused(head: bytes, file: Path) -> None:
    assert refusal(file, b"").code == refusal(file, head).code == "bundle_malformed"
    assert refusal(file, head + good()).code == "bundle_malformed"


def test_a_header_without_end_is_not_read_to_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_verifier, "MAX_HEADER_BYTES", 1000)
    assert refusal(file, good()).code == "bundle_malformed"


def test_an_absurd_size_is_refused_by_what_is_there(file: Path) -> None:
    bundle = Bundle()
    size = (1 << 53) - 1  # JSON has no larger
    bundle.header = replace(bundle.header, size=size)
    bundle.notes = [KEEPER.note(size, bytes(32))]
    assert refusal(file, b"".join(bundle.lines())).code == "bundle_cut"


def test_a_file_that_has_meanwhile_become_whole_accuses_nobody(file: Path) -> None:
    file.write_bytes(good())
    header, *_ = Bundle().lines()
    last = Checkpoint(ORIGIN, SIZE, root_of(EVENTS))
    assert first_bad(file, BundleHeader.parse(header), [last], offset=len(header)).code == "bundle_changed"


def test_a_line_without_end_is_not_read_to_it(file: Path) -> None:
    header, *_ = Bundle().lines()
    refused = refusal(file, header + b'{"action":"' + b"a" * (3 << 20))
    assert (refused.code, refused.fields["sequence"]) == ("event_malformed", 1)


TWO_TILES = Bundle(EVENTS[:260], (100, 260)).lines()
SMALL = b"".join(Bundle(EVENTS[:5], (2, 5)).lines())


@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255), st.booleans())
def test_any_byte_changed_is_refused(tmp_path_factory: pytest.TempPathFactory, at: int, by: int, pinned: bool) -> None:
    changed = bytearray(SMALL)
    changed[at] ^= by
    file = tmp_path_factory.getbasetemp() / "flipped"
    refusal(file, bytes(changed), keys=[KEEPER.key] if pinned else None)


def test_each_byte_of_a_header_matters(file: Path) -> None:
    for at in range(SMALL.index(b"\n") + 1):
        refusal(file, SMALL[:at] + bytes([SMALL[at] ^ 1]) + SMALL[at + 1 :])


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 262), st.integers(0, 262), st.sampled_from(LINE_CHANGES))
def test_any_line_removed_doubled_or_moved_is_refused(
    tmp_path_factory: pytest.TempPathFactory, one: int, other: int, change: str
) -> None:
    lines = altered_lines(TWO_TILES, change, one, other)
    if lines != TWO_TILES:
        refusal(tmp_path_factory.getbasetemp() / "moved", b"".join(lines))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bundle counts as a big one."""
    monkeypatch.setattr(bundle_verifier, "BIG_LINES", 0)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("processes", [None, 1, 3])
def test_several_processes_find_the_same(processes: int | None, file: Path) -> None:
    file.write_bytes(good())
    assert verify_bundle(file, processes=processes).root == root_of(EVENTS).hex()
    bundle = Bundle()
    edit(bundle)
    assert refusal(file, b"".join(bundle.lines()), processes=processes).fields["sequence"] == 300
    bundle = Bundle()
    repeat(bundle)
    assert refusal(file, b"".join(bundle.lines()), processes=processes).fields["sequence"] == 401
    bundle = Bundle()
    sign_foreign(bundle)
    assert refusal(file, b"".join(bundle.lines()), processes=processes).fields["sequence"] == 301
    del bundle.events[5:]
    assert refusal(file, b"".join(bundle.lines()), processes=processes).code == "event_missing"


@pytest.mark.usefixtures("parts")
def test_a_process_that_dies_says_nothing_of_the_log(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(good())
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ChildProcessError):
        verify_bundle(file)


def test_a_leaf_is_a_hash() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        LeafLines().add(b"short")


def test_a_bundles_lines_are_as_they_are_told() -> None:
    header, *rest = good().splitlines()
    form = json.loads(header)
    assert rfc8785.dumps(form) == header
    assert sorted(form) == ["checkpoints", "form", "keys", "kind", "origin", "region", "size", "sum", "tenant"]
    assert form["keys"] == [{"key": str(KEEPER.key), "valid_from": None, "valid_until": None}]
    assert form["checkpoints"][0] == {"made_at": "2026-03-01T12:00:00.000000+00:00", "note": Bundle().notes[0].decode()}
    assert rest[:SIZE] == EVENTS
    assert all(re.fullmatch(rb"[A-Za-z0-9+/]+=*", line) for line in rest[SIZE:])
    assert [one == other for one, other in pairwise(rest[SIZE:])] == [False, False]
