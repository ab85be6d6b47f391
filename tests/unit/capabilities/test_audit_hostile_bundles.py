"""Whoever wrote a bundle chooses neither how the verifier ends nor how long it takes."""

import io
import tracemalloc
from base64 import b64encode
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.unit.capabilities.bundles import (
    BEGAN,
    EVENTS,
    KEEPER,
    ORIGIN,
    SIZE,
    Bundle,
    event,
    good,
    id_of,
    refusal,
    root_of,
)
from tests.unit.capabilities.test_audit_erasures import erased_bundle, erasure

from tenantry.capabilities.audit.service import bundle_erasures, bundle_verifier
from tenantry.capabilities.audit.service.bundle import MAX_KEYS
from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.service.erasures import Erasure
from tenantry.capabilities.audit.service.receipts import Receipt
from tenantry.engines.merkle.errors import Malformed, NoteError
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.ids import Prefix, format_id

PINNED = [KEEPER.key]
BEFORE_TIME = "0001-01-01T00:00:00.000000+10:00"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "acme.audit"


def test_a_leaf_line_of_no_whole_hashes_is_no_leaf_line(file: Path) -> None:
    lines = Bundle().lines()
    lines[300] = lines[300].replace(b"job.created", b"job.deleted")
    lines[-1] = lines[-1].replace(b"=", b"A")
    assert refusal(file, b"".join(lines), keys=PINNED).code == "events_altered"
    lines = erased_bundle().lines()
    lines[1 + SIZE - 256] = lines[1 + SIZE - 256].replace(b"=", b"A")
    assert refusal(file, b"".join(lines), keys=PINNED).code == "erasure_altered"


def test_where_all_events_are_as_signed_it_says_so(file: Path) -> None:
    lines = erased_bundle().lines()
    lines.insert(1 + SIZE - 256, b"junk\n")
    lines[-1] = b64encode(bytes(88 * 32)) + b"\n"
    refused = refusal(file, b"".join(lines), keys=PINNED)
    assert (refused.code, refused.fields) == ("bundle_overlong", {})
    assert "all events are as signed" in refused.message


def test_a_size_that_no_line_bears_out_is_not_counted_to(file: Path) -> None:
    """By its own keys a header may say what it likes: here that more have left than anybody could read."""
    size = 1 << 52
    bundle = Bundle([], ())
    bundle.header = replace(bundle.header, size=size, erased=size)
    bundle.notes = [KEEPER.note(size, bytes(32))]
    assert refusal(file, b"".join(bundle.lines())).code == "bundle_cut"


def test_times_that_the_calendar_does_not_have_are_refused(file: Path) -> None:
    header, rest = good().split(b"\n", 1)
    header = header.replace(b"2026-03-01T12:00:00.000000+00:00", BEFORE_TIME.encode(), 1)
    assert refusal(file, header + b"\n" + rest, keys=PINNED).code == "bundle_malformed"
    told = Receipt(ORIGIN, BEGAN, ((id_of(1), bytes(32)),)).text.replace(
        "2026-03-01T12:00:00.000000+00:00", BEFORE_TIME
    )
    assert refusal(file, good(), keys=PINNED, receipts=[KEEPER.signs(told)]).code == "receipt_forged"
    with pytest.raises(NoteError):
        Erasure.parse(erasure().text.replace("2026-03-02T12:00:00.000000+00:00", BEFORE_TIME))


def test_an_id_of_a_year_beyond_9999_holds_up_no_receipt(file: Path) -> None:
    far = event(SIZE, event_id=UUID(int=(1 << 128) - 1))
    file.write_bytes(b"".join(Bundle([*EVENTS[:-1], far]).lines()))
    there = Receipt(ORIGIN, BEGAN, ((id_of(5), leaf_hash(EVENTS[4])),))
    assert verify_bundle(file, keys=PINNED, receipts=[KEEPER.signs(there.text)]).receipts == 1
    missing = KEEPER.signs(replace(there, events=((format_id(Prefix.AUDIT_EVENT, UUID(int=99999)), bytes(32)),)).text)
    assert refusal(file, file.read_bytes(), keys=PINNED, receipts=[missing]).code == "event_unrecorded"
    last = replace(there, made_at=there.made_at.replace(year=9999, month=12, day=31, hour=23, minute=59, second=59))
    assert verify_bundle(file, keys=PINNED, receipts=[KEEPER.signs(last.text)]).receipts == 1


@pytest.mark.parametrize("error", [ValueError, IndexError, OverflowError, StopIteration, RecursionError, Malformed])
def test_what_nobody_has_foreseen_is_a_refusal(
    error: type[Exception], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: Any, **_more: Any) -> Any:
        raise error("of a form")

    monkeypatch.setattr(bundle_verifier, "_opened", fails)
    assert refusal(file, good()).code == "bundle_malformed"


def test_a_key_is_asked_for_only_by_what_it_has_signed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all keys for each checkpoint: a header has room for thousands of both."""
    asked: list[str] = []
    counts = VerifierKey.counts

    def noted(key: VerifierKey, at: datetime) -> bool:
        asked.append(key.name)
        return counts(key, at)

    monkeypatch.setattr(VerifierKey, "counts", noted)
    bundle = Bundle()
    others = tuple(VerifierKey(f"other.example/{at}", sha256(bytes([at])).digest()) for at in range(200))
    bundle.header = replace(bundle.header, keys=(*others, KEEPER.key))
    file.write_bytes(b"".join(bundle.lines()))
    assert verify_bundle(file, witnessed=[KEEPER.note(1, root_of(EVENTS[:1]))]).witnessed == 1
    assert set(asked) == {KEEPER.key.name}
    assert verify_bundle(file, keys=[*others, KEEPER.key, KEEPER.key]).pinned


def test_a_header_has_so_many_keys_and_each_once(file: Path) -> None:
    bundle = Bundle()
    others = tuple(VerifierKey(f"other.example/{at}", sha256(b"%d" % at).digest()) for at in range(MAX_KEYS))
    bundle.header = replace(bundle.header, keys=(KEEPER.key, *others[1:]))
    file.write_bytes(b"".join(bundle.lines()))
    assert verify_bundle(file).size == SIZE
    twice = replace(KEEPER.key, valid_until=BEGAN + timedelta(days=9))
    for keys in ((KEEPER.key, *others), (KEEPER.key, twice)):
        bundle.header = replace(bundle.header, keys=keys)
        assert refusal(file, b"".join(bundle.lines())).code == "bundle_malformed"


def test_what_says_that_it_tells_of_an_erasure_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines begin like one: no part of the file is read anew for each."""
    read = [0]

    class Counted(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            content = super().read(size)
            read[0] += len(content)
            return content

    lines = erased_bundle(signed=False).lines()
    lines[1 + SIZE - 256 : 1 + SIZE - 256] = [b'{"action":"audit.erased",\n'] * 5000
    file.write_bytes(b"".join(lines))
    told = bundle_erasures._told
    monkeypatch.setattr(Path, "open", lambda path, _mode="rb": Counted(io.FileIO(path)))
    assert len(list(told(file, offset=len(lines[0]), end=file.stat().st_size))) == 5000
    assert read[0] <= 2 * file.stat().st_size


def test_a_header_is_bounded(file: Path) -> None:
    brackets = b'{"a":[' + b"[]," * (6 << 20) + b"[]]}\n"
    tracemalloc.start()
    assert refusal(file, brackets).code == "bundle_malformed"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 32 << 20
