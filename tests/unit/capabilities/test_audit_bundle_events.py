"""The pattern that decides for almost all events believes nothing that parsing them does not."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.capabilities.bundles import (
    DETAILS,
    EVENTS,
    NAME,
    PLAIN,
    SIZE,
    event,
    id_of,
)

from tenantry.capabilities.audit.service import bundle_events
from tenantry.capabilities.audit.service.bundle_events import FOREIGN, ID, MALFORMED, Events, examined, read_events


def test_parts_are_the_whole(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"".join(one + b"\n" for one in EVENTS))
    whole, parted = (read_events(file, offset=0, size=SIZE, tenant=NAME, processes=many) for many in (1, 2))
    assert whole == parted == Events.from_bytes(whole.to_bytes())
    assert whole.ids == [id_of(number).encode() for number in range(1, SIZE + 1)]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(
    ['","tenant":"', "\\", '"', "\x1f"]
)
NAMES = st.sampled_from(["a", "b", "a1", "a_", "tenant"])
SCALAR = st.none() | st.booleans() | st.integers(-3, 3) | TEXT
VALUES = SCALAR | st.lists(SCALAR, max_size=3)
NESTED = st.recursive(
    SCALAR | st.floats() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)
DETAIL_SETS = st.dictionaries(NAMES, VALUES, max_size=4) | st.dictionaries(NAMES | TEXT, NESTED, max_size=4)


@settings(deadline=None, max_examples=500)
@given(DETAIL_SETS, TEXT, st.data())
def test_what_passes_fast_is_canonical(details: dict[str, Any], reason: str, data: st.DataObject) -> None:
    form = json.loads(event(1)) | {"details": details, "reason": reason}
    ascii_, sorted_, changes = data.draw(st.booleans()), data.draw(st.booleans()), data.draw(st.integers(0, 1))
    line = json.dumps(form, ensure_ascii=ascii_, sort_keys=sorted_, separators=(",", ":")).encode()
    for _ in range(changes):
        at, by = data.draw(st.integers(0, len(line) - 1)), data.draw(st.sampled_from(b'",:{}[]\\0 a\xff'))
        line = line[:at] + bytes([by]) + line[at + 1 :]
    read = Events()
    bundle_events._look(line + b"\n", [line], 0, read, tenant=NAME)
    told = examined(line, tenant=NAME)
    assert (read.ids, read.faults) == (([told.encode()], {}) if ID.fullmatch(told) else ([], {told: 0}))
    if told not in {FOREIGN, MALFORMED}:
        assert rfc8785.dumps(json.loads(line)) == line
        assert json.loads(line)["tenant"] == NAME


@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        (b"7", b"07"), (b"7", b"-0"), (b"7", b"7.0"), (b"7", b"7e0"), (b"7", b"9007199254740993"), (b"7", b""),
        (b"7", b"7,"), (b"7", b" 7"), (b"7", b"NaN"), (b"7", b"[7,]"), (b"7", b"[7"), (b"7", b"tru"),
        (b"text", rb"\u0041"), (b"text", rb"\/"), (b"text", rb"\u000A"), (b"text", rb"\u0009"), (b"text", rb"\u0008"),
        (b"text", rb"\u001F"), (b"text", rb"\x"), (b"text", b"\x1f"), (b"text", b"\t"), (b"text", b"\0"),
        (b"text", b"\xff"), (b"text", b"\xed\xa0\x80"), (b"text", rb"\ud800"), (b"text", b"\\"), (b"text", b'"'),
        (b'"a":"text","b":7', b'"b":7,"a":"text"'), (b'"a":', b'"b":'), (b"7", b'7,"c":1,"c":2'), (b"}", b"}\r"),
        (b'"form":1,', b'"form":1,"form":1,'), (b"{", b"{ "), (b"evt_0", b"evt_8"), (b"evt_0", b"EVT_0"),
    ],
)  # fmt: skip
def test_what_is_not_canonical_is_malformed(was: bytes, is_now: bytes) -> None:
    sound = event(1, details={"a": "text", "b": 7})
    line = sound.replace(was, is_now, 1)
    assert line != sound
    for lines, at in (([line], 0), ([sound, line], 1)):
        read = Events()
        bundle_events._look(b"".join(one + b"\n" for one in lines), lines, 0, read, tenant=NAME)
        assert read.faults == {MALFORMED: at}


def test_a_line_without_end_is_read_to_its_bound() -> None:
    file, read = BytesIO(event(1) + b"\n" + b"{" * (8 << 20)), Events()
    assert list(bundle_events._lines(file, 5, read, tenant=NAME, limit=None)) == [event(1)]
    assert file.tell() <= 2 * bundle_events.MAX_LINE_BYTES
    assert read.faults == {MALFORMED: 1}


def test_plain_events_pass_fast() -> None:
    """Else a million of them take minutes: these details are what almost all events have."""
    pattern = bundle_events._plain(NAME)
    plain = [bool(pattern.fullmatch(event(1, details=details) + b"\n")) for details in DETAILS]
    assert plain == [True, True, True, True, False, False]
    assert len(pattern.findall(b"".join(one + b"\n" for one in EVENTS[:PLAIN]))) == PLAIN
