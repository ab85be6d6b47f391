"""Files and objects: only where the installation says, whole, and nothing in them that a terminal would obey."""

import fcntl
import json
import os
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from tests.integration.streams.conftest import Home, Json, stream_all

pytestmark = pytest.mark.xdist_group("streams")

HOSTILE = "one\r\ntwo\u001b[2Jthree\u2028=cmd|'/c calc'!A1"


def lines_of(collected: Path, home: Home, stream: str) -> list[Json]:
    files = sorted((collected / home.id / stream).iterdir())
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


async def test_a_file_a_day_below_the_tenants_own_folder(acme: Home, collected: Path) -> None:
    made = await acme.stream(kind="file", directory="siem")
    following = acme.house.following()
    for name in ("one", "two"):
        await acme.record(name)
        await acme.house.seal()
        await stream_all(following)
        acme.house.clock.ahead += timedelta(hours=1)
    assert [event["data"]["resource"]["id"] for event in lines_of(collected, acme, made["id"])] == ["one", "two"]
    folder = collected / acme.id / made["id"]
    assert (folder.stat().st_mode & 0o777, next(folder.iterdir()).stat().st_mode & 0o777) == (0o700, 0o600)
    assert made["hint"] == f"siem/…/{made['id']}"


async def test_no_line_has_anything_that_a_terminal_or_a_reader_of_lines_would_obey(
    acme: Home, collected: Path
) -> None:
    """Log injection: CR, LF, escape sequences and separators are text, escaped."""
    made = await acme.stream(kind="file", directory="siem")
    await acme.record(HOSTILE, name=HOSTILE)
    await acme.house.seal()
    await stream_all(acme.house.following())
    [file] = (collected / acme.id / made["id"]).iterdir()
    raw = file.read_bytes()
    assert raw.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in raw)
    [event] = lines_of(collected, acme, made["id"])
    assert event["data"]["resource"]["id"] == event["data"]["details"]["name"] == HOSTILE


@pytest.mark.parametrize("directory", ["../etc", "/etc", "other", "", "siem/../.."])
async def test_a_tenant_chooses_no_path(directory: str, acme: Home) -> None:
    body = {"name": "x", "kind": "file", "directory": directory}
    answer = await acme.owner.post("/audit/streams", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "stream_invalid")


async def test_a_link_that_was_planted_is_not_followed(acme: Home, collected: Path, tmp_path: Path) -> None:
    """Whoever may write into the directory leads no event elsewhere, and no file of ours is written through a link."""
    made = await acme.stream(kind="file", directory="siem")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (collected / acme.id).symlink_to(elsewhere)
    await acme.record("one")
    await acme.house.seal()
    following = acme.house.following()
    await stream_all(following)
    assert list(elsewhere.iterdir()) == []
    failed = await acme.shown(made["id"])
    assert (failed["attempts"], failed["last_error"]) == (1, "file_not_a_directory")
    (collected / acme.id).unlink()
    acme.house.clock.ahead += timedelta(minutes=1)
    await stream_all(following)
    assert len(lines_of(collected, acme, made["id"])) == 1


async def test_a_fifo_holds_nobody_up(acme: Home, collected: Path) -> None:
    made = await acme.stream(kind="file", directory="siem")
    folder = collected / acme.id / made["id"]
    folder.mkdir(parents=True)
    os.mkfifo(folder / f"{acme.house.clock.now():%Y-%m-%d}.jsonl")
    await acme.record("one")
    await acme.house.seal()
    await stream_all(acme.house.following())
    assert (await acme.shown(made["id"]))["last_error"] == "file_not_regular"


async def test_a_writer_that_has_outlived_its_lease_keeps_the_next_one_out(acme: Home, collected: Path) -> None:
    """Two that append at once would mix their lines. Red once without the lock."""
    made = await acme.stream(kind="file", directory="siem")
    folder = collected / acme.id / made["id"]
    folder.mkdir(parents=True)
    file = folder / f"{acme.house.clock.now():%Y-%m-%d}.jsonl"
    await acme.record("one")
    await acme.house.seal()
    following = acme.house.following()
    with file.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await stream_all(following)
        assert file.read_bytes() == b""
    assert (await acme.shown(made["id"]))["last_error"] == "file_busy"
    acme.house.clock.ahead += timedelta(seconds=10)
    await stream_all(following)
    assert len(lines_of(collected, acme, made["id"])) == 1


async def test_parts_among_the_objects_are_named_by_their_places(acme: Home) -> None:
    made = await acme.stream(kind="object", format="ocsf")
    names = [f"n{number}" for number in range(250)]
    await acme.record(*names)
    await acme.house.seal()
    await stream_all(acme.house.following())
    objects = acme.house.parts.objects["us"]
    keys = [entry.key async for entry in objects.list_objects(acme.tenant_id, f"audit/streams/{made['id']}")]
    assert len(keys) >= 2
    parts = [b"".join([piece async for piece in objects.get(acme.tenant_id, key)]) for key in keys]
    events = [json.loads(line) for part in parts for line in part.splitlines()]
    assert [event["unmapped"]["resource"]["id"] for event in events] == names
    assert {event["class_uid"] for event in events} == {6003}
    ends = [tuple(int(each) for each in key.rpartition("/")[2].removesuffix(".jsonl").split("-")) for key in keys]
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(ends))
