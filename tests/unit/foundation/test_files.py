"""A file that another process reads at any moment."""

import stat
import threading
from pathlib import Path

import pytest
from tests.ending import joined

from tenantry.foundation.files import replace_file


def test_a_reader_meets_a_whole_text_at_every_moment(tmp_path: Path) -> None:
    path, texts, done = tmp_path / "told.json", ("old" * 30_000, "new" * 30_000), threading.Event()
    replace_file(path, texts[0])
    seen: list[bool] = []

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_text() in texts)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for turn in range(200):
        replace_file(path, texts[turn % 2])
    done.set()
    joined(reader)
    assert seen
    assert all(seen)
    assert [entry.name for entry in tmp_path.iterdir()] == ["told.json"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_mode_is_the_one_asked_for_whatever_stood_there(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    path.chmod(0o666)
    replace_file(path, "after", mode=mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, "before")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "\ud800")
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
