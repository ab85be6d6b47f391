"""Whoever wrote a bundle chooses neither how the verifier ends nor how long it takes."""

from base64 import b64encode
from dataclasses import replace
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
)
from tests.unit.capabilities.test_audit_erasures import erased_bundle, erasure

from tenantry.capabilities.audit.service import bundle_verifier
from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.service.erasures import Erasure
from tenantry.capabilities.audit.service.receipts import Receipt
from tenantry.engines.merkle.errors import Malformed, NoteError
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
