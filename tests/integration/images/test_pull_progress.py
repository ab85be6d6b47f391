"""A pull that tells how far it is: the same pull, the same refusals, and it ends with whoever asked for it."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from tests.integration.images.conftest import MakeGround
from tests.integration.images.stalling import StallingRegistry
from tests.integration.images.test_pulling import images, pull
from tests.integration.sandboxes.ground import Ground, Json, until
from tests.integration.sandboxes.ground import _events as events_of
from tests.integration.sandboxes.test_images import import_image, left_behind, shell_root
from tests.oci import Made, layer_of, layout_files, make_image, push
from tests.registry import DockerRegistry

pytestmark = pytest.mark.xdist_group("images")

PHASES = ["asking", "fetching", "unpacking", "storing"]
NUMBERS = ["layers_done", "layers_total", "layers_unpacked", "bytes_done", "bytes_total"]


@contextmanager
def following(
    ground: Ground, reference: str, *, client: httpx.Client | None = None, headers: Mapping[str, str] | None = None
) -> Iterator[httpx.Response]:
    path = f"/workspaces/{ground.workspace}/images/pull"
    accepts = {"Accept": "text/event-stream, application/json", **(headers or {})}
    asked = (client or ground.client).stream("POST", path, json={"reference": reference}, headers=accepts, timeout=30)
    with asked as answer:
        yield answer


def followed(ground: Ground, reference: str, headers: Mapping[str, str] | None = None) -> list[Json]:
    with following(ground, reference, headers=headers) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-trace-id"]
        events = list(events_of(answer.iter_lines()))
    receipts = [each for each in events if each["event"] == "receipt"]
    assert receipts == events[-1 - len(receipts) : -1], "what was done is receipted before its end is told"
    return [each for each in events if each["event"] != "receipt"]


def less(problem: dict[str, Any]) -> dict[str, Any]:
    """Give what of a problem is the same when it comes again."""
    return {name: value for name, value in problem.items() if name != "trace_id"}


def assert_sound(events: list[Json], reference: str) -> None:
    """See that no number goes back, and no phase."""
    states = [each["data"] for each in events if each["event"] == "progress"]
    assert {each["event"] for each in events[:-1]} <= {"progress"}
    assert {state["reference"] for state in states} == {reference}
    phases = [PHASES.index(state["phase"]) for state in states]
    assert phases == sorted(phases)
    for name in NUMBERS:
        numbers = [state[name] for state in states]
        assert numbers == sorted(numbers), name
    for state in states:
        assert state["layers_done"] <= state["layers_total"]
        assert state["bytes_done"] <= state["bytes_total"]


def test_a_pull_tells_what_is_fetched_and_ends_with_the_image(
    make_ground: MakeGround, registry: DockerRegistry
) -> None:
    made = make_image(*(layer_of({f"file-{number}": b"x" * 200_000}) for number in range(5)), packing="none")
    push(registry.url, "team/five", made, "1")
    ground = make_ground()
    name = f"{registry.name}/team/five:1"
    events = followed(ground, name)
    assert_sound(events, name)
    assert events[0]["data"] == {"reference": name, "phase": "asking", **dict.fromkeys(NUMBERS, 0)}
    last, end = events[-2]["data"], events[-1]
    size = sum(map(len, made.blobs.values()))
    full = {"layers_done": 5, "layers_total": 5, "layers_unpacked": 5, "bytes_done": size, "bytes_total": size}
    assert last == {"reference": name, "phase": "storing", **full}
    assert end["event"] == "done"
    assert [end["data"]] == images(ground)
    assert end["data"]["digest"] == made.digest
    assert pull(ground, name).json() == end["data"]


def test_a_pull_of_what_is_here_already_tells_that_it_asks_and_no_more(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    assert shell.digest
    ground = make_ground()
    name = f"{registry.name}/team/shell:1"
    image = pull(ground, name).json()
    events = followed(ground, name)
    assert [each["event"] for each in events] == ["progress", "done"]
    assert events[-1]["data"] == image
    assert len(images(ground)) == 1


@pytest.mark.parametrize("way", ["followed", "pulled", "imported"])
def test_an_image_of_zstd_layers_is_taken_and_runs(make_ground: MakeGround, registry: DockerRegistry, way: str) -> None:
    files = {name: content for name, content in shell_root().items() if isinstance(content, bytes)}
    made = make_image(layer_of(files), layer_of({"greeting": b"packed with zstd\n"}), packing="zstd")
    push(registry.url, "team/zstd", made, "1")
    ground = make_ground()
    name = f"{registry.name}/team/zstd:1"
    if way == "followed":
        image = followed(ground, name)[-1]["data"]
    elif way == "pulled":
        image = pull(ground, name).json()
    else:
        image = import_image(ground, name := "zstd:1", layer_of(layout_files(made)), format="oci").json()
    assert image["digest"] == made.digest
    job = ground.run("/bin/sh", "-c", 'read line < /greeting; echo "$line"', image=name)
    assert (job["status"], job["image_digest"]) == ("succeeded", made.digest)
    assert ground.lines(job["id"]) == "packed with zstd\n"


def test_at_most_a_few_events_come_a_second(make_ground: MakeGround, registry: DockerRegistry) -> None:
    made = make_image(*(layer_of({f"file-{number}": bytes(100)}) for number in range(60)), packing="none")
    push(registry.url, "team/many-layers", made, "1")
    began = time.monotonic()
    events = followed(make_ground(), f"{registry.name}/team/many-layers:1")
    seconds = time.monotonic() - began
    told = Counter(each["data"]["phase"] for each in events[:-1])
    # Its first state at once, its last when the next phase begins, and in between four a second.
    assert max(told.values()) <= 4 * seconds + 2, told
    assert events[-1]["event"] == "done"


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [("ghcr.io/a/b:1", 403, "registry_not_allowed"), ("no reference", 422, "image_reference_invalid")],
)
def test_what_is_refused_before_a_registry_is_asked_is_refused_as_ever(
    make_ground: MakeGround, reference: str, status: int, code: str
) -> None:
    ground = make_ground()
    plain = pull(ground, reference)
    with following(ground, reference) as answer:
        answer.read()
    assert (plain.status_code, plain.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == plain.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, less(answer.json())) == (status, less(plain.json()))


def test_a_policy_and_a_role_refuse_a_pull_that_is_followed(make_ground: MakeGround, registry: DockerRegistry) -> None:
    ground = make_ground(blocked_images=[f"{registry.name}/team/*"])
    name = f"{registry.name}/team/never-asked-for:1"
    plain = pull(ground, name)
    with following(ground, name) as answer:
        answer.read()
    assert (answer.status_code, answer.json()["code"]) == (403, "policy_denied")
    assert less(answer.json()) == less(plain.json())
    stranger = make_ground().client
    with following(ground, name, client=stranger) as answer:
        answer.read()
    foreign = stranger.post(f"/workspaces/{ground.workspace}/images/pull", json={"reference": name})
    assert answer.status_code == foreign.status_code == 404
    assert less(answer.json()) == less(foreign.json())
    viewer = ground.tenant.as_role("viewer", ground.workspace)
    with following(ground, name, client=viewer) as answer:
        answer.read()
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_missing")


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [
        ("public.invalid/a", 503, "registry_unavailable"),
        ("{registry}/team/absent", 422, "image_not_in_registry"),
        ("{registry}/team/shell:1", 403, "policy_denied"),
        ("{registry}/team/wide:1", 429, "quota_exceeded"),
        ("{silent}/a:1", 503, "pull_timed_out"),
    ],
)
def test_what_is_refused_later_is_the_same_problem_as_an_event(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made, silent: str, reference: str, status: int, code: str
) -> None:
    settings = {"blocked_images": [f"{registry.name}/team/shell@{shell.digest}"]}
    ground = make_ground(**settings if code == "policy_denied" else {})
    if code == "quota_exceeded":
        push(registry.url, "team/wide", make_image(layer_of({"a": b"1"})), "1")
        limits = f"/workspaces/{ground.workspace}/limits"
        assert ground.tenant.owner.patch(limits, json={"max_storage_gb": 0}).status_code == 200
    name = reference.format(registry=registry.name, silent=silent)
    plain = pull(ground, name)
    events = followed(ground, name)
    assert (plain.status_code, plain.json()["code"]) == (status, code)
    assert (events[0]["event"], events[-1]["event"]) == ("progress", "error")
    told = events[-1]["data"]
    told.pop("retry_after_seconds", None)
    assert less(told) == less(plain.json())
    assert images(ground) == []
    assert left_behind(ground) == []
    if status in (403, 429):
        until(lambda: len(_refusals(ground, code)) > 1)
        assert len(set(_refusals(ground, code))) == 1, "both are in the trail, alike"


def _refusals(ground: Ground, code: str) -> list[tuple[str, str]]:
    found = ground.audit(outcome="denied")
    return [(each["action"], str(each["details"])) for each in found if each.get("reason") == code]


def test_a_pull_that_is_sent_again_with_its_key_is_done_once(
    make_ground: MakeGround, registry: DockerRegistry, shell: Made
) -> None:
    assert shell.digest
    ground = make_ground()
    name, key = f"{registry.name}/team/shell:1", {"Idempotency-Key": "pull-1"}
    first = followed(ground, name, key)[-1]["data"]
    with following(ground, name, headers=key) as again:
        again.read()
    assert "Idempotency-Replayed" in again.headers
    assert (again.status_code, again.json()) == (201, first)


def test_a_pull_ends_with_the_connection_and_leaves_nothing(
    make_ground: MakeGround, stalling: StallingRegistry, registry: DockerRegistry, shell: Made
) -> None:
    assert shell.digest
    stalling.again()
    ground = make_ground()
    with following(ground, stalling.reference) as answer:
        events = events_of(answer.iter_lines())
        assert next(events)["data"]["phase"] == "asking"
        assert next(each for each in events if each["data"]["bytes_done"])["data"]["phase"] == "fetching"
        assert stalling.reached.wait(5)
        assert left_behind(ground), "something has been fetched"
    until(lambda: not left_behind(ground), seconds=5)
    assert images(ground) == []
    began = time.monotonic()
    assert pull(ground, f"{registry.name}/team/shell:1").status_code == 201
    assert time.monotonic() - began < 5, "it does not wait for the one that was left"
    stalling.go.set()


def test_a_pull_that_nobody_follows_goes_on_without_whoever_asked(
    make_ground: MakeGround, stalling: StallingRegistry
) -> None:
    stalling.again()
    ground = make_ground()
    path = f"/workspaces/{ground.workspace}/images/pull"
    with pytest.raises(httpx.ReadTimeout):
        ground.client.post(path, json={"reference": stalling.reference}, timeout=1)
    assert stalling.reached.wait(5)
    stalling.go.set()
    assert until(lambda: images(ground))[0]["digest"] == stalling.made.digest


def test_a_revoked_key_ends_a_pull_within_a_second(make_ground: MakeGround, stalling: StallingRegistry) -> None:
    stalling.again()
    ground = make_ground()
    place = f"/workspaces/{ground.workspace}/keys"
    made = ground.client.post(place, json={"name": "short", "roles": ["workspace-admin"]}).json()
    with (
        httpx.Client(
            base_url=ground.client.base_url, headers={"Authorization": f"Bearer {made['secret']}"}, trust_env=False
        ) as client,
        following(ground, stalling.reference, client=client) as answer,
    ):
        events = events_of(answer.iter_lines())
        next(each for each in events if each["data"]["bytes_done"])
        assert ground.client.delete(f"{place}/{made['id']}").status_code in (200, 204)
        began = time.monotonic()
        end = list(events)[-1]
    assert time.monotonic() - began < 1.5
    assert (end["event"], end["data"]["status"]) == ("error", 401)
    until(lambda: not left_behind(ground), seconds=5)
    stalling.go.set()
    assert images(ground) == []
