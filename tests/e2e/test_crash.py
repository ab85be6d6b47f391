"""Whatever is killed while fifty jobs are under way: none is lost, none is run or reported twice, nothing is left."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from tests.e2e.conftest import ENVIRONMENT, Mortal
from tests.ending import ended, joined
from tests.integration.sandboxes.ground import Ground, Json, until, workers_of

from tenantry.foundation.database.embedded import EmbeddedPostgres

JOBS = 50
SLOTS = int(ENVIRONMENT["TENANTRY_JOBS__SLOTS"])
ENDS = {"succeeded", "failed", "cancelled", "timed_out", "denied"}


def enqueue(ground: Ground, mark: str) -> list[str]:
    """Fifty jobs, each known by the odd length of its nap."""
    return [ground.start("sh", "-c", f"echo begun {n}; sleep {mark}; echo ended {n}") for n in range(JOBS)]


def all_ended(ground: Ground, jobs: list[str]) -> dict[str, Json]:
    def look() -> dict[str, Json] | None:
        found: dict[str, Json] = {}
        cursor = None
        while True:
            params: dict[str, str | int] = {"limit": 100} | ({"cursor": cursor} if cursor else {})
            page = ground.client.get(ground.jobs, params=params).json()
            found |= {job["id"]: job for job in page["items"]}
            if (cursor := page["next_cursor"]) is None:
                break
        return found if all(job["status"] in ENDS for job in found.values()) else None

    ended = until(look, seconds=40)
    assert ended is not None
    assert set(ended) == set(jobs)
    return ended


def check(ground: Ground, jobs: list[str], *, most_lost: int, reasons: set[str]) -> Counter[str]:
    """Each ended once, those cut off say why, all others did all they had to."""
    ended = all_ended(ground, jobs)
    events = []
    params: dict[str, str | int] = {"limit": 200, "action": "job."}
    while True:
        page = ground.tenant.owner.get("/audit", params=params).json()
        events += page["items"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    ends = Counter(event["resource"]["id"] for event in events if event["action"].removeprefix("job.") in ENDS)
    assert ends == Counter(jobs), "one end for each"
    for number, job_id in enumerate(jobs):
        job = ended[job_id]
        if job["status"] == "succeeded":
            assert ground.lines(job_id) == f"begun {number}\nended {number}\n"
            assert ground.client.get(f"{ground.jobs}/{job_id}/receipt").status_code == 200
        else:
            assert (job["status"], job["reason"] in reasons) == ("failed", True), job
    counts = Counter(job["status"] for job in ended.values())
    assert counts["failed"] <= most_lost, counts
    return counts


def under_way(ground: Ground) -> None:
    """Wait until some have ended and others run."""
    until(lambda: len(ground.client.get(ground.jobs, params={"status": "succeeded"}).json()["items"]) >= 5)
    until(lambda: ground.client.get(ground.jobs, params={"status": "running"}).json()["items"])


def processes_with(mark: str) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if mark.encode() in words or any(f"sleep {mark};".encode() in word for word in words):
                found.append(int(place.name))
    return found


def owners(home: Path) -> set[str]:
    return {path.name for path in (home / "jail" / "owners").iterdir()}


def groups_of(instances: set[str]) -> list[Path]:
    return [
        path
        for path in Path("/sys/fs/cgroup").rglob("tenantry-jail/*")
        if path.is_dir() and any(path.name.startswith(instance) for instance in instances)
    ]


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def kill_workers(mortal: Mortal) -> None:
    kill(*workers_of(mortal.running).values())


def kill_server_and_workers(mortal: Mortal) -> None:
    kill(*workers_of(mortal.running).values(), mortal.running.process.pid)
    ended(mortal.running.process)
    mortal.restart()


def kill_server(mortal: Mortal) -> None:
    kill(mortal.running.process.pid)
    ended(mortal.running.process)
    mortal.restart()


def stop_server(mortal: Mortal) -> None:
    mortal.running.stop()
    mortal.restart()


@pytest.mark.parametrize(
    ("crash", "reasons"),
    [
        (kill_workers, {"worker_lost"}),
        (kill_server_and_workers, {"worker_lost"}),
        (kill_server, {"worker_lost", "worker_stopped"}),
        (stop_server, {"worker_stopped"}),
    ],
    ids=["workers-killed", "all-killed", "server-killed", "stopped"],
)
def test_a_death_loses_no_job_runs_none_twice_and_leaves_nothing_over(
    mortal: Mortal, crash: Callable[[Mortal], None], reasons: set[str]
) -> None:
    mark = f"0.2{time.monotonic_ns() % 10_000_000:07}"
    ground = mortal.ground()
    home = mortal.running.home
    postmaster = EmbeddedPostgres(home)._pid()
    before = owners(home)
    jobs = enqueue(ground, mark)
    under_way(ground)
    died = time.monotonic()
    crash(mortal)
    ground = mortal.again(ground)
    counts = check(ground, jobs, most_lost=SLOTS, reasons=reasons)
    assert counts["failed"] >= 1, "something was running"
    assert time.monotonic() - died < 30
    assert processes_with(mark) == []
    until(lambda: not owners(home) & before)
    assert groups_of(before) == []
    if crash is not stop_server:
        assert EmbeddedPostgres(home)._pid() == postmaster, "PostgreSQL lived on and was adopted"
    assert ground.run("true")["status"] == "succeeded"


async def test_connections_cut_off_again_and_again_lose_no_job(mortal: Mortal) -> None:
    """Workers live on, so nothing needs to fail: what cannot be written now is written a moment later."""
    ground = mortal.ground()
    superuser = EmbeddedPostgres(mortal.running.home).superuser
    connection = await asyncpg.connect(
        host=superuser.host, user=superuser.user, password=superuser.password, database="postgres"
    )
    jobs = enqueue(ground, "0.23")
    stop = threading.Event()
    answers: list[int] = []

    def read() -> None:
        while not stop.wait(0.05):
            answers.append(ground.client.get(ground.jobs).status_code)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        for _ in range(5):
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname like '%us' or datname like '%eu'"
            )
            time.sleep(0.3)  # noqa: ASYNC251 - the pause is the point: they come back in between
    finally:
        stop.set()
        joined(reader)
        await connection.close()
    counts = check(ground, jobs, most_lost=0, reasons=set())
    assert counts == {"succeeded": JOBS}
    assert set(answers) <= {200, 503}


def test_a_stream_is_resumed_at_the_next_server_where_it_broke_off(mortal: Mortal) -> None:
    ground = mortal.ground()
    job_id = ground.start("sh", "-c", "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo line $i; sleep 0.03; done")
    seen: list[Json] = []
    with contextlib.suppress(httpx.HTTPError), ground.follow(job_id) as events:
        for event in events:
            seen.append(event)
            if len(seen) == 4:
                kill(mortal.running.process.pid)
    ended(mortal.running.process)
    mortal.restart()
    ground = mortal.again(ground)
    ground.ended(job_id)
    last = seen[-1]["id"]
    rest = ground.followed(job_id, after=last)
    assert rest[-1]["event"] == "end"
    whole = [event for event in seen + rest if event["event"] == "log"]
    assert [event["id"] for event in whole] == list(range(1, len(whole) + 1))
    text = "".join(event["data"]["text"] for event in whole if event["data"]["stream"] == "stdout")
    numbers = [int(line.removeprefix("line ")) for line in text.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 4


def test_an_upload_is_cut_off_at_its_cap_whatever_length_it_claims(mortal: Mortal) -> None:
    ground = mortal.ground()
    cap = int(ENVIRONMENT["TENANTRY_SERVER__MAX_UPLOAD_BYTES"])
    place = f"/workspaces/{ground.workspace}/images?name=big:1&format=directory"
    headers = {"Content-Type": "application/x-tar"}
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 64 << 20:
            sent += 1 << 16
            yield bytes(1 << 16)

    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
        answer = ground.client.post(place, content=endless(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert sent < 64 << 20 or sent > cap
    store = mortal.running.home / "us" / ground.tenant.id / "images"
    assert [path for path in store.rglob("*") if path.name.startswith(("import-", "archive"))] == []
    assert list(store.glob("sha256/*")) == []


def test_the_platform_key_and_the_address_are_told_to_the_owner_alone(mortal: Mortal) -> None:
    home = mortal.running.home
    assert (home / "credentials.json").stat().st_mode & 0o077 == 0
    assert set(json.loads((home / "server.json").read_text())) >= {"pid", "url"}
    listing = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert mortal.running.platform_key not in listing
