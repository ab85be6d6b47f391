"""Layers packed with zstd: whoever packed them and in however many frames; what is no zstd to its end is refused."""

import hashlib
import io
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.oci import ZSTD, digest, layer_of, layout_files, make_image, write_layout
from tests.zstd_library import zstd

from tenantry.engines.jail.budget import Budget
from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.tree import Caps
from tenantry.engines.jail.zstd_reader import ZstdReader

LAYER = layer_of({"a": b"content" * 5000})
PACKED = zstd.compress(LAYER)
MAGIC = b"\x28\xb5\x2f\xfd"
EMPTY = MAGIC + bytes([0x20, 0, 1, 0, 0])
SKIPPED = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"


def window_frame(log: int, *, said: int = 1) -> bytes:
    """A frame that asks for a window of 2^log bytes and holds `said` times one byte, of 128 KiB at most a block."""
    head = MAGIC + bytes([0, (log - 10) << 3])
    blocks = [min(128 << 10, said - start) for start in range(0, said, 128 << 10)]
    body = [((size << 3) | 2 | (place == len(blocks) - 1)).to_bytes(3, "little") for place, size in enumerate(blocks)]
    return head + b"".join(block + b"x" for block in body)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def load(store: ImageStore, tmp_path: Path, packed: bytes, layer: bytes = LAYER, caps: Caps | None = None) -> bytes:
    made = make_image(layer, packing="zstd", pack=lambda _: packed)
    image = store.import_oci_layout(write_layout(layout_files(made), tmp_path / "layout"), caps=caps)
    return (image.path / "a").read_bytes()


def refuse(store: ImageStore, tmp_path: Path, packed: bytes, code: str, caps: Caps | None = None) -> str:
    with pytest.raises(ImageInvalid) as refused:
        load(store, tmp_path, packed, caps=caps)
    assert refused.value.code == code, refused.value.message
    assert store.list() == ()
    assert list((tmp_path / "images/.incoming").iterdir()) == []
    return refused.value.message


FRAMES: dict[str, bytes] = {
    "one": PACKED,
    "two": zstd.compress(LAYER[:1000]) + zstd.compress(LAYER[1000:]),
    "one-for-each-piece": b"".join(zstd.compress(LAYER[at : at + 100]) for at in range(0, len(LAYER), 100)),
    "something-to-skip-first": SKIPPED + PACKED,
    "something-to-skip-last": PACKED + SKIPPED,
    "empty-ones-between": EMPTY + PACKED + EMPTY * 3,
    "with-a-checksum": zstd.compress(LAYER, options={zstd.CompressionParameter.checksum_flag: 1}),
    "of-unknown-size": zstd.compress(LAYER, options={zstd.CompressionParameter.content_size_flag: 0}),
    "packed-as-far-as-it-goes": zstd.compress(LAYER, 22),
    "of-the-largest-window": zstd.compress(LAYER, options={zstd.CompressionParameter.window_log: 27}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_any_number_of_frames_is_one_layer(store: ImageStore, tmp_path: Path, kind: str) -> None:
    assert load(store, tmp_path, FRAMES[kind]) == b"content" * 5000


def test_a_layer_that_the_zstd_program_packed_is_taken(store: ImageStore, tmp_path: Path) -> None:
    program = shutil.which("zstd")
    if program is None:
        pytest.fail("zstd is not installed: run `scripts/packages.sh`", pytrace=False)
    packed = subprocess.run([program, "-q", "--ultra", "-22", "-c"], input=LAYER, capture_output=True, check=True)
    assert load(store, tmp_path, packed.stdout) == b"content" * 5000


def test_layers_of_docker_save_and_a_root_may_be_packed_with_it(store: ImageStore, tmp_path: Path) -> None:
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(LAYER)]}}).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["tool:1"], "Layers": ["layer.tar"]}]).encode()
    archive = layer_of({"manifest.json": manifest, name: config, "layer.tar": PACKED})
    image = store.import_docker_archive(io.BytesIO(archive))
    assert (image.path / "a").read_bytes() == b"content" * 5000
    (tmp_path / "root.tar.zst").write_bytes(PACKED)
    root = store.import_directory_archive(tmp_path / "root.tar.zst")
    assert (root.path / "a").read_bytes() == b"content" * 5000


BROKEN: dict[str, bytes] = {
    "cut-by-a-byte": PACKED[:-1],
    "cut-in-half": PACKED[: len(PACKED) // 2],
    "nothing-but-a-beginning": MAGIC,
    "rubbish-after-it": PACKED + b"rubbish",
    "zeros-after-it": PACKED + bytes(512),
    "gzip-after-it": PACKED + b"\x1f\x8b\x08" + bytes(15),
    "a-frame-of-before-the-standard-after-it": PACKED + b"\x27\xb5\x2f\xfd" + bytes(50),
    "what-is-to-be-skipped-is-cut": PACKED + SKIPPED[:-1],
    "a-wrong-checksum": FRAMES["with-a-checksum"][:-1] + bytes([FRAMES["with-a-checksum"][-1] ^ 1]),
    "a-dictionary-is-asked-for": MAGIC + bytes([1, 0x58, 7, 1, 0, 0]),
    "a-reserved-block": MAGIC + bytes([0, 0x58, 7, 0, 0]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_zstd_to_its_very_end_is_refused(store: ImageStore, tmp_path: Path, kind: str) -> None:
    refuse(store, tmp_path, BROKEN[kind], "image_archive_malformed")


@pytest.mark.parametrize("log", [28, 31, 41])
def test_a_window_beyond_the_bound_is_refused_by_name(store: ImageStore, tmp_path: Path, log: int) -> None:
    for packed in (window_frame(log), PACKED + window_frame(log)):
        said = refuse(store, tmp_path, packed, "image_layer_unsupported")
        assert "128 MiB" in said
        shutil.rmtree(tmp_path / "layout")
    whole = MAGIC + bytes([0xE0]) + (1 << log).to_bytes(8, "little") + bytes([1, 0, 0])
    assert "128 MiB" in refuse(store, tmp_path, whole, "image_layer_unsupported"), "one segment is its own window"


def test_a_window_takes_memory_only_as_it_fills() -> None:
    program = (
        "import io, resource\n"
        "from tenantry.engines.jail.budget import Budget\n"
        "from tenantry.engines.jail.zstd_reader import ZstdReader\n"
        "from tests.unit.jail.test_zstd_layers import window_frame\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "held = [ZstdReader(io.BytesIO(window_frame(27, said=1 << 20)), Budget(bytes=1)) for _ in range(8)]\n"
        "assert all(reader.read(10) == b'x' * 10 for reader in held)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    # A process of its own: the most memory there has been is never less again.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 << 10, "eight windows of 128 MiB"


def test_bombs_are_refused_before_they_are_unpacked(store: ImageStore, tmp_path: Path) -> None:
    caps = Caps(bytes=8 << 20, file_bytes=8 << 20)
    bomb = window_frame(17, said=1 << 30)
    assert len(bomb) < 64 << 10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    refuse(store, tmp_path, bomb, "image_archive_malformed", caps)  # it is no tar, but that is told last
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 5
    shutil.rmtree(tmp_path / "layout")
    large = zstd.compress(layer_of({"a": bytes(64 << 20)}))
    refuse(store, tmp_path, large, "image_too_large", caps)
    shutil.rmtree(tmp_path / "layout")
    behind = zstd.compress(layer_of({"a": b"1"})) + bomb
    refuse(store, tmp_path, behind, "image_too_large", caps)


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_one_layer_that_is_named_many_times_counts_as_often(store: ImageStore, tmp_path: Path, packing: str) -> None:
    caps = Caps(bytes=4 << 20, file_bytes=4 << 20)
    layer = layer_of({"proc/not-written": bytes(3 << 20)})
    made = make_image(*[layer] * 8, packing=packing)
    with pytest.raises(ImageInvalid) as refused:
        store.import_oci_layout(write_layout(layout_files(made), tmp_path / "layout"), caps=caps)
    assert refused.value.code == "image_too_large"


def test_frames_of_nothing_are_counted() -> None:
    budget = Budget(bytes=100, frames=3)
    assert ZstdReader(io.BytesIO(EMPTY * 3), budget).read(10) == b""
    with pytest.raises(ImageInvalid) as refused:
        ZstdReader(io.BytesIO(EMPTY), budget).read(10)
    assert refused.value.code == "image_too_large"


def test_what_is_unpacked_must_be_what_the_config_says(store: ImageStore, tmp_path: Path) -> None:
    other = zstd.compress(layer_of({"a": b"other"}))
    refuse(store, tmp_path, other, "image_digest_mismatch")


def test_a_layer_that_is_not_packed_as_its_media_type_says_is_refused(store: ImageStore, tmp_path: Path) -> None:
    refuse(store, tmp_path, LAYER, "image_layer_unsupported")
    made = make_image(LAYER, pack=zstd.compress)
    assert ZSTD not in str(made.top)
    with pytest.raises(ImageInvalid) as refused:
        store.import_oci_layout(write_layout(layout_files(made), tmp_path / "gzip"))
    assert refused.value.code == "image_layer_unsupported"


def test_a_server_that_reads_no_such_layer_does_not_load_the_library() -> None:
    program = "import sys, tenantry.engines.jail.images; print('backports.zstd' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
