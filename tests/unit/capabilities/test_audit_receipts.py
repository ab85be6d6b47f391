"""A receipt says what was recorded, in one form; held against it, a log from which that was removed is found out."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.unit.capabilities.bundles import (
    BEGAN,
    KEEPER,
    NAME,
    ORIGIN,
    STRANGER,
    Bundle,
    event,
    refusal,
    root_of,
    uuid_at,
)

from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.service.receipts import MAX_EVENTS, Receipt
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.ids import Prefix, format_id

MADE = datetime(2030, 1, 2, 3, 4, 5, 6, UTC)
EVENT = format_id(Prefix.AUDIT_EVENT, UUID(int=7))
LEAF = leaf_hash(b"x")
TEXT = (
    f"{ORIGIN}\nreceipt 2030-01-02T03:04:05.000006+00:00\n"
    "evt_00000000000000000000000007 PH6byTDck/AfppmF7yQtn56GHzxTVaokzl70tLinDMs=\n"
)
TIMES = [BEGAN + timedelta(minutes=number) for number in range(4)]
IDS = [uuid_at(number, at) for number, at in enumerate(TIMES, 1)]
LOG = [event(number, event_id=id_) for number, id_ in enumerate(IDS, 1)]


def receipt(*numbers: int, at: datetime = BEGAN, origin: str = ORIGIN, keeper: Any = KEEPER, **altered: bytes) -> bytes:
    """For events of LOG, by their number from 1, with the leaf they had when they were recorded."""
    named = [(format_id(Prefix.AUDIT_EVENT, IDS[number - 1]), leaf_hash(LOG[number - 1])) for number in numbers]
    told = [(event, altered.get("leaf", leaf)) for event, leaf in named]
    signed: bytes = keeper.signs(Receipt(origin, at, tuple(told)).text)
    return signed


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "acme.audit"


def written(*numbers: int) -> bytes:
    """A bundle of these events alone, as whoever removed the others before they were sealed would have it signed."""
    return b"".join(Bundle([LOG[number - 1] for number in numbers], (len(numbers),)).lines())


def test_its_text_has_one_form() -> None:
    told = Receipt(ORIGIN, MADE, ((EVENT, LEAF),))
    assert told.text == TEXT
    assert Receipt.parse(TEXT) == told
    elsewhere = MADE.astimezone(datetime.fromisoformat("2030-01-01T00:00:00+05:00").tzinfo)
    assert Receipt(ORIGIN, elsewhere, ((EVENT, LEAF),)).text == TEXT
    most = Receipt(ORIGIN, MADE, ((EVENT, LEAF),) * MAX_EVENTS)
    assert Receipt.parse(most.text) == most


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        ORIGIN,
        f"{ORIGIN}\n",
        TEXT.partition("evt")[0],
        TEXT.removesuffix("\n"),
        f"{TEXT}\n",
        f"{TEXT}more\n",
        TEXT.replace("receipt ", ""),
        TEXT.replace("receipt", "Receipt"),
        TEXT.replace("+00:00", ""),
        TEXT.replace("+00:00", "Z"),
        TEXT.replace("05.000006+00:00", "05+00:00"),
        TEXT.replace("evt_0", "evt_8"),
        TEXT.replace("evt_", "job_"),
        TEXT.replace("DMs=", "DMt="),
        TEXT.replace(" PH", "  PH"),
        TEXT.replace(b64encode(LEAF).decode(), b64encode(LEAF[:31]).decode()),
        TEXT + TEXT.splitlines()[-1] * MAX_EVENTS,
        Receipt(ORIGIN, MADE, ((EVENT, LEAF),) * (MAX_EVENTS + 1)).text,
        Checkpoint(ORIGIN, 7, LEAF).text,
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Receipt.parse(text)


def test_no_receipt_passes_for_a_checkpoint() -> None:
    """Both are signed by the same keys."""
    with pytest.raises(NoteError):
        Checkpoint.parse(TEXT)


def test_events_that_are_there_are_found_and_young_ones_are_pending(file: Path) -> None:
    file.write_bytes(written(1, 2, 3))
    report = verify_bundle(file, receipts=[receipt(1, 3), receipt(2), receipt(4, at=TIMES[3])])
    assert (report.receipts, report.pending) == (3, 1)


def test_an_event_that_was_removed_before_it_was_sealed_is_named(file: Path) -> None:
    missing = format_id(Prefix.AUDIT_EVENT, IDS[1])
    refused = refusal(file, written(1, 3), receipts=[receipt(1), receipt(2, at=TIMES[1])])
    assert (refused.code, refused.fields["event"]) == ("event_unrecorded", missing)
    # The next event is younger than the receipt by less than clocks may be apart: it may have been sealed before.
    report = verify_bundle(file, receipts=[receipt(2, at=TIMES[2] - timedelta(seconds=9))])
    assert (report.receipts, report.pending) == (0, 1)


def test_an_event_that_was_altered_before_it_was_sealed_is_named(file: Path) -> None:
    refused = refusal(file, written(1, 2), receipts=[receipt(2, leaf=leaf_hash(b"as it was"))])
    assert (refused.code, refused.fields["sequence"]) == ("event_replaced", 2)


def test_a_receipt_counts_only_if_the_log_has_signed_it(file: Path) -> None:
    content = written(1, 2)
    assert refusal(file, content, receipts=[receipt(1, keeper=STRANGER)]).code == "receipt_forged"
    assert refusal(file, content, receipts=[receipt(1).replace(b"T12:00:00", b"T12:00:01")]).code == "receipt_forged"
    assert refusal(file, content, receipts=[b"evt_1"]).code == "receipt_forged"
    assert refusal(file, content, receipts=[KEEPER.note(2, LEAF)]).code == "receipt_forged"
    other = receipt(3, origin=f"other.example/{NAME}", keeper=STRANGER)
    assert refusal(file, content, receipts=[other]).code == "receipt_foreign"
    assert verify_bundle(file, receipts=[other, receipt(1)]).receipts == 1


def test_of_nothing_that_is_signed_nothing_is_shown(file: Path) -> None:
    """Anybody can write a bundle of no events: it must not pass where keys or receipts are brought along."""
    empty = b"".join(Bundle([], ()).lines())
    assert refusal(file, empty, receipts=[receipt(1)]).code == "checkpoint_missing"
    assert refusal(file, empty, keys=[KEEPER.key]).code == "checkpoint_missing"
    assert verify_bundle(file).size == 0
    signed = Bundle([], ())
    signed.notes = [KEEPER.note(0, root_of([]))]
    file.write_bytes(b"".join(signed.lines()))
    report = verify_bundle(file, keys=[KEEPER.key], receipts=[receipt(1)])
    assert (report.pinned, report.size, report.pending) == (True, 0, 1)
