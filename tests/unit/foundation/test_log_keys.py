"""Keys of checkpoints: made once, rotated, read anew when another process has changed the file."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tenantry.foundation.errors import Fault
from tenantry.foundation.log_keys import FILE, LogKeys

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_the_first_is_made_and_every_process_has_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: LogKeys(tmp_path).of("us", now=NOW), range(32)))
    assert len(set(found)) == 1
    [[key], *_] = found
    assert (len(key.seed), key.valid_from, key.valid_until) == (32, NOW, None)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert key.seed.hex() not in repr(key)
    assert LogKeys(tmp_path).of("eu", now=NOW)[0].seed != key.seed


def test_a_rotation_ends_the_one_before_a_minute_later_and_others_see_it(tmp_path: Path) -> None:
    one, other = LogKeys(tmp_path), LogKeys(tmp_path)
    [first] = one.of("us", now=NOW)
    kept = one.of("eu", now=NOW)
    second = other.rotate("us", now=NOW + timedelta(hours=1))
    third = other.rotate("us", now=NOW + timedelta(hours=2))
    assert [key.seed for key in one.of("us", now=NOW)] == [first.seed, second.seed, third.seed]
    minute = timedelta(minutes=1)
    assert [key.valid_until for key in one.of("us", now=NOW)] == [
        second.valid_from + minute,
        third.valid_from + minute,
        None,
    ]
    assert one.of("eu", now=NOW) == kept


def test_the_first_may_be_made_by_a_rotation(tmp_path: Path) -> None:
    made = LogKeys(tmp_path).rotate("us", now=NOW)
    assert LogKeys(tmp_path).of("us", now=NOW) == (made,)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"us": 1}', '{"us": [{}]}', '{"us": [{"seed": "00", "valid_from": "x", "valid_until": null}]}'],
)
def test_a_damaged_file_is_no_reason_to_make_new_keys(tmp_path: Path, content: str) -> None:
    file = tmp_path / FILE
    file.write_text(content)
    file.chmod(0o600)
    for call in (LogKeys(tmp_path).of, LogKeys(tmp_path).rotate):
        with pytest.raises(Fault) as refused:
            call("us", now=NOW)
        assert refused.value.code == "log_keys_damaged"
    assert file.read_text() == content


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    LogKeys(tmp_path).of("us", now=NOW)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(Fault) as refused:
        LogKeys(tmp_path).of("us", now=NOW)
    assert refused.value.code == "log_keys_open"
    assert json.loads((tmp_path / FILE).read_text())
