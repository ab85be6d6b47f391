"""The storage that an image counts for is what its root takes, however little was sent or fetched."""

import gzip
import tarfile

import httpx
import pytest
from tests.integration.images.conftest import MakeGround
from tests.integration.images.test_pulling import images, pull, refuse
from tests.integration.sandboxes.ground import Ground
from tests.integration.sandboxes.test_images import docker_save, import_image, left_behind
from tests.oci import layer_of, layout_files, make_image, push
from tests.registry import DockerRegistry

pytestmark = pytest.mark.xdist_group("images")

MIB = 1 << 20
ZEROS = {"opt/data": bytes(24 * MIB)}


def taken_by(ground: Ground, digest: str) -> int:
    """What the entries of a root take, as the documentation says it."""
    root = ground.installation.home / "us" / ground.tenant.id / "images" / digest.replace(":", "/") / "rootfs"
    found = [path for path in root.rglob("*") if not path.is_symlink()]
    links = sum(path.is_symlink() for path in root.rglob("*"))
    return 4096 * (links + sum(max(1, -(-path.stat().st_size // 4096)) if path.is_file() else 1 for path in found))


def used(ground: Ground, holder: str = "workspace") -> int:
    usage = ground.client.get(f"/workspaces/{ground.workspace}/usage").json()
    [counted] = [q for q in usage["quotas"] if (q["name"], q["holder"]) == ("max_storage_gb", holder)]
    assert counted["held"] == 0
    assert counted["used"] == usage["storage_used_bytes"] or holder == "tenant"
    return int(counted["used"])


def limit(ground: Ground, most_gb: int) -> None:
    answer = ground.tenant.owner.patch(f"/workspaces/{ground.workspace}/limits", json={"max_storage_gb": most_gb})
    assert answer.status_code == 200, answer.text


def uploaded(ground: Ground, form: str, layer: bytes) -> httpx.Response:
    archives = {
        "directory": lambda: gzip.compress(layer, 6),
        "oci": lambda: layer_of(layout_files(make_image(layer))),
    }
    archive = archives[form]()
    assert len(archive) < MIB
    return import_image(ground, "large:1", archive, format=form)


def exhausted(ground: Ground, answer: httpx.Response) -> None:
    told = answer.json()
    assert (answer.status_code, told["code"]) == (429, "quota_exceeded"), answer.text
    assert told["limit"] == {"name": "max_storage_gb", "holder": "workspace", "most": 10**9}
    assert told["current"]["wanted"] > 10**9
    assert (images(ground), left_behind(ground), used(ground)) == ([], [], 0)


@pytest.mark.parametrize("form", ["directory", "oci"])
def test_an_upload_counts_for_its_root(make_ground: MakeGround, form: str) -> None:
    ground = make_ground()
    image = uploaded(ground, form, layer_of(ZEROS)).json()
    assert image["size_bytes"] == taken_by(ground, image["digest"]) > 24 * MIB
    assert used(ground) == image["size_bytes"]
    ground.client.delete(f"/workspaces/{ground.workspace}/images/{image['id']}")
    assert used(ground) == 0


def test_an_archive_of_docker_counts_for_its_root_and_not_for_itself(make_ground: MakeGround) -> None:
    ground = make_ground()
    archive = docker_save({f"d{number}": 0 for number in range(700)})
    image = import_image(ground, "tiny:1", archive).json()
    assert image["size_bytes"] == taken_by(ground, image["digest"]) > 700 * 4096 > len(archive)
    assert used(ground) == image["size_bytes"]


def test_a_pull_counts_for_its_root_in_each_workspace_and_tells_so(
    make_ground: MakeGround, registry: DockerRegistry
) -> None:
    ground = make_ground()
    made = make_image(layer_of(ZEROS))
    push(registry.url, "team/zeros", made, "1")
    image = pull(ground, f"{registry.name}/team/zeros:1").json()
    assert image["size_bytes"] == taken_by(ground, made.digest) > 24 * MIB > sum(map(len, made.blobs.values()))
    [event] = ground.audit(action="image.pulled")
    assert event["details"]["size_bytes"] == image["size_bytes"] == used(ground)
    other = ground.tenant.workspace("other")
    body = {"reference": f"{registry.name}/team/zeros:1"}
    again = ground.tenant.owner.post(f"/workspaces/{other}/images/pull", json=body).json()
    assert again["size_bytes"] == image["size_bytes"]
    assert used(ground, "tenant") == 2 * image["size_bytes"], "each may be the last that keeps it"


def beyond(size: int = 1_100_000_000) -> bytes:
    """The beginning of a layer that has a file larger than there is room for, which is seen by its header."""
    member = tarfile.TarInfo("opt/data")
    member.size = size
    return member.tobuf() + bytes(4096)


@pytest.mark.parametrize("form", ["directory", "oci"])
def test_an_upload_whose_root_has_no_room_is_refused_and_leaves_nothing(make_ground: MakeGround, form: str) -> None:
    ground = make_ground()
    limit(ground, 1)
    exhausted(ground, uploaded(ground, form, beyond()))
    limit(ground, 2)
    assert uploaded(ground, form, beyond()).json()["code"] == "image_archive_malformed", "with room it is looked at"


def test_a_pull_whose_root_has_no_room_is_refused_and_leaves_nothing(
    make_ground: MakeGround, registry: DockerRegistry
) -> None:
    ground = make_ground()
    limit(ground, 1)
    push(registry.url, "team/beyond", make_image(beyond()), "1")
    exhausted(ground, pull(ground, f"{registry.name}/team/beyond:1"))
    limit(ground, 2)
    refuse(ground, f"{registry.name}/team/beyond:1", 422, "image_archive_malformed")
