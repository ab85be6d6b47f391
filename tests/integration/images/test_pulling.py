"""Images pulled over the API: named by their reference, judged before anybody is asked, and fetched once."""

import os
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.conftest import Installation
from tests.integration.images.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground
from tests.integration.sandboxes.test_images import import_image, left_behind
from tests.oci import Made, layer_of, layout_files, make_image, push
from tests.registry import DockerRegistry

pytestmark = pytest.mark.xdist_group("images")


def pull(ground: Ground, reference: str, **more: str) -> httpx.Response:
    return ground.client.post(
        f"/workspaces/{ground.workspace}/images/pull", json={"reference": reference}, headers=more
    )


def images(ground: Ground) -> list[dict[str, object]]:
    found: list[dict[str, object]] = ground.client.get(f"/workspaces/{ground.workspace}/images").json()["items"]
    return found


def refuse(ground: Ground, reference: str, status: int, code: str) -> dict[str, object]:
    answer = pull(ground, reference)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert images(ground) == []
    assert left_behind(ground) == []
    told: dict[str, object] = answer.json()
    return told


def test_an_image_is_pulled_run_and_pulled_again_for_nothing(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    ground = make_ground()
    name = f"{registry.name}/team/shell:1"
    first = pull(ground, name)
    assert first.status_code == 201, first.text
    image = first.json()
    assert (image["name"], image["digest"], image["source"]) == (name, shell.digest, "registry")
    assert image["size_bytes"] > sum(map(len, shell.blobs.values())), "what its root takes"
    for called in (name, f"{name}@{shell.digest}"):
        job = ground.run("/bin/sh", "-c", 'echo "$FROM_IMAGE"', image=called)
        assert (job["status"], job["image_digest"]) == ("succeeded", shell.digest)
        assert ground.lines(job["id"]).strip() == "yes"
    assert pull(ground, name).json() == image
    assert len(images(ground)) == 1
    assert left_behind(ground) == [shell.digest.replace(":", "/")]
    events = [each["action"] for each in ground.audit(action="image.") if "read" not in each["action"]]
    assert events.count("image.pulled") == 1


def test_a_tag_that_moves_moves_the_image_and_gives_its_room_back(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    ground = make_ground()
    name = f"{registry.name}/team/moves:1"
    push(registry.url, "team/moves", shell, "1")
    before = pull(ground, name).json()
    other = make_image(layer_of({"a": b"1"}))
    push(registry.url, "team/moves", other, "1")
    after = pull(ground, name).json()
    assert (after["digest"], len(images(ground))) == (other.digest, 1)
    assert after["id"] != before["id"]
    (event,) = [each for each in ground.audit(action="image.pulled") if each["resource"]["id"] == after["id"]]
    assert event["details"]["replaced"] == before["digest"]
    usage = ground.client.get(f"/workspaces/{ground.workspace}/usage").json()
    assert usage["storage_used_bytes"] == after["size_bytes"]


def test_several_pulls_of_one_image_at_once_make_one(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    ground = make_ground()
    name = f"{registry.name}/team/shell@{shell.digest}"
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: pull(ground, name), range(4)))
    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    assert {answer.json()["id"] for answer in answers} == {images(ground)[0]["id"]}
    assert ground.run("/bin/sh", "-c", ":", image=name)["status"] == "succeeded"


def test_a_pull_that_is_sent_again_with_its_key_is_done_once(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    assert shell.digest
    ground = make_ground()
    name = f"{registry.name}/team/shell:1"
    answers = [pull(ground, name, **{"Idempotency-Key": "pull-1"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert "Idempotency-Replayed" in answers[1].headers


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [
        ("ghcr.io/a/b:1", 403, "registry_not_allowed"),
        ("169.254.169.254/latest", 403, "registry_not_allowed"),
        ("localhost:1/a", 403, "registry_not_allowed"),
        ("python", 403, "registry_not_allowed"),
        ("public.invalid/a", 503, "registry_unavailable"),
        ("no reference", 422, "image_reference_invalid"),
        ("{registry}/team/absent", 422, "image_not_in_registry"),
    ],
)
def test_what_cannot_be_pulled_is_told_apart(
    make_ground: MakeGround, registry: DockerRegistry, reference: str, status: int, code: str
) -> None:
    told = refuse(make_ground(), reference.format(registry=registry.name), status, code)
    if code == "registry_not_allowed":
        assert "images.registries" in str(told["allow_with"])


def test_policies_judge_a_pull_before_the_registry_is_asked(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    absent = f"{registry.name}/team/never-asked-for:1"
    told = refuse(make_ground(blocked_images=[f"{registry.name}/team/*"]), absent, 403, "policy_denied")
    assert told["denied_by"] == "workspace"
    refuse(make_ground(allowed_images=["ghcr.io/*"]), absent, 403, "policy_denied")
    by_content = make_ground(blocked_images=[f"{registry.name}/team/shell@{shell.digest}"])
    refuse(by_content, f"{registry.name}/team/shell:1", 403, "policy_denied")


def test_what_has_no_room_is_not_fetched(make_ground: MakeGround, registry: DockerRegistry) -> None:
    made = make_image(layer_of({"a": os.urandom(5_000_000)}))
    push(registry.url, "team/large", made, "1")
    refuse(make_ground(), f"{registry.name}/team/large:1", 422, "image_too_large")
    small = make_image(layer_of({"a": os.urandom(2_000_000)}))
    push(registry.url, "team/large", small, "2")
    ground = make_ground()
    body = {"max_storage_gb": 0}
    answer = ground.tenant.owner.patch(f"/workspaces/{ground.workspace}/limits", json=body)
    assert answer.status_code == 200, answer.text
    refuse(ground, f"{registry.name}/team/large:2", 429, "quota_exceeded")


def test_a_pull_ends_when_its_time_is_over(make_ground: MakeGround, silent: str) -> None:
    told = refuse(make_ground(), f"{silent}/a:1", 503, "pull_timed_out")
    assert "images.pull_seconds" in str(told["detail"])


def test_a_name_that_was_uploaded_is_not_pulled_over(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    assert shell.digest
    assert registry.name
    ground = make_ground()
    assert import_image(ground, "public.invalid/a:1", _layout(shell), format="oci").status_code == 201
    taken = pull(ground, "public.invalid/a:1")
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")


def _layout(made: Made) -> bytes:
    return layer_of(layout_files(made))


def test_a_layout_is_imported_and_has_the_digest_of_the_pull(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    ground = make_ground()
    imported = import_image(ground, "shell:1", _layout(shell), format="oci").json()
    pulled = pull(ground, f"{registry.name}/team/shell:1").json()
    assert imported["digest"] == pulled["digest"] == shell.digest
    assert imported["source"] == "oci_layout"
    assert ground.run("/bin/sh", "-c", ":", image="shell:1")["status"] == "succeeded"


def test_what_one_tenant_pulled_is_not_there_for_another(
    make_ground: MakeGround, installation: Installation, registry: DockerRegistry, shell: Made
) -> None:
    ours, theirs = make_ground(), make_ground()
    name = f"{registry.name}/team/shell:1"
    pull(ours, name)
    assert theirs.post("/bin/sh", image=name).json()["code"] == "image_unknown"
    assert images(theirs) == []
    assert left_behind(theirs) == []
    root = installation.home / "us" / ours.tenant.id / "images" / shell.digest.replace(":", "/")
    assert root.is_dir()
    assert ours.run("/bin/sh", "-c", ": > /bin/sh", image=name)["status"] == "failed", "nothing of it can be written"


def test_a_username_comes_with_a_password(make_ground: MakeGround, registry: DockerRegistry) -> None:
    ground = make_ground()
    body = {"reference": f"{registry.name}/a", "username": "me"}
    answer = ground.client.post(f"/workspaces/{ground.workspace}/images/pull", json=body)
    assert answer.status_code == 422
