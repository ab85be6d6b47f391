"""Every archive here is one somebody might import; the hostile ones must leave nothing behind."""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tenantry.engines.jail.errors import ImageInvalid, ImageNotFound
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.tree import Caps

Entry = tuple[str, str, bytes | str]  # path, kind, content or target


def tar_of(
    entries: list[Entry], *, mode: int = 0o755, change: Callable[[tarfile.TarInfo], None] | None = None
) -> bytes:
    held = io.BytesIO()
    kinds = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
             "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE}  # fmt: skip
    with tarfile.open(fileobj=held, mode="w") as archive:
        for path, kind, content in entries:
            member = tarfile.TarInfo(path)
            member.type, member.mode = kinds[kind], mode
            body = content if isinstance(content, bytes) else b""
            member.size = len(body)
            if isinstance(content, str):
                member.linkname = content
            if change:
                change(member)
            archive.addfile(member, io.BytesIO(body))
    return held.getvalue()


def docker_archive(
    *layers: bytes, diff_ids: list[str] | None = None, config_name: str = "", pack: bool = False
) -> io.BytesIO:
    ids = diff_ids or [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    settings = {"Env": ["PATH=/bin", "A=b=c"], "WorkingDir": "/app"}
    config = json.dumps({"config": settings, "rootfs": {"type": "layers", "diff_ids": ids}}).encode()
    name = config_name or f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": name, "RepoTags": ["tool:1"], "Layers": names}]).encode()
    packed = [gzip.compress(layer) if pack else layer for layer in layers]
    files: list[Entry] = [("manifest.json", "file", manifest), (name, "file", config)]
    files += [(path, "file", body) for path, body in zip(names, packed, strict=True)]
    return io.BytesIO(tar_of(files))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def refuse(store: ImageStore, archive: io.BytesIO, code: str, tmp_path: Path, caps: Caps | None = None) -> None:
    with pytest.raises(ImageInvalid) as refused:
        store.import_docker_archive(archive, caps=caps)
    assert refused.value.code == code
    assert store.list() == ()
    assert list((tmp_path / "images/.incoming").iterdir()) == []


def test_layers_are_applied_in_order_and_named_by_the_config(store: ImageStore) -> None:
    image = store.import_docker_archive(
        docker_archive(
            tar_of([("bin", "dir", b""), ("bin/a", "file", b"old"), ("bin/b", "file", b"gone"), ("d/x", "file", b"x")]),
            tar_of(
                [
                    ("bin/a", "file", b"new"),
                    ("bin/.wh.b", "file", b""),
                    ("d/.wh..wh..opq", "file", b""),
                    ("d/y", "file", b""),
                ]
            ),
        )
    )
    assert (image.path / "bin/a").read_bytes() == b"new"
    assert not (image.path / "bin/b").exists()
    assert os.listdir(image.path / "d") == ["y"]
    assert (image.name, dict(image.env), image.workdir) == ("tool:1", {"PATH": "/bin", "A": "b=c"}, "/app")
    assert store.resolve(image.digest) == image
    assert store.list() == (image,)


def test_packed_layers_and_a_path_are_taken(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(docker_archive(tar_of([("a", "file", b"1")]), pack=True).getvalue())
    assert (store.import_docker_archive(tmp_path / "a.tar").path / "a").read_bytes() == b"1"


def test_mount_points_and_etc_files_are_made_whatever_the_image_has_there(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/hosts").write_text("host's own")
    layer = tar_of([
        ("etc", "link", "/" + str(tmp_path / "outside").lstrip("/")), ("proc", "link", "/etc"),
        ("workspace/x", "file", b"1"),
        ("outputs", "link", "/etc"), ("tmp", "file", b"not a directory"),
    ])  # fmt: skip
    root = store.import_docker_archive(docker_archive(layer)).path
    assert (tmp_path / "outside/hosts").read_text() == "host's own"
    for name in ("proc", "dev", "tmp", "run", "workspace", "inputs", "etc"):
        assert stat.S_ISDIR((root / name).lstat().st_mode), name
    assert list((root / "workspace").iterdir()) == []
    assert os.readlink(root / "outputs") == "workspace/outputs"
    assert "sandbox:x:1000" in (root / "etc/passwd").read_text()
    assert "127.0.0.1" in (root / "etc/resolv.conf").read_text()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a/../b", "x/" * 200 + "y"])
def test_a_path_that_climbs_is_refused(store: ImageStore, tmp_path: Path, path: str) -> None:
    refuse(store, docker_archive(tar_of([(path, "file", b"evil")])), "image_path_unsafe", tmp_path)
    assert not (tmp_path / "images/.incoming/x").exists()


def test_nothing_is_written_through_a_link(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    for target in (str(tmp_path / "target"), "d2"):
        layer = tar_of([("d2", "dir", b""), ("d", "link", target), ("d/evil", "file", b"evil")])
        refuse(store, docker_archive(layer), "image_path_unsafe", tmp_path)
    assert list((tmp_path / "target").iterdir()) == []


def test_a_file_replaces_a_link_and_does_not_follow_it(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    layer = tar_of([("a", "link", str(tmp_path / "target")), ("a", "file", b"evil")])
    root = store.import_docker_archive(docker_archive(layer)).path
    assert (tmp_path / "target").read_text() == "mine"
    assert (root / "a").read_bytes() == b"evil"


@pytest.mark.parametrize("target", ["..", "../..", "../x", "a/../../x", "a/b/../../../x"])
def test_a_link_out_of_the_image_is_refused(store: ImageStore, tmp_path: Path, target: str) -> None:
    refuse(store, docker_archive(tar_of([("l", "link", target)])), "image_link_unsafe", tmp_path)


def test_links_inside_the_image_are_kept(store: ImageStore) -> None:
    layer = tar_of(
        [
            ("usr/lib/a", "file", b"1"),
            ("lib", "link", "usr/lib"),
            ("usr/bin/x", "link", "../lib/a"),
            ("y", "link", "/usr/lib/a"),
        ]
    )
    root = store.import_docker_archive(docker_archive(layer)).path
    assert (root / "usr/bin/x").read_bytes() == b"1"
    assert os.readlink(root / "y") == "/usr/lib/a"


def test_hard_links_are_to_files_of_the_image_only(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for entries in (
        [("h", "hard", "../../secret")],
        [("h", "hard", str(tmp_path / "secret"))],
        [("h", "hard", "absent")],
        [("d", "dir", b""), ("h", "hard", "d")],
        [("l", "link", str(tmp_path)), ("h", "hard", "l/secret")],
        [("l", "link", str(tmp_path / "secret")), ("h", "hard", "l")],
        [("h", "hard", "h")],
    ):
        with pytest.raises(ImageInvalid):
            store.import_docker_archive(docker_archive(tar_of(entries)))  # type: ignore[arg-type]
    root = store.import_docker_archive(docker_archive(tar_of([("a", "file", b"1"), ("b", "hard", "a")]))).path
    assert (root / "a").stat().st_ino == (root / "b").stat().st_ino


def test_devices_and_pipes_are_left_out_and_special_bits_stripped(store: ImageStore) -> None:
    layer = tar_of(
        [("null", "char", b""), ("disk", "block", b""), ("pipe", "pipe", b""), ("su", "file", b"x"), ("d", "dir", b"")],
        mode=0o7777,
    )
    root = store.import_docker_archive(docker_archive(layer)).path
    assert not {"null", "disk", "pipe"} & set(os.listdir(root))
    assert stat.S_IMODE((root / "su").stat().st_mode) & (stat.S_ISUID | stat.S_ISGID) == 0
    assert stat.S_IMODE((root / "d").stat().st_mode) & (stat.S_ISUID | stat.S_ISGID) == 0


def test_a_whiteout_removes_no_more_than_its_name(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    lower = tar_of([("d", "link", str(tmp_path / "keep")), ("e/f", "file", b"")])
    root = store.import_docker_archive(
        docker_archive(lower, tar_of([(".wh.d", "file", b""), ("no/.wh.x", "file", b"")]))
    ).path
    assert (tmp_path / "keep").is_dir()
    assert not (root / "d").is_symlink()
    for name in (".wh...", ".wh..", ".wh."):
        with pytest.raises(ImageInvalid):
            store.import_docker_archive(docker_archive(lower, tar_of([(f"e/{name}", "file", b"")])))


def test_a_layer_that_is_not_what_the_config_says_is_refused(store: ImageStore, tmp_path: Path) -> None:
    refuse(
        store,
        docker_archive(tar_of([("a", "file", b"")]), diff_ids=["sha256:" + "0" * 64]),
        "image_digest_mismatch",
        tmp_path,
    )


def test_a_config_that_is_not_what_its_name_says_is_refused(store: ImageStore, tmp_path: Path) -> None:
    refuse(
        store,
        docker_archive(tar_of([("a", "file", b"")]), config_name="0" * 64 + ".json"),
        "image_digest_mismatch",
        tmp_path,
    )


def test_bombs_are_refused(store: ImageStore, tmp_path: Path) -> None:
    zeros = tar_of([("a", "file", bytes(4 << 20))])
    refuse(store, docker_archive(zeros, pack=True), "image_too_large", tmp_path, Caps(bytes=1 << 20))
    many = tar_of([(f"f{number}", "file", b"") for number in range(50)])
    refuse(store, docker_archive(many), "image_too_many_files", tmp_path, Caps(files=20))
    padding = gzip.compress(tar_of([]) + bytes(8 << 20))
    assert len(padding) < 1 << 16
    refuse(
        store, docker_archive(tar_of([]) + bytes(8 << 20), pack=True), "image_too_large", tmp_path, Caps(bytes=1 << 20)
    )


def test_a_giant_extended_header_is_not_read_into_memory(store: ImageStore, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2 << 20
    record = b"2097152 comment=" + b"x" * ((2 << 20) - 17) + b"\n"
    layer = header.tobuf() + record + tar_of([("a", "file", b"")])
    refuse(store, docker_archive(layer, pack=True), "image_archive_malformed", tmp_path)
    header.size = 1 << 40
    refuse(store, docker_archive(header.tobuf() + bytes(1024)), "image_archive_malformed", tmp_path)


@pytest.mark.parametrize("name", ["tmp/x", ".wh.x", "x"])
@pytest.mark.parametrize("size", [1 << 40, 1 << 60])
@pytest.mark.timeout(20)
def test_a_member_that_claims_what_is_not_there_is_not_skipped_block_by_block(
    store: ImageStore, tmp_path: Path, name: str, size: int
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.size = b"Z", size
    refuse(store, docker_archive(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)), "image_archive_malformed", tmp_path)


@pytest.mark.parametrize("cut", [0, 10, 600, 1500])
def test_a_broken_archive_is_refused(store: ImageStore, tmp_path: Path, cut: int) -> None:
    whole = docker_archive(tar_of([("a", "file", b"1" * 5000)])).getvalue()
    refuse(store, io.BytesIO(whole[:cut]), "image_archive_malformed", tmp_path)


@pytest.mark.parametrize(
    "manifest", [b"", b"{}", b"[]", b"[1]", b"[" * 100_000, b'[{"Config": "x"}]', b'[{"Layers": 1}]']
)
def test_a_manifest_of_no_sense_is_refused(store: ImageStore, tmp_path: Path, manifest: bytes) -> None:
    refuse(store, io.BytesIO(tar_of([("manifest.json", "file", manifest)])), "image_archive_malformed", tmp_path)


def test_a_directory_is_named_by_its_content(store: ImageStore, tmp_path: Path) -> None:
    source = tmp_path / "root"
    (source / "bin").mkdir(parents=True)
    (source / "bin/a").write_text("1")
    os.mkfifo(source / "pipe")
    one = store.import_directory(source, name="mine")
    assert store.import_directory(source).digest == one.digest
    (source / "bin/a").write_text("2")
    assert store.import_directory(source).digest != one.digest
    assert (one.path / "bin/a").read_text() == "1"


def test_an_imported_image_cannot_call_itself_host(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    image = store.import_directory(tmp_path / "root", name="host")
    assert image.name != "host"
    assert image.binds == ()


def test_the_host_image_shows_programs_and_nothing_private(store: ImageStore) -> None:
    image = store.host()
    targets = {bind.target for bind in image.binds}
    assert "/usr" in targets
    assert targets <= {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ssl", "/etc/pki",
                       "/etc/alternatives", "/etc/ld.so.cache"}  # fmt: skip
    assert store.host() == image
    assert store.resolve(image.digest).name == "host"


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../../etc", "sha256:" + "g" * 64, "sha256:" + "0" * 64, "host"]
)
def test_an_unknown_or_malformed_digest_is_not_found(store: ImageStore, digest: str) -> None:
    for verb in (store.resolve, store.remove):
        with pytest.raises(ImageNotFound):
            verb(digest)


def test_a_removed_image_is_gone(store: ImageStore) -> None:
    image = store.import_docker_archive(docker_archive(tar_of([("a", "file", b"1")])))
    store.remove(image.digest)
    assert not image.path.exists()
    with pytest.raises(ImageNotFound):
        store.resolve(image.digest)


def test_an_import_that_died_is_swept_and_one_that_runs_is_not(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "images/.incoming/dead/rootfs").mkdir(parents=True)
    with store._staging() as alive:
        ImageStore(tmp_path / "images")
        assert alive.is_dir()
    assert list((tmp_path / "images/.incoming").iterdir()) == []
