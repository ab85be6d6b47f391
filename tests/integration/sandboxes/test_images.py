"""Images: imported from tars nobody trusts, run, removed, and no other tenant's business."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.conftest import Installation
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground

from tenantry.capabilities.sandboxes.service import sweep_images
from tenantry.engines.jail.images import ImageStore
from tenantry.entrypoints.runtime import open_parts

Members = dict[str, bytes | str | int]


def shell_root() -> Members:
    """A root with this machine's `sh` and what it is linked with; a path's content, link target, or 0: a directory."""
    found: Members = {"bin/sh": Path("/bin/sh").resolve().read_bytes(), "etc/mark": b"of the image\n", "home": 0}
    linked = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout.split()
    for word in linked:
        if word.startswith("/"):
            found[word.lstrip("/")] = Path(word).resolve().read_bytes()
    return found


def tar_of(members: Members, *extra: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            elif isinstance(content, int):
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
        for entry, content in extra:
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def docker_save(members: Members, **config: object) -> bytes:
    """What `docker save` writes for an image of one layer."""
    layer = tar_of(members)
    described = json.dumps(
        {
            "architecture": os.uname().machine,
            "os": "linux",
            "config": {"Env": ["FROM_IMAGE=yes"], "WorkingDir": "/", **config},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(described).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["tiny:1"], "Layers": ["layer.tar"]}]).encode()
    return tar_of({"manifest.json": manifest, name: described, "layer.tar": layer})


def import_image(
    ground: Ground, name: str, archive: bytes | Iterator[bytes], *, key: str = "", **params: str
) -> httpx.Response:
    return ground.client.post(
        f"/workspaces/{ground.workspace}/images",
        params={"name": name, **params},
        content=archive,
        headers={"Content-Type": "application/x-tar"} | ({"Idempotency-Key": key} if key else {}),
    )


def left_behind(ground: Ground) -> list[str]:
    """What lies in the tenant's image store, uploads and half-made ones too."""
    store = ground.installation.home / "us" / ground.tenant.id / "images"
    places = [*store.glob("sha256/*"), *store.glob(".incoming/*"), *store.glob("uploads/*")]
    return sorted(str(path.relative_to(store)) for path in places)


@pytest.fixture(scope="module")
def saved() -> bytes:
    return docker_save(shell_root())


@pytest.mark.parametrize("kind", ["docker", "directory", "directory-gzip"])
def test_an_image_is_imported_run_and_removed(make_ground: MakeGround, saved: bytes, kind: str) -> None:
    ground = make_ground()
    root = tar_of(shell_root())
    archive = {"docker": saved, "directory": root, "directory-gzip": gzip.compress(root, 1)}[kind]
    answer = import_image(ground, "tiny:1", archive, format=kind.partition("-")[0])
    assert answer.status_code == 201, answer.text
    image = answer.json()
    script = (
        'while read -r line; do echo "$line"; done < /etc/mark; echo "$FROM_IMAGE"; command -v python3 || echo alone'
    )
    job = ground.run("/bin/sh", "-c", script, image="tiny:1")
    assert (job["status"], job["image_digest"]) == ("succeeded", image["digest"]), ground.lines(job["id"])
    assert ground.lines(job["id"]).split() == [
        *(["of", "the", "image"]),
        *(["yes"] if kind == "docker" else []),
        "alone",
    ]
    assert ground.run("/bin/sh", "-c", ": > /etc/mark", image="tiny:1")["status"] == "failed"
    taken = import_image(ground, "tiny:1", archive, format=kind.partition("-")[0])
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    place = f"/workspaces/{ground.workspace}/images/{image['id']}"
    assert ground.client.get(place).json() == image
    assert ground.client.delete(place).status_code == 204
    assert ground.client.get(place).status_code == 404
    assert ground.post("true", image="tiny:1").json()["code"] == "image_unknown"
    assert [
        event["action"]
        for event in ground.audit(resource=image["id"], action="image.")[::-1]
        if event["reason"] is None and "read" not in event["action"]
    ] == ["image.imported", "image.removed"]


def test_an_import_that_is_sent_again_with_its_key_is_done_once(make_ground: MakeGround, saved: bytes) -> None:
    ground = make_ground()
    answers = [import_image(ground, "tiny:1", saved, key="import-1") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert "Idempotency-Replayed" in answers[1].headers
    assert import_image(ground, "tiny:1", saved, key="import-2").status_code == 409


def test_names_and_digests_of_one_tenant_mean_nothing_to_another(make_ground: MakeGround, saved: bytes) -> None:
    ours, theirs = make_ground(), make_ground()
    image = import_image(ours, "tiny:1", saved).json()
    for name in ("tiny:1", image["digest"], image["id"]):
        refused = theirs.post("/bin/sh", image=name)
        assert (refused.status_code, refused.json()["code"]) == (422, "image_unknown")
    absent = theirs.client.get(f"/workspaces/{theirs.workspace}/images/img_{'0' * 26}")
    foreign = theirs.client.get(f"/workspaces/{theirs.workspace}/images/{image['id']}")
    assert (
        (foreign.status_code, foreign.json()["code"])
        == (absent.status_code, absent.json()["code"])
        == (404, "not_found")
    )
    assert theirs.client.delete(f"/workspaces/{theirs.workspace}/images/{image['id']}").status_code == 404
    assert theirs.client.get(f"/workspaces/{theirs.workspace}/images").json()["items"] == []
    sibling = ours.tenant.workspace("sibling")
    assert ours.tenant.owner.get(f"/workspaces/{sibling}/images").json()["items"] == []
    assert ours.tenant.owner.get(f"/workspaces/{sibling}/images/{image['id']}").status_code == 404
    # The same archive under the same name is theirs to import, and is a root of their own.
    assert import_image(theirs, "tiny:1", saved).json()["digest"] == image["digest"]
    assert ours.client.delete(f"/workspaces/{ours.workspace}/images/{image['id']}").status_code == 204
    assert theirs.run("/bin/sh", "-c", ":", image="tiny:1")["status"] == "succeeded"


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


def swapped_layer(saved: bytes) -> bytes:
    return saved.replace(b"of the image\n", b"of an other!\n")


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "climbs": lambda _: tar_of({"../../etc/cron.d/x": b"x"}),
    "absolute": lambda _: tar_of({"/etc/cron.d/x": b"x"}),
    "through-a-link": lambda _: tar_of({"out": "/etc", "out/x": b"x"}),
    "link-out": lambda _: tar_of({"etc": 0, "etc/x": "../../../etc/shadow"}),
    "hard-link-out": lambda _: tar_of({}, (entry("x", tarfile.LNKTYPE, "../../../etc/shadow"), b"")),
    "hard-link-to-a-link": lambda _: tar_of({"s": "/etc/shadow"}, (entry("x", tarfile.LNKTYPE, "s"), b"")),
    "cut-short": lambda _: tar_of({"a": bytes(5000)})[:2000],
    "no-tar": lambda _: b"#!/bin/sh\n" * 200,
    "gzip-bomb-of-a-header": lambda _: tar_of({}, (entry("x", tarfile.XHDTYPE, size=8 << 20), bytes(8 << 20))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_directory_archive_is_refused_whole(make_ground: MakeGround, kind: str) -> None:
    ground = make_ground()
    answer = import_image(ground, "bad:1", HOSTILE[kind](b""), format="directory")
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"].startswith("image_")
    assert left_behind(ground) == []
    assert ground.client.get(f"/workspaces/{ground.workspace}/images").json()["items"] == []
    assert not Path("/etc/cron.d/x").exists()


@pytest.mark.parametrize("breaking", [swapped_layer, lambda saved: saved[: len(saved) // 2]], ids=["swapped", "short"])
def test_a_docker_archive_that_is_not_what_it_says_is_refused_whole(
    make_ground: MakeGround, saved: bytes, breaking: Callable[[bytes], bytes]
) -> None:
    ground = make_ground()
    answer = import_image(ground, "bad:1", breaking(saved))
    assert answer.status_code == 422, answer.text
    assert left_behind(ground) == []
    assert import_image(ground, "good:1", saved).status_code == 201


def test_devices_and_privilege_bits_do_not_come_through(make_ground: MakeGround) -> None:
    device = entry("dev-null", tarfile.CHRTYPE)
    device.devmajor, device.devminor = 1, 3
    setuid = entry("bin/su", size=1)
    setuid.mode = 0o6755
    ground = make_ground()
    image = import_image(
        ground, "odd:1", tar_of(shell_root(), (device, b""), (setuid, b"x")), format="directory"
    ).json()
    root = ground.installation.home / "us" / ground.tenant.id / "images" / image["digest"].replace(":", "/") / "rootfs"
    assert not (root / "dev-null").exists()
    assert (root / "bin/su").stat().st_mode & 0o6000 == 0


def test_what_is_sent_is_counted_and_no_length_that_is_claimed_is_believed(
    make_ground: MakeGround, installation: Installation, saved: bytes
) -> None:
    ground = make_ground()
    most = installation.settings.server.max_upload_bytes
    assert most > len(saved)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(saved), 1 << 16):
            yield saved[start : start + (1 << 16)]

    assert import_image(ground, "chunked:1", pieces()).status_code == 201, "no Content-Length at all"
    wrong = ground.client.post(
        f"/workspaces/{ground.workspace}/images",
        params={"name": "typed:1"},
        content=saved,
        headers={"Content-Type": "application/json"},
    )
    assert wrong.json()["code"] == "content_type_unsupported"
    assert [path for path in left_behind(ground) if not path.startswith("sha256/")] == []


async def test_roots_that_nobody_names_are_swept_and_others_stay(
    make_ground: MakeGround, installation: Installation, saved: bytes
) -> None:
    ground = make_ground()
    kept = import_image(ground, "kept:1", saved).json()
    removed = import_image(ground, "removed:1", tar_of(shell_root()), format="directory").json()
    twin = import_image(ground, "twin:1", saved).json()
    for image in (removed, twin):
        ground.client.delete(f"/workspaces/{ground.workspace}/images/{image['id']}")
    store = installation.home / "us" / ground.tenant.id / "images"
    for unfinished in ("uploads/import-abandoned", ".incoming/died/layout", f"copy-{'0' * 64}"):
        (store / unfinished).mkdir(parents=True)
    async with open_parts(installation.settings, regions=("us",)) as parts:
        library, cell = parts.libraries["us"], parts.cells.get("us")
        await library.store(ground.tenant_id)  # one that was opened long ago, as those of workers are
        with ImageStore(store).receiving() as under_way:
            (store / ".incoming/died/layout").mkdir(parents=True)
            await sweep_images(library, cell=cell)
            assert under_way.is_dir()
            assert not (store / ".incoming/died").exists(), "nobody holds it any more"
        assert len(left_behind(ground)) == 3, "what is young stays"
        old = time.time() - 7200
        for place in (*store.glob("sha256/*"), *store.glob("uploads/*"), *store.glob("copy-*")):
            os.utime(place, (old, old))
        assert await sweep_images(library, cell=cell) >= 1
    assert list(store.glob("copy-*")) == []
    assert left_behind(ground) == [kept["digest"].replace(":", "/")]
    assert ground.run("/bin/sh", "-c", ":", image="kept:1")["status"] == "succeeded"
