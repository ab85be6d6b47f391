"""Archives that are small and would take much: memory of whoever imports them, inodes, time."""

import gzip
import io
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.unit.jail.test_images import Entry, docker_archive, tar_of

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.tree import Caps

MIB = 1 << 20
_IMPORT = """
import resource, sys
from pathlib import Path
from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.images import ImageStore

store = ImageStore(Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    print(store.import_directory_archive(Path(sys.argv[1])).digest)
except ImageInvalid as error:
    print(error.code)
"""


def imported_in(mib: int, archive: Path) -> str:
    """Import in a process of its own that may have no more memory than this, and tell the digest or the rule."""
    arguments = (str(archive), str(archive.parent / "apart"), str(mib * MIB))
    ran = subprocess.run([sys.executable, "-c", _IMPORT, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout.strip()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def refuse(store: ImageStore, archive: Path, code: str, caps: Caps | None = None) -> str:
    with pytest.raises(ImageInvalid) as refused:
        store.import_directory_archive(archive, caps=caps)
    assert refused.value.code == code
    assert store.list() == ()
    assert list((archive.parent / "images/.incoming").iterdir()) == []
    return refused.value.message


def packed(place: Path, pieces: Iterator[bytes]) -> Path:
    with gzip.open(place, "wb", 1) as target:
        for piece in pieces:
            target.write(piece)
    return place


def of_zeros(name: str, mib: int) -> Iterator[bytes]:
    member = tarfile.TarInfo(name)
    member.size = mib * MIB
    yield member.tobuf()
    yield from (bytes(MIB) for _ in range(mib))
    yield bytes(1024)


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_accounts_of_an_image_are_not_read_whatever_their_size(store: ImageStore, tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "a.tgz", of_zeros(f"etc/{name}", 256))
    assert archive.stat().st_size < 2 * MIB
    assert imported_in(200, archive) == "image_file_too_large"
    assert f"etc/{name}" in refuse(store, archive, "image_file_too_large")


def test_accounts_of_one_mebibyte_are_taken(store: ImageStore, tmp_path: Path) -> None:
    line = b"user:x:12:12::/:/bin/sh\n"
    content = line * (MIB // len(line))
    root = store.import_directory_archive(packed(tmp_path / "a.tgz", iter([tar_of([("etc/passwd", "file", content)])])))
    lines = (root.path / "etc/passwd").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("root:x:0:0:root:/root:/bin/sh", "sandbox:x:1000:1000:sandbox:/workspace:/bin/sh")
    assert len(lines) == MIB // len(line) + 2


def test_directories_on_the_way_count_as_entries(store: ImageStore, tmp_path: Path) -> None:
    below = "/".join(["a"] * 126)
    deep = tar_of([(f"d{number}/{below}", "file", b"") for number in range(10)])
    archive = packed(tmp_path / "a.tgz", iter([deep]))
    refuse(store, archive, "image_too_many_files", Caps(files=1269))
    store.import_directory_archive(archive, caps=Caps(files=1270))


def test_a_directory_that_many_lie_in_is_counted_and_kept_once(store: ImageStore, tmp_path: Path) -> None:
    """With a tuple for each prefix of each path they would take more than twice what there is."""
    below = "/".join(["aa"] * 120)
    entries = [tarfile.TarInfo(f"{below}/{number}") for number in range(20_000)]
    archive = packed(tmp_path / "a.tgz", (entry.tobuf(tarfile.GNU_FORMAT) for entry in entries))
    assert imported_in(48, archive).startswith("sha256:")
    store.import_directory_archive(archive, caps=Caps(files=20_120))


@pytest.mark.parametrize("kind", ["pipe", "char", "in a mount point", "whiteout", "opaque"])
def test_what_leaves_nothing_counts_as_an_entry_too(store: ImageStore, tmp_path: Path, kind: str) -> None:
    names = {"in a mount point": "tmp/{}", "whiteout": ".wh.{}", "opaque": "{}/.wh..wh..opq"}
    entries: list[Entry] = [
        (names.get(kind, "{}").format(number), kind if kind in {"pipe", "char"} else "file", b"")
        for number in range(50)
    ]
    refuse(store, packed(tmp_path / "a.tgz", iter([tar_of(entries)])), "image_too_many_files", Caps(files=49))


def test_looking_through_an_opaque_directory_again_and_again_counts(store: ImageStore, tmp_path: Path) -> None:
    entries: list[Entry] = [(f"d/{number}", "file", b"") for number in range(100)]
    entries += [("d/.wh..wh..opq", "file", b"")] * 100
    refuse(store, packed(tmp_path / "a.tgz", iter([tar_of(entries)])), "image_too_many_files", Caps(files=5000))


def test_an_opaque_directory_loses_what_lay_below_and_keeps_its_own_before_and_after(store: ImageStore) -> None:
    lower = tar_of([(f"d/{name}", "file", b"old") for name in ("a", "sub/b", "sub/c", "other/e")])
    upper = tar_of([("d/a", "file", b"new"), ("d/sub/b", "file", b"new"), ("d/.wh..wh..opq", "file", b""),
                    ("d/f", "file", b"new"), ("d/sub/g", "file", b"new")])  # fmt: skip
    root = store.import_docker_archive(docker_archive(lower, upper)).path
    found = {str(path.relative_to(root)): path.read_text() for path in (root / "d").rglob("*") if path.is_file()}
    assert found == dict.fromkeys(("d/a", "d/f", "d/sub/b", "d/sub/g"), "new")


def pax(records: Sequence[tuple[str, str]], *, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header as it lies in a tar."""
    header: bytes = tarfile.TarInfo._create_pax_generic_header(dict(records), kind, "utf-8")  # type: ignore[attr-defined]  # no public call writes a header like that
    return header


SPARSE: dict[str, list[tuple[str, str]]] = {
    "0.0": [("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", "1")],
    "0.1": [("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,1,2,3")],
    "1.0": [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")],
    "its size alone": [("GNU.sparse.realsize", str(1 << 60))],
    "its name alone": [("GNU.sparse.name", "../x")],
}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
@pytest.mark.parametrize("form", SPARSE)
def test_sparse_members_are_refused_in_every_form(store: ImageStore, tmp_path: Path, form: str, kind: bytes) -> None:
    following = tar_of([("a", "file", b"1\n" + b"0\n" * 400), ("b", "file", b"")])
    said = refuse(
        store,
        packed(tmp_path / "a.tgz", iter([pax(SPARSE[form], kind=kind), following])),
        "image_archive_malformed",
    )
    assert "sparse" in said


def test_the_map_of_a_sparse_member_is_not_read(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        count = b"%d\n" % (64 * MIB)
        member = tarfile.TarInfo("x")
        member.size = 128 * MIB
        yield pax(SPARSE["1.0"])
        yield member.tobuf()
        yield count + (b"0\n" * MIB)[len(count) :]
        yield from (b"0\n" * (MIB // 2) for _ in range(126))
        yield bytes(1024)

    assert imported_in(200, packed(tmp_path / "a.tgz", pieces())) == "image_archive_malformed"


def _records(number: int, size: int) -> list[tuple[str, str]]:
    return [(f"comment{number}", "x" * size)]


HEADERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "global ones that are kept": lambda: (pax(_records(n, 900_000), kind=tarfile.XGLTYPE) for n in range(100)),
    "one before another": lambda: (pax(_records(n, 900_000)) for n in range(100)),
    "long names before long names": lambda: (
        tarfile.TarInfo._create_gnu_long_header("x" * 900_000, tarfile.GNUTYPE_LONGNAME, "utf-8", "strict")  # type: ignore[attr-defined]  # no public call writes a header like that
        for _ in range(100)
    ),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_extended_headers_are_bounded_together(store: ImageStore, tmp_path: Path, kind: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield from HEADERS[kind]()
        yield tar_of([("a", "file", b"")])

    archive = packed(tmp_path / "a.tgz", pieces())
    assert imported_in(60, archive) == "image_archive_malformed"
    assert "extended headers" in refuse(store, archive, "image_archive_malformed")


def test_many_members_with_extended_headers_of_their_own_are_taken(store: ImageStore, tmp_path: Path) -> None:
    entries = b"".join(pax(_records(n, 400_000)) + tarfile.TarInfo(f"f{n}").tobuf() for n in range(5))
    root = store.import_directory_archive(packed(tmp_path / "a.tgz", iter([entries, bytes(1024)])))
    assert len(list(root.path.glob("f?"))) == 5


def test_an_archive_of_an_image_that_names_one_file_again_and_again_is_refused(tmp_path: Path) -> None:
    many = tar_of([("a", "file", b"")] * 5000)
    with pytest.raises(ImageInvalid) as refused:
        ImageStore(tmp_path / "images").import_docker_archive(io.BytesIO(many))
    assert (refused.value.code, "too many" in refused.value.message) == ("image_archive_malformed", True)


def test_the_bound_of_these_tests_is_one() -> None:
    """A process with so little cannot hold what these archives would make it hold."""
    held = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (48 << 20, -1)); bytearray(64 << 20)"
    ran = subprocess.run([sys.executable, "-c", held], capture_output=True, text=True, check=False)
    assert "MemoryError" in ran.stderr, resource.getrlimit(resource.RLIMIT_DATA)
