import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.engines.jail.artifacts import Artifacts, collect
from tenantry.engines.jail.errors import SpecInvalid


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "secret").write_text("secret")
    descriptor = os.open(tmp_path / "workspace", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def work(tmp_path: Path, root: int) -> Path:
    return tmp_path / "workspace"


def take(root: int, *patterns: str, files: int = 100, size: int = 1 << 20) -> Artifacts:
    return collect(root, patterns=patterns or ("**",), max_files=files, max_bytes=size, uid=None)


def test_regular_files_are_taken_by_path(work: Path, root: int) -> None:
    (work / "b").mkdir()
    (work / "b/two").write_bytes(b"22")
    (work / "a").write_bytes(b"1")
    found = take(root)
    assert [(item.path, item.size_bytes, item.read()) for item in found] == [("a", 1, b"1"), ("b/two", 2, b"22")]


def test_links_are_never_followed(work: Path, root: int, tmp_path: Path) -> None:
    (work / "final").symlink_to(tmp_path / "secret")
    (work / "through").symlink_to(tmp_path)
    (work / "up").symlink_to("../secret")
    (work / "outputs").symlink_to("/etc")
    found = take(root, "**", "through/secret", "outputs/passwd")
    assert list(found) == []
    assert {item.reason for item in found.skipped} == {"not_regular"}


def test_a_file_swapped_for_a_link_after_the_walk_is_not_opened(work: Path, root: int, tmp_path: Path) -> None:
    (work / "d").mkdir()
    (work / "d/a").write_text("mine")
    (item,) = take(root)
    (work / "d/a").unlink()
    (work / "d/a").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        item.read()
    (work / "d/a").unlink()
    (work / "d").rmdir()
    (work / "d").symlink_to(tmp_path)
    (tmp_path / "a").write_text("not mine")
    with pytest.raises(OSError):  # noqa: PT011 - ENOTDIR or ELOOP, as the kernel likes
        item.read()


def test_pipes_sockets_and_devices_are_skipped(work: Path, root: int) -> None:
    os.mkfifo(work / "pipe")
    found = take(root)
    assert (list(found), found.skipped[0].reason) == ([], "not_regular")


def test_a_pipe_in_place_of_a_file_does_not_block(work: Path, root: int) -> None:
    (work / "a").write_text("x")
    (item,) = take(root)
    (work / "a").unlink()
    os.mkfifo(work / "a")
    with pytest.raises(OSError, match="not a regular file"):
        item.open()


def test_a_sparse_giant_counts_as_large_as_it_says(work: Path, root: int) -> None:
    with (work / "giant").open("wb") as target:
        target.truncate(1 << 40)
    (work / "small").write_text("x")
    found = take(root)
    assert [item.path for item in found] == ["small"]
    assert found.skipped[0].reason == "too_large"


def test_number_and_sum_of_sizes_are_capped(work: Path, root: int) -> None:
    for name in "abcd":
        (work / name).write_bytes(bytes(10))
    assert [item.path for item in take(root, files=2)] == ["a", "b"]
    assert [item.path for item in take(root, size=25)] == ["a", "b"]


def test_a_file_that_grew_is_read_to_the_size_it_had(work: Path, root: int) -> None:
    (work / "a").write_bytes(b"12")
    (item,) = take(root)
    (work / "a").write_bytes(b"123456")
    assert item.read() == b"12"


def test_names_that_would_spoil_a_log_are_skipped(work: Path, root: int) -> None:
    for name in ("a\nb", "\x1b[31m", "x\udcff"):
        (work / name).write_text("x")
    found = take(root)
    assert list(found) == []
    assert {item.reason for item in found.skipped} == {"name"}


def test_the_walk_ends_below_a_deep_tree(work: Path, root: int) -> None:
    here = work
    for _ in range(80):
        here /= "d"
        here.mkdir()
    (here / "f").write_text("x")
    assert any(item.reason == "too_deep" for item in take(root).skipped)


def test_too_many_patterns_are_refused(root: int) -> None:
    with pytest.raises(SpecInvalid):
        take(root, *["a"] * 300)
