"""Whatever a tar says, it is unpacked below its root or refused by a rule: no other error, nothing anywhere else."""

import contextlib
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oci import PACKINGS, digest, layout_files, make_image, write_layout
from tests.zstd_library import zstd

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.tree import Caps

CAPS = Caps(bytes=1 << 20, files=200, file_bytes=1 << 19)
KINDS = [
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
    *(tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, b"Z"),
]
NAMES = ["a", "b", "etc", "..", ".", "", "tmp", "proc", "\udcff", "x" * 255, "x" * 256, "é" * 200]
WHITEOUTS = [".wh.a", ".wh.", ".wh...", ".wh..wh..opq"]
PATHS = st.builds(
    "{}{}".format,
    st.sampled_from(["", "/", "./", "../"]),
    st.lists(st.sampled_from(NAMES + WHITEOUTS), max_size=5).map("/".join),
)
PAX = ["path", "size", "mtime", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major", "linkpath"]


@st.composite
def members(draw: st.DrawFn) -> bytes:
    """One member, of whatever kind, with fields that need not fit each other."""
    member = tarfile.TarInfo(draw(PATHS))
    member.type = draw(st.sampled_from(KINDS))
    member.linkname = draw(PATHS)
    member.mode = draw(st.integers(0, 0o7777777))
    member.mtime = draw(st.integers(0, 1 << 60))
    content = draw(st.binary(max_size=1500))
    member.size = draw(st.sampled_from([len(content), 0, 7, 1 << 18, 1 << 40]))
    member.pax_headers = {name: draw(st.text(max_size=20)) for name in draw(st.sets(st.sampled_from(PAX), max_size=2))}
    kind = draw(st.booleans())
    try:
        head = member.tobuf(tarfile.GNU_FORMAT if kind else tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    except (ValueError, UnicodeEncodeError):
        head = tarfile.TarInfo("plain").tobuf()
    return head + content + bytes(-len(content) % 512)


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """Members one after the other, some bytes of them changed, the end cut or not, packed or not."""
    raw = bytearray(b"".join(draw(st.lists(members(), max_size=6))) + bytes(1024))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 8191), st.integers(0, 255)), max_size=3)):
        raw[place % len(raw)] = value
    cut = bytes(raw[: draw(st.sampled_from([len(raw), len(raw) - 1, len(raw) // 2]))])
    return PACKINGS[draw(st.sampled_from(["none", "gzip", "zstd"]))][2](cut)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """What zstd might be: frames, some to be skipped, some begun alone, some bytes changed, the end cut or not."""
    whole, pieces = draw(tars()), []
    for _ in range(draw(st.integers(1, 4))):
        options: dict[int, int] = {zstd.CompressionParameter.checksum_flag: draw(st.integers(0, 1))}
        pieces.append(zstd.compress(whole[: draw(st.integers(0, len(whole)))], options=options))
        pieces.append(draw(st.sampled_from([b"", b"\x50\x2a\x4d\x18\1\0\0\0x", b"\x28\xb5\x2f\xfd", b"\0"])))
    raw = bytearray(b"".join(pieces))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=3)):
        raw[place % len(raw)] = value
    return bytes(raw[: draw(st.sampled_from([len(raw), len(raw) - 1, len(raw) // 2]))])


def unpack(load: Callable[[ImageStore, Path], object]) -> None:
    """Load into a store that has a witness on each side, and see that neither it nor anything else was touched."""
    with TemporaryDirectory(prefix="fuzz-") as folder:
        outer = Path(folder)
        for place in ("images", "witness"):
            (outer / place).mkdir()
        (outer / "witness/a").write_text("untouched")
        store = ImageStore(outer / "images/store")
        with contextlib.suppress(ImageInvalid):
            load(store, outer / "images")
        assert (outer / "witness/a").read_text() == "untouched"
        assert sorted(path.name for path in outer.iterdir()) == ["images", "witness"]
        assert [path.name for path in (outer / "witness").iterdir()] == ["a"]
        assert list((outer / "images/store/.incoming").iterdir()) == []
        left = {path.name for path in (outer / "images").iterdir()}
        assert left <= {"store", "archive", "layout"}
        for image in store.list():
            for path in image.path.rglob("*"):
                assert path.is_symlink() or path.is_dir() or path.is_file(), "nothing but files, directories and links"


def _as_root(raw: bytes) -> Callable[[ImageStore, Path], object]:
    def load(store: ImageStore, folder: Path) -> object:
        (folder / "archive").write_bytes(raw)
        return store.import_directory_archive(folder / "archive", caps=CAPS)

    return load


@settings(max_examples=300, deadline=None)
@given(tars())
def test_any_tar_of_a_root(raw: bytes) -> None:
    unpack(_as_root(raw))


@settings(max_examples=300, deadline=None)
@given(frames())
def test_any_frames_of_a_root(raw: bytes) -> None:
    unpack(_as_root(raw))


@settings(max_examples=150, deadline=None)
@given(tars())
def test_any_tar_of_an_archive(raw: bytes) -> None:
    unpack(lambda store, _: store.import_docker_archive(io.BytesIO(raw), caps=CAPS))


@settings(max_examples=150, deadline=None)
@given(tars())
def test_any_tar_of_a_layout(raw: bytes) -> None:
    def load(store: ImageStore, folder: Path) -> object:
        (folder / "archive").write_bytes(raw)
        return store.import_oci_layout(folder / "archive", caps=CAPS)

    unpack(load)


@settings(max_examples=150, deadline=None)
@given(st.lists(tars(), max_size=3), st.sampled_from(["none", "gzip", "zstd"]))
def test_any_tars_as_layers_of_an_image_that_names_them_rightly(layers: list[bytes], packing: str) -> None:
    made = make_image(*map(unpacked, layers), packing=packing)
    unpack(
        lambda store, folder: store.import_oci_layout(write_layout(layout_files(made), folder / "layout"), caps=CAPS)
    )


@settings(max_examples=200, deadline=None)
@given(tars(), frames(), st.booleans())
def test_any_frames_as_a_layer(layer: bytes, packed: bytes, named_rightly: bool) -> None:
    whole = unpacked(layer)
    made = make_image(whole, packing="zstd", pack=lambda raw: zstd.compress(raw) + packed if named_rightly else packed)
    unpack(
        lambda store, folder: store.import_oci_layout(write_layout(layout_files(made), folder / "layout"), caps=CAPS)
    )


def unpacked(raw: bytes) -> bytes:
    if raw[:2] == b"\x1f\x8b":
        return gzip.decompress(raw)
    return zstd.decompress(raw) if raw[:4] == b"\x28\xb5\x2f\xfd" else raw


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.just(f"sha256:{'../' * 21}."))
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "rootfs"]), VALUES)
def test_any_value_in_a_manifest(name: str, value: object) -> None:
    made = make_image(b"", changes={name: value})
    unpack(
        lambda store, folder: store.import_oci_layout(write_layout(layout_files(made), folder / "layout"), caps=CAPS)
    )


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["schemaVersion", "manifests"]), VALUES)
def test_any_value_in_an_index(name: str, value: object) -> None:
    files = layout_files(make_image(b""), **{name: value})
    unpack(lambda store, folder: store.import_oci_layout(write_layout(files, folder / "layout"), caps=CAPS))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["config", "rootfs", "os", "architecture"]), VALUES)
def test_any_value_in_a_config(name: str, value: object) -> None:
    made = make_image()
    (config,) = made.blobs.values()
    changed = json.dumps(json.loads(config) | {name: value}).encode()
    manifest = json.loads(made.top)
    manifest["config"] |= {"digest": digest(changed), "size": len(changed)}
    again = make_image(changes={"config": manifest["config"]})
    again.put(changed)
    unpack(
        lambda store, folder: store.import_oci_layout(write_layout(layout_files(again), folder / "layout"), caps=CAPS)
    )
