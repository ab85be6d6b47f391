import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.ending import joined

from tenantry.engines.jail.artifacts import ArtifactFile, Artifacts, collect
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


SWAPS: dict[str, Callable[[Path, Path], None]] = {
    "a link to a file": lambda place, secret: place.symlink_to(secret),
    "a relative link": lambda place, secret: place.symlink_to(os.path.relpath(secret, place.parent)),
    "a link to a directory": lambda place, secret: place.symlink_to(secret.parent),
    "a link to itself": lambda place, _: place.symlink_to(place.name),
    "a link to a link": lambda place, secret: place.symlink_to(_linked(secret)),
    "a link by a descriptor": lambda place, secret: place.symlink_to(f"/proc/self/fd/{os.open(secret, os.O_PATH)}"),
    "a pipe": lambda place, _: os.mkfifo(place),
    "a directory": lambda place, _: place.mkdir(),
    "nothing": lambda *_: None,
}
VERBS: dict[str, Callable[[ArtifactFile], object]] = {
    "open": lambda item: item.open().close(),
    "read": ArtifactFile.read,
}


def _linked(secret: Path) -> Path:
    (secret.parent / "step").symlink_to(secret)
    return secret.parent / "step"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("swap", SWAPS)
def test_what_took_the_place_of_a_file_after_the_walk_is_not_opened(
    work: Path, root: int, tmp_path: Path, swap: str, verb: str
) -> None:
    (work / "d").mkdir()
    (work / "d/a").write_text("mine")
    (item,) = take(root)
    assert VERBS[verb](item) in {b"mine", None}
    (work / "d/a").unlink()
    SWAPS[swap](work / "d/a", tmp_path / "secret")
    with pytest.raises(OSError):  # noqa: PT011 - ELOOP, ENOENT, EISDIR or EINVAL, as it is
        VERBS[verb](item)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_directory_on_the_way_swapped_for_a_link_is_not_gone_through(
    work: Path, root: int, tmp_path: Path, depth: int, verb: str
) -> None:
    (work / "x/y/z").mkdir(parents=True)
    (work / "x/y/z/a").write_text("mine")
    (item,) = take(root)
    there = tmp_path / "there"
    (there / "/".join("xyz"[depth:])).mkdir(parents=True)
    (there / "/".join("xyz"[depth:]) / "a").write_text("not mine")
    swapped = work / "/".join("xyz"[:depth])
    swapped.rename(tmp_path / "away")
    swapped.symlink_to(there)
    with pytest.raises(OSError):  # noqa: PT011 - ENOTDIR or ELOOP, as the kernel likes
        VERBS[verb](item)


@pytest.mark.parametrize("part", ["d", "d/a"])
def test_swapping_all_the_while_shows_nothing_of_the_host(work: Path, root: int, tmp_path: Path, part: str) -> None:
    """One thread exchanges the file, or the directory above it, with a link; another walks and reads."""
    (work / "d").mkdir()
    (work / "d/a").write_text("mine")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/a").write_text("secret")
    (work / "other").symlink_to(tmp_path / ("host" if part == "d" else "secret"))
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            os.rename(work / part, work / "aside")
            os.rename(work / "other", work / part)
            os.rename(work / part, work / "other")
            os.rename(work / "aside", work / part)

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    seen = set()
    for _ in range(1500):
        for item in take(root, "d/a"):
            with suppress(OSError):
                seen.add(item.read())
    done.set()
    joined(thread)
    assert seen <= {b"mine"}
    assert seen


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
