"""What a root takes is told by a rule, the same on every machine, and an image may be held to the room there is."""

import io
import os
import tarfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.oci import layer_of, layout_files, make_image, write_layout
from tests.unit.jail.test_images import Entry, docker_archive, tar_of

from tenantry.engines.jail.errors import ImageInvalid, ImageTooLarge
from tenantry.engines.jail.images import ImageStore, StagedImage
from tenantry.engines.jail.tree import BLOCK, Caps, stored_bytes

FORMS = ["docker", "oci", "directory"]
ENTRIES: list[Entry] = [("d", "dir", b""), ("d/large", "file", bytes(9000)), ("d/small", "file", b"1"),
                        ("e/f/none", "file", b""), ("link", "link", "d"), ("twice", "hard", "d/large")]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def staged(store: ImageStore, form: str, layer: bytes, caps: Caps | None = None) -> AbstractContextManager[StagedImage]:
    place = store._root.parent
    if form == "docker":
        return store.staged_docker_archive(docker_archive(layer), caps=caps)
    if form == "oci":
        folder = write_layout(layout_files(make_image(layer)), place / f"layout-{len(os.listdir(place))}")
        return store.staged_oci_layout(folder, caps=caps)
    (place / "archive.tar").write_bytes(layer)
    return store.staged_directory_archive(place / "archive.tar", caps=caps)


def left(store: ImageStore) -> list[Path]:
    return [*(store._root / ".incoming").iterdir(), *(store._root / "sha256").iterdir()]


def test_each_entry_takes_whole_blocks_and_a_file_of_several_names_its_content_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    assert stored_bytes(root) == 2 * BLOCK
    for name, size in {"none": 0, "one": 1, "full": BLOCK, "more": BLOCK + 1}.items():
        (root / name).write_bytes(bytes(size))
    assert stored_bytes(root) == (2 + 1 + 1 + 1 + 2) * BLOCK
    (root / "a/link").symlink_to("b")
    (root / "a/b/hard").hardlink_to(root / "more")
    assert stored_bytes(root) == (7 + 1 + 1) * BLOCK
    (root / "gone").symlink_to("/nowhere")
    (root / "a/up").symlink_to("..")
    assert stored_bytes(root) == 11 * BLOCK, "no link is followed"


@pytest.mark.parametrize("form", FORMS)
def test_what_is_admitted_has_the_size_that_was_told_before(store: ImageStore, form: str) -> None:
    with staged(store, form, tar_of([])) as empty:
        furniture = empty.bytes
    with staged(store, form, tar_of(ENTRIES)) as image:
        root = image.admit()
    assert (root.digest, stored_bytes(root.path)) == (image.digest, image.bytes)
    assert image.bytes - furniture == (1 + 3 + 1 + 3 + 1 + 1) * BLOCK


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_admitted_is_gone(store: ImageStore, form: str) -> None:
    with staged(store, form, tar_of(ENTRIES)):
        assert len(left(store)) == 1
    assert left(store) == []
    with pytest.raises(KeyError), staged(store, form, tar_of(ENTRIES)):
        raise KeyError
    assert left(store) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_image_is_held_to_its_room_to_the_byte(store: ImageStore, form: str) -> None:
    with staged(store, form, tar_of(ENTRIES)) as image:
        size = image.bytes
    with staged(store, form, tar_of(ENTRIES), Caps(stored_bytes=size)):
        pass
    with pytest.raises(ImageTooLarge) as refused, staged(store, form, tar_of(ENTRIES), Caps(stored_bytes=size - 1)):
        pass
    assert (refused.value.code, refused.value.bytes) == ("image_too_large", size)
    assert left(store) == []


@pytest.mark.parametrize(
    "entries",
    [
        [(f"d{number}", "dir", b"") for number in range(20)],
        [(f"f{number}", "file", b"") for number in range(20)],
        [(f"l{number}", "link", "x" * 4000) for number in range(20)],
        [("f", "file", b""), *((f"h{number}", "hard", "f") for number in range(20))],
        [("/".join("abcdefghijklmnopqrstuvwxyz"), "file", b"")],
        [("f", "file", bytes(20 * BLOCK))],
    ],
    ids=["directories", "empty files", "links", "hard links", "directories on the way", "content"],
)
def test_unpacking_ends_where_the_room_does(store: ImageStore, entries: list[Entry]) -> None:
    with (
        pytest.raises(ImageTooLarge) as refused,
        staged(store, "directory", tar_of(entries), Caps(stored_bytes=16 * BLOCK)),
    ):
        pass
    assert 16 * BLOCK < refused.value.bytes <= 20 * BLOCK
    assert left(store) == []


def test_a_claimed_size_is_refused_before_it_is_written(store: ImageStore) -> None:
    member = tarfile.TarInfo("a")
    member.size = 1 << 32
    archive = member.tobuf() + bytes(1024)
    with (
        pytest.raises(ImageTooLarge) as refused,
        staged(store, "directory", archive, Caps(stored_bytes=1 << 20)),
    ):
        pass
    assert refused.value.bytes == 1 << 32


def test_what_a_later_layer_removes_takes_room_meanwhile_and_none_at_the_end(store: ImageStore) -> None:
    layers = layer_of({"a": bytes(100 * BLOCK)}), tar_of([(".wh.a", "file", b""), ("b", "file", b"")])
    with store.staged_docker_archive(docker_archive(*layers)) as image:
        assert image.bytes < 50 * BLOCK
    for room, taken in ((60, False), (101, True)):
        archive = io.BytesIO(docker_archive(*layers).getvalue())
        try:
            with store.staged_docker_archive(archive, caps=Caps(stored_bytes=room * BLOCK)):
                assert taken
        except ImageTooLarge:
            assert not taken


def test_a_member_of_less_than_nothing_gives_no_room_back(store: ImageStore) -> None:
    """A pax header may say any number where the field of the tar cannot."""
    member = tarfile.TarInfo("a")
    member.pax_headers = {"size": "-1000000"}
    archive = member.tobuf(tarfile.PAX_FORMAT) + tar_of([("b", "file", b"")])
    with pytest.raises(ImageInvalid) as refused, staged(store, "directory", archive):
        pass
    assert (refused.value.code, "less than nothing" in refused.value.message) == ("image_archive_malformed", True)
