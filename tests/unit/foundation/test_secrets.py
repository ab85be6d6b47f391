"""The installation's secrets: made once, for this user alone, and never shown."""

import json
import os
import stat
from pathlib import Path

import pytest

from tenantry.foundation.errors import Fault
from tenantry.foundation.secrets import load_secrets


def file_of(home: Path) -> Path:
    return home / "secrets.json"


def refused(home: Path, *, create: bool = False) -> Fault:
    with pytest.raises(Fault) as error:
        load_secrets(home, create=create)
    return error.value


def test_the_first_start_makes_them_for_this_user_alone(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        made = load_secrets(tmp_path, roles=("app",), create=True)
    finally:
        os.umask(former)
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]
    keys = {made.pepper, made.context_key, made.cursor_key}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}


def test_later_starts_read_the_same_ones(tmp_path: Path) -> None:
    made = load_secrets(tmp_path, roles=("app",), create=True)
    written = file_of(tmp_path).read_bytes()
    assert load_secrets(tmp_path) == made
    assert load_secrets(tmp_path, roles=("app",), create=True) == made
    assert file_of(tmp_path).read_bytes() == written


def test_two_installations_share_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a = load_secrets(tmp_path / "a", roles=("app",), create=True)
    b = load_secrets(tmp_path / "b", roles=("app",), create=True)
    assert not {a.pepper, a.context_key, a.cursor_key} & {b.pepper, b.context_key, b.cursor_key}
    assert a.passwords["app"] != b.passwords["app"]


def test_missing_ones_are_not_made_unless_asked(tmp_path: Path) -> None:
    fault = refused(tmp_path)
    assert fault.code == "secrets_missing"
    assert "start the server once" in fault.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601, 0o644, 0o777])
@pytest.mark.parametrize("create", [False, True])
def test_a_file_that_others_may_open_is_refused_with_the_remedy(mode: int, create: bool, tmp_path: Path) -> None:
    load_secrets(tmp_path, create=True)
    file_of(tmp_path).chmod(mode)
    fault = refused(tmp_path, create=create)
    assert fault.code == "secrets_open"
    assert "chown it and chmod 0600" in fault.message
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == mode


def test_a_file_of_another_user_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_secrets(tmp_path, create=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    fault = refused(tmp_path)
    assert fault.code == "secrets_open"
    assert "chown it" in fault.message


def test_a_new_role_gets_a_password_and_the_others_keep_theirs(tmp_path: Path) -> None:
    before = load_secrets(tmp_path, roles=("app",), create=True)
    after = load_secrets(tmp_path, roles=("app", "sealer"), create=True)
    assert after.passwords["app"] == before.passwords["app"]
    assert (after.pepper, after.context_key, after.cursor_key) == (
        before.pepper,
        before.context_key,
        before.cursor_key,
    )
    assert len(after.passwords["sealer"]) >= 32
    assert load_secrets(tmp_path).passwords == after.passwords
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600


def test_a_reader_makes_no_password(tmp_path: Path) -> None:
    load_secrets(tmp_path, create=True)
    assert load_secrets(tmp_path, roles=("app",)).passwords == {}


def test_what_a_killed_start_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    torn = tmp_path / "secrets.json.new"
    torn.write_text("{")
    torn.chmod(0o666)
    load_secrets(tmp_path, create=True)
    assert not torn.exists()
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600


def test_they_are_not_shown(tmp_path: Path) -> None:
    made = load_secrets(tmp_path, roles=("app",), create=True)
    shown = f"{made!r} {made} {[made]}"
    for key in (made.pepper, made.context_key, made.cursor_key):
        assert key.hex() not in shown
        assert repr(key) not in shown
    assert made.passwords["app"] not in shown


@pytest.mark.parametrize(
    "change",
    [
        {"pepper": None},
        {"pepper": "zz"},
        {"pepper": "ab" * 31},
        {"context_key": ""},
        {"cursor_key": 5},
        {"passwords": None},
        {"passwords": ["hunter2"]},
    ],
    ids=str,
)
def test_damaged_ones_are_refused_and_not_told(change: dict[str, object], tmp_path: Path) -> None:
    load_secrets(tmp_path, create=True)
    values = json.loads(file_of(tmp_path).read_text())
    file_of(tmp_path).write_text(json.dumps(values | change))
    before = file_of(tmp_path).read_bytes()
    fault = refused(tmp_path, create=True)
    assert fault.code == "secrets_damaged"
    assert values["context_key"] not in f"{fault!r}{fault.__cause__!r}"
    assert file_of(tmp_path).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"hunter2', b"\xff", b"{}"])
def test_a_torn_file_is_refused_and_not_told(content: bytes, tmp_path: Path) -> None:
    file_of(tmp_path).write_bytes(content)
    file_of(tmp_path).chmod(0o600)
    fault = refused(tmp_path, create=True)
    assert fault.code == "secrets_damaged"
    assert "hunter2" not in f"{fault!r}{fault.__cause__!r}"
