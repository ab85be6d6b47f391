"""Files of a running sandbox: read and written whole, and never through a link."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import problem
from tests.integration.sandboxes.ground import Ground, Json, _events
from tests.integration.sandboxes.living import Living, start, stop


@pytest.fixture(scope="module")
def living(ground: Ground) -> Iterator[Living]:
    made = start(ground, "files")
    yield made
    stop(made)


def content(answer: httpx.Response) -> bytes:
    assert answer.status_code in (200, 206), answer.text
    return answer.content


def test_a_file_is_written_whole_and_read_again_from_both_sides(living: Living) -> None:
    data = bytes(range(256)) * 5000
    told = living.put("dir-less.bin", data, mode="640").json()
    assert (told["path"], told["kind"], told["size_bytes"], told["mode"]) == ("dir-less.bin", "file", len(data), "0640")
    assert content(living.files("dir-less.bin", content=True)) == data
    assert (
        living.sh("wc -c < /workspace/dir-less.bin; stat -c %a /workspace/dir-less.bin")["stdout"]
        == f"{len(data)}\n640\n"
    )


def test_what_is_shown_is_a_download_that_does_nothing_in_a_browser(living: Living) -> None:
    living.put("page ü.html", b"<script>alert(1)</script>")
    answer = living.client.get(
        f"{living.path}/files", params={"path": "page ü.html"}, headers={"Accept": "application/octet-stream"}
    )
    assert content(answer) == b"<script>alert(1)</script>"
    headers = answer.headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''page%20%C3%BC.html"
    assert headers["content-security-policy"] == "sandbox"
    assert headers["x-content-type-options"] == "nosniff"


def test_ranges_and_tags(living: Living) -> None:
    living.put("ranged", b"0123456789")
    whole = living.files("ranged", content=True)
    tag = whole.headers["etag"]

    def asked(**headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return living.client.get(f"{living.path}/files", params={"path": "ranged", "content": True}, headers=names)

    for text, found, told in (
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
    ):
        answer = asked(Range=text)
        assert (answer.status_code, answer.content) == (206, found)
        assert answer.headers["content-range"] == told
    assert asked(Range="bytes=1-2,4-5").content == b"0123456789"
    assert asked(Range="bytes=1-2", If_Range='"older"').content == b"0123456789"
    assert asked(Range="bytes=1-2", If_Range=tag).content == b"12"
    problem(asked(Range="bytes=10-"), 416, "range_unsatisfiable")
    assert asked(If_None_Match=tag).status_code == 304
    living.put("ranged", b"9876543210")
    assert asked(If_None_Match=tag).status_code == 200


def test_directories_are_listed_made_moved_and_deleted(living: Living) -> None:
    made = living.client.post(f"{living.path}/files/directory", json={"path": "a/b/c"})
    assert made.json()["kind"] == "directory"
    living.put("a/b/file", b"content")
    listed = living.files("a/b").json()
    assert listed["file"]["kind"] == "directory"
    assert [(each["path"], each["kind"]) for each in listed["items"]] == [("a/b/c", "directory"), ("a/b/file", "file")]
    assert living.files("/workspace/a/b/file").json()["file"]["size_bytes"] == 7
    moved = living.client.post(f"{living.path}/files/move", json={"source": "a/b/file", "target": "a/moved"})
    assert moved.json()["path"] == "a/moved"
    living.put("a/taken", b"")
    again = living.client.post(f"{living.path}/files/move", json={"source": "a/moved", "target": "a/taken"})
    assert again.status_code == 409
    full = living.client.delete(f"{living.path}/files", params={"path": "a"})
    assert full.status_code == 409
    assert living.client.delete(f"{living.path}/files", params={"path": "a", "recursive": True}).status_code == 204
    problem(living.files("a"), 404, "file_not_found")


@pytest.fixture(scope="module")
def hostile(living: Living) -> Living:
    living.sh(
        "cd /workspace; ln -s /etc/passwd link; ln -s / root; ln -s .. up; mkdir real; ln -s real inside;"
        "echo x > real/file; mkfifo pipe; ln -s ../../../../etc deep; ln /workspace/real/file hard"
    )
    return living


@pytest.mark.parametrize("path", ["link", "root/etc/passwd", "up/etc/passwd", "inside/file", "deep/passwd"])
def test_nothing_is_read_or_written_through_a_link(hostile: Living, path: str) -> None:
    assert hostile.files(path, content=True).status_code in (403, 409, 422), path
    assert b"root:" not in hostile.files(path, content=True).content
    if "/" in path:
        assert hostile.put(path, b"mine").status_code in (403, 409, 422), path
        assert hostile.client.delete(f"{hostile.path}/files", params={"path": path}).status_code in (403, 409, 422)
    assert hostile.run("cat", "/workspace/real/file")["stdout"] == "x\n"


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "/workspace/../etc/passwd", "real/../../etc/passwd"])
def test_a_path_that_leads_out_is_none(hostile: Living, path: str) -> None:
    assert hostile.files(path, content=True).status_code in (403, 404, 422), path
    assert hostile.put(path, b"mine").status_code in (403, 404, 422), path


def test_a_pipe_is_not_waited_for(hostile: Living) -> None:
    began = time.monotonic()
    assert hostile.files("pipe", content=True).status_code in (403, 409)
    assert time.monotonic() - began < 5


def test_a_link_is_told_as_one_and_written_over_as_a_name(hostile: Living) -> None:
    items = {each["path"]: each["kind"] for each in hostile.files("").json()["items"]}
    assert items["link"] == "link"
    assert items["pipe"] == "other"
    assert hostile.put("link", b"mine").status_code == 200
    assert content(hostile.files("link", content=True)) == b"mine"
    assert hostile.run("head", "-c", "5", "/etc/passwd")["stdout"] == "root:"


def test_an_upload_that_breaks_off_leaves_what_was(living: Living) -> None:
    living.put("steady", b"as it was")

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        living.client.put(f"{living.path}/files", params={"path": "steady"}, content=broken())
    assert content(living.files("steady", content=True)) == b"as it was"
    assert [each["path"] for each in living.files("").json()["items"] if "steady" in each["path"]] == ["steady"]


def test_changes_are_told_as_they_come(living: Living) -> None:
    found: list[Json] = []

    def watch() -> None:
        with living.client.stream(
            "GET", f"{living.path}/files", params={"watch": True, "path": ""}, timeout=10
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            ready.set()
            for each in _events(answer.iter_lines()):
                found.append(each)
                if each["data"].get("path") == "watched-last":
                    return

    ready = threading.Event()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert ready.wait(10)
    living.sh("cd /workspace; echo 1 > watched; mv watched watched-moved; rm watched-moved; echo > watched-last")
    thread.join(10)
    kinds = [(each["data"]["kind"], each["data"]["path"]) for each in found]
    assert ("created", "watched") in kinds
    assert ("moved", "watched-moved") in kinds
    assert ("deleted", "watched-moved") in kinds


def test_every_access_is_recorded_with_its_path_where_content_is_kept(make_ground: Any) -> None:
    living = start(make_ground(persistence_mode="full"), "full")
    living.put("recorded", b"x")
    living.files("recorded", content=True)
    living.client.delete(f"{living.path}/files", params={"path": "recorded"})
    told: list[tuple[Any, ...]] = []
    deadline = time.monotonic() + 10
    while len(told) < 3 and time.monotonic() < deadline:
        details = [each["details"] for each in living.events("sandbox.accessed")]
        told = [(each["kind"], each["path"]) for each in details if each["path"] == "recorded"]
    assert set(told) == {("write", "recorded"), ("read", "recorded"), ("delete", "recorded")}
    stop(living)


def test_every_access_is_recorded_without_its_path_elsewhere(living: Living) -> None:
    living.put("recorded", b"x")
    event = living.events("sandbox.accessed")[0]
    assert (event["details"]["kind"], event["withheld"]) == ("write", ["details.path"])
    assert "recorded" not in str(event)


def test_who_may_read_does_not_write(living: Living) -> None:
    living.put("shown", b"to viewers")
    key = living.ground.tenant.key(living.ground.workspace, "viewer")
    viewer = Living(living.ground, living.id, living.name, key)
    assert content(viewer.files("shown", content=True)) == b"to viewers"
    problem(viewer.put("shown", b"mine"), 403, "permission_missing")
    problem(viewer.client.delete(f"{living.path}/files", params={"path": "shown"}), 403, "permission_missing")
