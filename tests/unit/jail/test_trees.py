import gzip
import io
import os
import shutil
import socket
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.engines.jail.errors import TreeInvalid
from tenantry.engines.jail.trees import Fill, SavedTree, pack

MIB = 1 << 20
Member = tuple[str, bytes, bytes | str]
DIR, LINK, HARD, FILE = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.REGTYPE


@dataclass
class Held:
    """A directory held by descriptor, as what a dead sandbox left."""

    path: Path

    def remains(self) -> tuple[int, int | None]:
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY), None

    def pack(self, *, max_bytes: int = MIB, max_files: int = 1000) -> tuple[bytes, SavedTree]:
        target, (root, _) = io.BytesIO(), self.remains()
        try:
            return target.getvalue(), pack(root, None, target, max_bytes=max_bytes, max_files=max_files)
        finally:
            os.close(root)
            self.packed = target.getvalue()

    def fill(self, fill: Fill, *, max_bytes: int = MIB) -> SavedTree:
        root, _ = self.remains()
        try:
            return fill.ready(root, uid=None, max_bytes=max_bytes)()
        finally:
            os.close(root)


@pytest.fixture
def left(tmp_path: Path) -> Held:
    (tmp_path / "left").mkdir()
    return Held(tmp_path / "left")


@pytest.fixture
def fresh(tmp_path: Path) -> Held:
    (tmp_path / "fresh/outputs").mkdir(parents=True)
    (tmp_path / "canary").write_text("untouched")
    return Held(tmp_path / "fresh")


def packed(left: Held, **bounds: int) -> bytes:
    left.pack(**bounds)
    return left.packed


def archive(*members: Member, mode: int = 0o644) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content in members:
            header = tarfile.TarInfo(name)
            header.type, header.mode = kind, mode
            if isinstance(content, str):
                header.linkname = content
            else:
                header.size = len(content)
            tar.addfile(header, io.BytesIO(content) if isinstance(content, bytes) else None)
    return target.getvalue()


def from_bytes(content: bytes) -> Fill:
    return Fill.from_archive(lambda: cast("BinaryIO", io.BytesIO(content)))


def seen(root: Path) -> dict[str, tuple[str, object, int]]:
    """Every entry with its kind, content, and mode where it has one of its own."""
    found: dict[str, tuple[str, object, int]] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(root))
        mode = stat.S_IMODE(status.st_mode)
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()), 0)
        elif path.is_dir():
            found[name] = ("directory", None, mode)
        else:
            found[name] = ("file", path.read_bytes(), mode)
    return found


def furnish(root: Path) -> None:
    (root / "outputs").mkdir()
    (root / "outputs/report").write_text("done")
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/tool").write_bytes(b"\x7fELF" + bytes(5000) + b"end")
    (root / "deep/er/tool").chmod(0o755)
    (root / "deep/er/tool").touch()
    os.utime(root / "deep/er/tool", ns=(1, 1_700_000_000_123_456_000))
    (root / "deep/here").symlink_to("er/tool")
    (root / "out").symlink_to("/etc/passwd")
    (root / "private").mkdir(mode=0o700)
    (root / "empty").write_bytes(b"")
    (root / "closed").mkdir()
    (root / "closed/a").write_text("a")
    (root / "closed").chmod(0o555)


WAYS: dict[str, Callable[[Held], Fill]] = {
    "an archive": lambda left: from_bytes(packed(left)),
    "a sandbox": Fill.from_sandbox,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_tree_arrives_as_it_was(left: Held, fresh: Held, way: str) -> None:
    furnish(left.path)
    saved = fresh.fill(WAYS[way](left))
    assert seen(fresh.path) == seen(left.path)
    assert (saved.files, saved.skipped) == (len(seen(left.path)), ())
    assert saved.bytes == 4 + 5007 + 1
    moments = [(root / "deep/er/tool").stat().st_mtime_ns for root in (left.path, fresh.path)]
    assert abs(moments[0] - moments[1]) < 1000


@pytest.mark.parametrize("way", WAYS)
def test_privileged_bits_do_not_travel(left: Held, fresh: Held, way: str) -> None:
    (left.path / "su").write_bytes(b"x")
    (left.path / "su").chmod(0o6755)
    (left.path / "sticky").mkdir()
    (left.path / "sticky").chmod(0o3777)
    fresh.fill(WAYS[way](left))
    assert {name: mode for name, (_, _, mode) in seen(fresh.path).items()} == {
        "outputs": 0o755, "sticky": 0o777, "su": 0o755,
    }  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_file_directory_or_link_stays_behind(left: Held, fresh: Held, way: str) -> None:
    os.mkfifo(left.path / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(left.path / "socket"))
    (left.path / "line\nbreak").write_text("x")
    (left.path / "mad").symlink_to("a\nb")
    _, saved = left.pack()
    assert {(item.path, item.reason) for item in saved.skipped} == {
        ("", "name"), ("mad", "name"), ("pipe", "not_regular"), ("socket", "not_regular"),
    }  # fmt: skip
    filled = fresh.fill(WAYS[way](left))
    assert list(seen(fresh.path)) == ["outputs"]
    assert filled.skipped == (saved.skipped if way == "a sandbox" else ())


def test_the_same_tree_gives_the_same_bytes(left: Held, tmp_path: Path) -> None:
    names = ["b", "a", "c/d", "c/a", "c-", "c!"]
    other = Held(tmp_path / "other")
    for held, order in ((left, names), (other, reversed(names))):
        for name in order:
            (held.path / name).parent.mkdir(parents=True, exist_ok=True)
            (held.path / name).write_text(name)
            os.utime(held.path / name, (1, 1))
        os.utime(held.path / "c", (1, 1))
    assert packed(left) == packed(other)
    with tarfile.open(fileobj=io.BytesIO(left.packed)) as tar:
        assert [(m.name, m.uid, m.uname, m.mtime) for m in tar][:3] == [
            ("a", 0, "", 1), ("b", 0, "", 1), ("c", 0, "", 1),
        ]  # fmt: skip


def test_a_file_larger_than_what_is_left_is_skipped_and_smaller_ones_are_taken(left: Held, fresh: Held) -> None:
    (left.path / "a").write_bytes(b"x" * 600)
    with (left.path / "b").open("wb") as giant:
        giant.truncate(1 << 40)
    (left.path / "c").write_bytes(b"y" * 400)
    _, saved = left.pack(max_bytes=1000)
    assert (saved.files, saved.bytes) == (2, 1000)
    assert [(item.path, item.reason) for item in saved.skipped] == [("b", "too_large")]
    assert fresh.fill(Fill.from_sandbox(left), max_bytes=1000).skipped == saved.skipped
    assert sorted(seen(fresh.path)) == ["a", "c", "outputs"]


def test_no_more_entries_than_asked_for_are_packed(left: Held) -> None:
    for number in range(9):
        (left.path / str(number)).mkdir()
    _, saved = left.pack(max_files=4)
    assert (saved.files, len(saved.skipped)) == (4, 5)
    assert {item.reason for item in saved.skipped} == {"too_many"}


@pytest.mark.parametrize("way", WAYS)
def test_a_hole_stays_a_hole(left: Held, fresh: Held, way: str) -> None:
    size = 8 * MIB
    with (left.path / "sparse").open("wb") as target:
        target.truncate(size)
        target.seek(MIB * 3)
        target.write(b"in the middle")
    left.pack(max_bytes=size)
    fill = from_bytes(left.packed) if way == "an archive" else Fill.from_sandbox(left)
    fresh.fill(fill, max_bytes=size)
    assert (fresh.path / "sparse").read_bytes() == (left.path / "sparse").read_bytes()
    assert (fresh.path / "sparse").stat().st_blocks * 512 < MIB


def test_outputs_gives_way_to_what_the_tree_has_there(left: Held, fresh: Held) -> None:
    (left.path / "outputs").symlink_to("/etc")
    fresh.fill(Fill.from_sandbox(left))
    assert (fresh.path / "outputs").is_symlink()


HOSTILE: dict[str, bytes] = {
    "an absolute path": archive(("/x", FILE, b"evil")),
    "a climbing path": archive(("../x", FILE, b"evil")),
    "a climbing path inside": archive(("a/../../x", FILE, b"evil")),
    "a parent that stays inside": archive(("a", DIR, b""), ("a/../b", FILE, b"evil")),
    "a file through a link": archive(("d", LINK, ".."), ("d/x", FILE, b"evil")),
    "a file through a link that comes after": archive(("d/x", FILE, b"evil"), ("d", LINK, "..")),
    "a directory through a link": archive(("d", LINK, ".."), ("d/e", DIR, b""), ("d/e/x", FILE, b"evil")),
    "a link through a link": archive(("d", LINK, ".."), ("d/x", LINK, "canary")),
    "a file over a link": archive(("d", LINK, "../canary"), ("d", FILE, b"evil")),
    "a link over a file": archive(("d", FILE, b""), ("d", LINK, "../canary")),
    "one file twice": archive(("d", FILE, b"a"), ("./d", FILE, b"b")),
    "one directory twice": archive(("d", DIR, b""), ("d/", DIR, b"")),
    "a file below a file": archive(("d", FILE, b""), ("d/x", FILE, b"")),
    "a hard link": archive(("d", FILE, b""), ("e", HARD, "d")),
    "a hard link out": archive(("e", HARD, "../canary")),
    "a character device": archive(("d", tarfile.CHRTYPE, b"")),
    "a block device": archive(("d", tarfile.BLKTYPE, b"")),
    "a pipe": archive(("d", tarfile.FIFOTYPE, b"")),
    "a name with a line break": archive(("a\nb", FILE, b"")),
    "a name that is too long": archive(("x" * 256, FILE, b"")),
    "a path too deep": archive(("x/" * 70 + "y", FILE, b"")),
    "an empty link": archive(("d", LINK, "")),
    "a link to a line break": archive(("d", LINK, "a\nb")),
    "a link too long": archive(("d", LINK, "x" * 5000)),
    "a link in place of the root": archive((".", LINK, "/etc")),
    "more than there is room for": archive(("d", FILE, b"x" * (MIB + 1))),
    "more than there is room for in sum": archive(*((str(n), FILE, b"x" * (MIB // 2)) for n in range(3))),
    "an archive that is cut": archive(("d", FILE, b"x" * 2000))[:1500],
    "no archive": b"x" * 5000,
    "nothing": b"",
    "a packed archive": gzip.compress(archive(("d", FILE, b""))),
}  # fmt: skip


def _claiming(kind: bytes, size: int) -> bytes:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, size
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(4096)


def _commented(size: int) -> bytes:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, size
    comment = b"%d comment=" % size
    return header.tobuf() + comment + b"x" * (size - len(comment) - 1) + b"\n" + archive(("d", FILE, b""))


HOSTILE |= {
    "a giant that is not there": _claiming(FILE, 1 << 50),
    "an extended header without end": _claiming(tarfile.XHDTYPE, 1 << 40),
    "a giant extended header": _commented(2 << 20),
    "a sparse member": _claiming(tarfile.GNUTYPE_SPARSE, 1 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_lies_outside(fresh: Held, tmp_path: Path, name: str) -> None:
    with pytest.raises(TreeInvalid):
        fresh.fill(from_bytes(HOSTILE[name]))
    assert (tmp_path / "canary").read_text() == "untouched"
    assert {path.name for path in tmp_path.iterdir()} == {"fresh", "canary"}


def test_more_entries_than_the_bound_are_refused(fresh: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry.engines.jail.planting.MOST_ENTRIES", 3)
    with pytest.raises(TreeInvalid, match="more than 3 entries"):
        fresh.fill(from_bytes(archive(*((f"{n}", DIR, b"") for n in range(4)))))
    with pytest.raises(TreeInvalid, match="more than 3 entries"):
        fresh.fill(from_bytes(archive(("a/b/c/d/e", FILE, b""))))


def test_links_come_to_be_after_everything_else(fresh: Held) -> None:
    fresh.fill(from_bytes(archive(("a", LINK, "b"), ("b", DIR, b""), ("b/x", FILE, b"x"), mode=0o755)))
    assert (fresh.path / "a/x").read_bytes() == b"x"
    assert (fresh.path / "a").is_symlink()


def test_a_parent_that_is_not_listed_is_made(fresh: Held) -> None:
    fresh.fill(from_bytes(archive(("a/b/c", FILE, b"x"), ("a", DIR, b""), mode=0o750)))
    assert (fresh.path / "a/b/c").read_bytes() == b"x"
    assert stat.S_IMODE((fresh.path / "a").stat().st_mode) == 0o750


def test_an_archive_may_come_from_a_path(left: Held, fresh: Held, tmp_path: Path) -> None:
    (left.path / "a").write_text("a")
    (tmp_path / "saved.tar").write_bytes(packed(left))
    fresh.fill(Fill.from_archive(tmp_path / "saved.tar"))
    assert (fresh.path / "a").read_text() == "a"


def test_no_descriptor_is_left_open(left: Held, fresh: Held) -> None:
    furnish(left.path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(TreeInvalid):
        fresh.fill(from_bytes(archive(("e", HARD, "d"))))
    (fresh.path / "outputs").mkdir(exist_ok=True)
    fresh.fill(Fill.from_sandbox(left))
    with pytest.raises(OSError, match="not empty"):
        fresh.fill(Fill.from_sandbox(left))
    assert os.listdir("/proc/self/fd") == before


NAMES = st.sampled_from(
    ["a", "b", "outputs", "..", ".", "", "/", "a/b", "b/a", "a/b/c", "../canary", "/canary", "b/.."]
)
KINDS = st.sampled_from([DIR, FILE, LINK, HARD, tarfile.FIFOTYPE])
MEMBERS = st.lists(st.tuples(NAMES, KINDS, NAMES, st.integers(0, 0o7777)), max_size=8)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arena")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=MEMBERS)
def test_no_archive_reaches_outside_and_what_is_taken_can_be_carried_on(
    arena: Path, members: list[tuple[str, bytes, str, int]]
) -> None:
    place = arena / "case"
    shutil.rmtree(place, ignore_errors=True)
    fresh, again = Held(place / "fresh"), Held(place / "again")
    for held in (fresh, again):
        (held.path / "outputs").mkdir(parents=True)
    (place / "canary").write_text("untouched")
    content = b"".join(
        archive((name, kind, target if kind in (LINK, HARD) else b"x" * (kind == FILE)), mode=mode)[:-10240]
        for name, kind, target, mode in members
    )
    try:
        fresh.fill(from_bytes(content + bytes(10240)))
    except TreeInvalid:
        pass
    else:
        again.fill(Fill.from_sandbox(fresh))
        assert seen(again.path) == seen(fresh.path)
    assert (place / "canary").read_text() == "untouched"
    assert {path.name for path in place.iterdir()} == {"fresh", "again", "canary"}
    for entry in seen(fresh.path).values():
        assert not entry[2] & 0o7000
