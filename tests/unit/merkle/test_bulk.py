"""Bulk verification: exactly the signed lines pass, and of others the first bad one is named."""

import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.engines.merkle import bulk_file
from tenantry.engines.merkle.bulk import BLOCK_LINES, Beside, lines_of, verify_lines
from tenantry.engines.merkle.bulk_file import verify_file
from tenantry.engines.merkle.errors import LogMismatch, Malformed
from tenantry.engines.merkle.tree import EMPTY_ROOT, Frontier, leaf_hash

LINES = [b'{"entry":%d}' % number for number in range(2 * BLOCK_LINES + 700)]
LEAVES = [leaf_hash(line) for line in LINES]
HASH = b"\x07" * 32


def root(size: int) -> bytes:
    return Frontier().append_many(LEAVES[:size]).root


def beside(size: int, level: int) -> Beside:
    if level == 0:
        return Beside(0, b"".join(LEAVES[:size]))
    appended = Frontier().append_many(LEAVES[:size])
    return Beside(1, b"".join(b"".join(tile.hashes) for tile in appended.tiles if tile.level == 1))


def mismatch(lines: Sequence[bytes], size: int, hashes: Beside | None = None) -> LogMismatch:
    with pytest.raises(LogMismatch) as caught:
        verify_lines(lines, size=size, root=root(size), beside=hashes)
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000, BLOCK_LINES, BLOCK_LINES + 1, len(LINES)])
def test_the_signed_lines_pass(size: int) -> None:
    for hashes in (None, beside(size, 0), beside(size, 1)):
        verify_lines(iter(LINES[:size]), size=size, root=root(size), beside=hashes)
    assert mismatch([*LINES[:size], b"more"], size).index is None
    if size:
        assert mismatch(LINES[: size - 1], size).index is None
        assert mismatch([*LINES[: size - 1], b""], size).index is None


def test_an_empty_log_has_no_lines() -> None:
    verify_lines([], size=0, root=EMPTY_ROOT)
    with pytest.raises(LogMismatch):
        verify_lines([], size=0, root=HASH)
    with pytest.raises(LogMismatch):
        verify_lines([b""], size=0, root=EMPTY_ROOT)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 1500), st.sampled_from(["changed", "removed", "added", "swapped", "doubled"]), st.data())
def test_the_first_bad_line_is_named(size: int, change: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, size - 1))
    lines = list(LINES[:size])
    match change:
        case "changed":
            lines[place] += b" "
        case "removed":
            del lines[place]
        case "added":
            lines.insert(place, b"{}")
        case "doubled":
            lines.insert(place, lines[place])
            place += 1
        case "swapped":
            place = min(place, size - 2) if size > 1 else 0
            lines[place : place + 2] = reversed(lines[place : place + 2]) if size > 1 else [b"{}"]
    assert mismatch(lines, size).index is None
    found = mismatch(lines, size, beside(size, 0))
    assert (found.index, found.width) == (place, 1)
    found = mismatch(lines, size, beside(size, 1))
    assert found.width == 256
    assert found.index == min(place, size if change in {"added", "doubled"} else size - 1) // 256 * 256


@pytest.mark.parametrize("place", [0, 255, 256, BLOCK_LINES - 1, BLOCK_LINES, 2 * BLOCK_LINES + 3, len(LINES) - 1])
def test_it_is_named_in_any_block(place: int) -> None:
    lines = list(LINES)
    lines[place] = b"{}"
    assert mismatch(lines, len(lines), beside(len(lines), 0)).index == place
    assert mismatch(lines, len(lines), beside(len(lines), 1)).index == place // 256 * 256


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of all lines, which counts as a big one."""
    monkeypatch.setattr(bulk_file, "BIG_LINES", 0)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in LINES))
    return path


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_file_is_verified_by_any_number_of_processes(processes: int, file: Path) -> None:
    size = len(LINES)
    verify_file(file, size=size, root=root(size), processes=processes)
    whole = file.read_bytes()
    for content in (whole + b"{}\n", whole[: -len(LINES[-1]) - 1], whole.replace(LINES[300], b"{}")):
        file.write_bytes(content)
        with pytest.raises(LogMismatch) as caught:
            verify_file(file, size=size, root=root(size), beside=beside(size, 0), processes=processes)
        lines = content.splitlines()
        wrong = [line != right for line, right in zip(lines, LINES, strict=False)]
        assert caught.value.index == (wrong.index(True) if True in wrong else min(len(lines), size))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_that_was_cut_off_is_refused(processes: int, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LogMismatch, match="cut off"):
        verify_file(file, size=len(LINES), root=root(len(LINES)), processes=processes)
    file.write_bytes(b"")
    with pytest.raises(LogMismatch, match="0 lines"):
        verify_file(file, size=len(LINES), root=root(len(LINES)), processes=processes)


def test_a_process_that_dies_says_nothing_of_the_log(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ChildProcessError):
        verify_file(file, size=len(LINES), root=root(len(LINES)))


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
def test_a_part_begins_at_its_line_whatever_is_read_at_once(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_file, "_CHUNK_BYTES", chunk)
    for lines in (0, 1, 5, 99, 100, 101):
        content = BytesIO(b"".join(line + b"\n" for line in LINES[:100]))
        bulk_file.skip_lines(content, lines)
        assert content.readline() == (LINES[lines] + b"\n" if lines < 100 else b"")


def test_of_several_bad_lines_the_first_is_named() -> None:
    lines = list(LINES[:1000])
    lines[700] = lines[300] = lines[900] = b"{}"
    assert mismatch(lines, 1000, beside(1000, 0)).index == 300
    assert mismatch(lines, 1000, beside(1000, 1)).index == 256


def test_of_bad_lines_in_several_blocks_the_first_is_named() -> None:
    lines = list(LINES)
    lines[5] = lines[BLOCK_LINES + 5] = b"{}"
    assert mismatch(lines, len(lines), beside(len(lines), 0)).index == 5


def test_hashes_beside_prove_nothing() -> None:
    """Whoever changes a line may change its hash, too, or another's to point there: the root is against both."""
    lines = [*LINES[:7], b"{}", *LINES[8:1000]]
    forged = [leaf_hash(line) for line in lines]
    found = mismatch(lines, 1000, Beside(0, b"".join(forged)))
    assert (found.index, str(found)) == (
        None,
        "the lines lead to another root, and the hashes beside them lead to neither",
    )
    forged[3] = HASH
    assert mismatch(lines, 1000, Beside(0, b"".join(forged))).index is None


def test_true_lines_pass_whatever_is_beside() -> None:
    verify_lines(LINES[:1000], size=1000, root=root(1000), beside=Beside(0, HASH * 1000))
    verify_lines(LINES[:1000], size=1000, root=root(1000), beside=Beside(1, b""))


@pytest.mark.parametrize("size", [4, 6])
def test_the_right_root_of_another_size_does_not_pass(size: int, tmp_path: Path) -> None:
    with pytest.raises(LogMismatch):
        verify_lines(LINES[:5], size=size, root=root(5))
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in LINES[:5]))
    verify_file(file, size=5, root=root(5))
    with pytest.raises(LogMismatch, match="lines instead of"):
        verify_file(file, size=size, root=root(5))


def test_lines_without_end_are_not_read_to_it() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for line in repeat(b"{}"):
            taken += 1
            yield line

    with pytest.raises(LogMismatch):
        verify_lines(endless(), size=10, root=root(10))
    assert taken == 11


def test_lines_of_a_file_end_with_a_newline_each() -> None:
    assert list(lines_of(BytesIO(b"a\n\nb\r\n"))) == [b"a", b"", b"b\r"]
    assert list(lines_of(BytesIO(b""))) == []
    with pytest.raises(LogMismatch, match="cut off"):
        list(lines_of(BytesIO(b"a\nb")))


@pytest.mark.parametrize(("size", "against"), [(-1, HASH), (True, HASH), (1, HASH[1:]), (1, "a" * 32)])
def test_no_size_or_root_is_no_verdict(size: int, against: bytes) -> None:
    with pytest.raises(Malformed):
        verify_lines([], size=size, root=against)


@pytest.mark.parametrize(("level", "hashes"), [(0, HASH[1:]), (2, HASH), (-1, HASH)])
def test_hashes_beside_are_whole_and_of_a_level(level: int, hashes: bytes) -> None:
    with pytest.raises(Malformed):
        Beside(level, hashes)
