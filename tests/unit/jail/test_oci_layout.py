"""Image layouts: what they name is proven, and what cannot be is refused with nothing left behind."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.oci import (
    GZIP,
    INDEX,
    MANIFEST,
    TAR,
    ZSTD,
    Made,
    descriptor,
    digest,
    layer_of,
    layout_files,
    make_image,
    make_index,
    write_layout,
)

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.oci import machine_platform
from tenantry.engines.jail.tree import Caps

Files = dict[str, bytes]
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
OTHER = ("linux", "s390x")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def tar_of(files: Files, *extra: tarfile.TarInfo) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return held.getvalue()


def packed(files: Files, tmp_path: Path) -> Path:
    (tmp_path / "layout.tar").write_bytes(tar_of(files))
    return tmp_path / "layout.tar"


def refuse(store: ImageStore, source: Path, code: str, caps: Caps | None = None) -> str:
    with pytest.raises(ImageInvalid) as refused:
        store.import_oci_layout(source, caps=caps)
    assert refused.value.code == code
    assert store.list() == ()
    assert list((source.parent / "images/.incoming").iterdir()) == []
    return refused.value.message


def tiny(*, docker: bool = False, packing: str = "gzip") -> Made:
    layers = layer_of({"a": b"1", "b": b"2"}), layer_of({"a": b"new", ".wh.b": b""})
    return make_image(*layers, docker=docker, packing=packing)


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("form", ["tar", "directory"])
def test_a_layout_is_unpacked_and_named_by_its_index(
    store: ImageStore, tmp_path: Path, form: str, *, docker: bool
) -> None:
    made = tiny(docker=docker)
    files = layout_files(made)
    source = packed(files, tmp_path) if form == "tar" else write_layout(files, tmp_path / "layout")
    image = store.import_oci_layout(source)
    assert (image.digest, dict(image.env), image.workdir) == (made.digest, {"FROM_IMAGE": "yes"}, "/")
    assert (image.path / "a").read_bytes() == b"new"
    assert not (image.path / "b").exists()


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("packing", ["none", "gzip", "zstd"])
def test_layers_are_taken_however_they_are_packed(
    store: ImageStore, tmp_path: Path, packing: str, *, docker: bool
) -> None:
    image = store.import_oci_layout(packed(layout_files(tiny(packing=packing, docker=docker)), tmp_path))
    assert (image.path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("docker", [False, True])
def test_of_several_machines_the_one_at_hand_is_taken(store: ImageStore, tmp_path: Path, *, docker: bool) -> None:
    ours = make_image(layer_of({"whose": b"ours"}))
    theirs = make_image(layer_of({"whose": b"theirs"}), platform=OTHER)
    index = make_index([(theirs, OTHER), (ours, machine_platform())], docker=docker)
    image = store.import_oci_layout(packed(layout_files(index), tmp_path))
    assert (image.path / "whose").read_bytes() == b"ours"
    assert image.digest == index.digest, "what people write behind @"


def test_what_is_for_another_machine_is_refused(store: ImageStore, tmp_path: Path) -> None:
    theirs = make_image(layer_of({"a": b"1"}), platform=OTHER)
    said = refuse(store, packed(layout_files(make_index([(theirs, OTHER)])), tmp_path), "image_platform_unsupported")
    assert "linux/s390x" in said
    refuse(store, packed(layout_files(theirs), tmp_path), "image_platform_unsupported")


def test_an_index_below_an_index_below_an_index_is_refused(store: ImageStore, tmp_path: Path) -> None:
    inner = make_index([(tiny(), machine_platform())])
    outer = make_index([(inner, machine_platform())])
    refuse(store, packed(layout_files(outer), tmp_path), "image_manifest_malformed")


def test_a_layout_of_several_images_is_not_chosen_from(store: ImageStore, tmp_path: Path) -> None:
    one, two = tiny(), make_image(layer_of({"z": b"z"}))
    listed = [descriptor(each.top, each.top_type) for each in (one, two)]
    files = layout_files(one, manifests=listed) | layout_files(two, manifests=listed)
    refuse(store, packed(files, tmp_path), "image_ambiguous")


def _with(made: Made, change: Callable[[dict[str, object]], object]) -> Made:
    """The image with another manifest."""
    manifest = json.loads(made.top)
    change(manifest)
    made.top = json.dumps(manifest).encode()
    made.manifests = {made.digest: (made.top, made.top_type)}
    return made


def _first_layer(**fields: object) -> Callable[[dict[str, object]], object]:
    return lambda manifest: manifest["layers"][0].update(fields)  # type: ignore[index]


HOSTILE: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    "digest-that-climbs": (_first_layer(digest="sha256:../../../../etc/passwd"), "image_digest_malformed"),
    "digest-of-another-kind": (_first_layer(digest="md5:" + "0" * 32), "image_digest_malformed"),
    "digest-in-upper-case": (_first_layer(digest="sha256:" + "A" * 64), "image_digest_malformed"),
    "digest-that-is-absent": (_first_layer(digest="sha256:" + "0" * 64), "image_blob_missing"),
    "a-size-too-small": (_first_layer(size=1), "image_size_mismatch"),
    "a-size-too-large": (_first_layer(size=1 << 20), "image_size_mismatch"),
    "a-size-below-zero": (_first_layer(size=-1), "image_manifest_malformed"),
    "a-size-of-truth": (_first_layer(size=True), "image_manifest_malformed"),
    "another-packing": (_first_layer(mediaType=f"{TAR}+lz4"), "image_layer_unsupported"),
    "zstd-that-is-gzip": (_first_layer(mediaType=ZSTD), "image_layer_unsupported"),
    "elsewhere": (_first_layer(mediaType=FOREIGN), "image_layer_unsupported"),
    "packed-and-not": (_first_layer(mediaType=TAR), "image_layer_unsupported"),
    "fewer-layers": (lambda manifest: manifest["layers"].pop(), "image_manifest_malformed"),  # type: ignore[attr-defined]
    "more-layers": (lambda manifest: manifest["layers"].append(manifest["layers"][0]), "image_manifest_malformed"),  # type: ignore[index,attr-defined]
    "swapped-layers": (lambda manifest: manifest["layers"].reverse(), "image_digest_mismatch"),  # type: ignore[attr-defined]
    "an-index-too": (lambda manifest: manifest.update(manifests=[]), "image_manifest_malformed"),
    "a-config-too": (lambda manifest: manifest.update(rootfs={"diff_ids": []}), "image_manifest_malformed"),
    "another-schema": (lambda manifest: manifest.update(schemaVersion=1), "image_manifest_malformed"),
    "another-type": (lambda manifest: manifest.update(mediaType=INDEX), "image_manifest_malformed"),
    "no-config": (lambda manifest: manifest.pop("config"), "image_manifest_malformed"),
    "layers-without-end": (
        lambda manifest: manifest.update(layers=manifest["layers"] * 200),  # type: ignore[operator]
        "image_manifest_malformed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_manifest_that_lies_is_refused(store: ImageStore, tmp_path: Path, kind: str) -> None:
    change, code = HOSTILE[kind]
    message = refuse(store, packed(layout_files(_with(tiny(), change)), tmp_path), code)
    if kind == "another-packing":
        assert "compression=zstd" in message


def test_a_part_that_is_not_what_it_is_called_is_refused(store: ImageStore, tmp_path: Path) -> None:
    made = tiny()
    for content in [*made.blobs.values(), made.top]:
        files = layout_files(made)
        swapped = bytes([content[0] ^ 1]) + content[1:]
        files[f"blobs/{digest(content).replace(':', '/')}"] = swapped
        refuse(store, packed(files, tmp_path), "image_digest_mismatch")


def test_a_part_larger_than_the_cap_is_refused(store: ImageStore, tmp_path: Path) -> None:
    made = make_image(layer_of({"a": os.urandom(1 << 16)}))
    refuse(store, packed(layout_files(made), tmp_path), "image_archive_malformed", Caps(bytes=1 << 12))
    layout = write_layout(layout_files(made), tmp_path / "layout")
    for part in layout.glob("blobs/sha256/*"):
        if part.stat().st_size > 1 << 12:
            part.write_bytes(b"never read")
    refuse(store, layout, "image_too_large", Caps(bytes=1 << 12))
    bomb = make_image(layer_of({"a": bytes(4 << 20)}))
    refuse(store, packed(layout_files(bomb), tmp_path), "image_too_large", Caps(bytes=1 << 20))


@pytest.mark.parametrize("missing", ["oci-layout", "index.json"])
def test_a_tar_that_is_no_layout_is_refused(store: ImageStore, tmp_path: Path, missing: str) -> None:
    files = layout_files(tiny())
    del files[missing]
    refuse(store, packed(files, tmp_path), "image_blob_missing")


@pytest.mark.parametrize(
    "index",
    [
        *(b"", b"[]", b"{", b"[" * 100_000, b'{"schemaVersion": 2}', b'{"schemaVersion": 2, "manifests": [1]}'),
        b'{"schemaVersion": 2, "schemaVersion": 2, "manifests": []}',
    ],
)
def test_an_index_of_no_sense_is_refused(store: ImageStore, tmp_path: Path, index: bytes) -> None:
    refuse(store, packed(layout_files(tiny()) | {"index.json": index}, tmp_path), "image_manifest_malformed")


def test_an_index_of_nothing_offers_nothing(store: ImageStore, tmp_path: Path) -> None:
    refuse(store, packed(layout_files(tiny(), manifests=[]), tmp_path), "image_platform_unsupported")
    listed = [descriptor(b"x", "application/vnd.cncf.helm.config.v1+json")]
    refuse(store, packed(layout_files(tiny(), manifests=listed), tmp_path), "image_platform_unsupported")


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "extra",
    [
        _link("blobs/sha256/x", "/etc/passwd"),
        _link("blobs/sha256/x", "index.json", tarfile.LNKTYPE),
        _link("x", "", tarfile.CHRTYPE),
        tarfile.TarInfo("index.json"),
        tarfile.TarInfo("./index.json"),
    ],
    ids=["link", "hard-link", "device", "twice", "twice-otherwise-written"],
)
def test_a_tar_with_links_or_twice_the_same_is_refused(
    store: ImageStore, tmp_path: Path, extra: tarfile.TarInfo
) -> None:
    (tmp_path / "layout.tar").write_bytes(tar_of(layout_files(tiny()), extra))
    refuse(store, tmp_path / "layout.tar", "image_archive_malformed")


def test_a_tar_that_climbs_is_refused(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "layout.tar").write_bytes(tar_of(layout_files(tiny()) | {"../x": b"x"}))
    refuse(store, tmp_path / "layout.tar", "image_path_unsafe")


def test_no_link_of_a_directory_is_followed(store: ImageStore, tmp_path: Path) -> None:
    made = tiny()
    for name in layout_files(made):
        layout = write_layout(layout_files(made), tmp_path / f"layout-{len(list(tmp_path.iterdir()))}")
        (layout / name).rename(tmp_path / "elsewhere")
        (layout / name).symlink_to(tmp_path / "elsewhere")
        refuse(store, layout, "image_blob_missing")
    layout = write_layout(layout_files(made), tmp_path / "layout-of-links")
    (layout / "blobs").rename(tmp_path / "blobs")
    (layout / "blobs").symlink_to(tmp_path / "blobs")
    refuse(store, layout, "image_blob_missing")
    pipes = write_layout(layout_files(made), tmp_path / "pipes")
    (pipes / "index.json").unlink()
    os.mkfifo(pipes / "index.json")
    refuse(store, pipes, "image_blob_missing")


def test_media_types_are_those_of_the_specification() -> None:
    assert (MANIFEST, INDEX, GZIP) == (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    )
