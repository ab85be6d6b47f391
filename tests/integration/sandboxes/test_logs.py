"""Output, live and afterwards: nothing lost, nothing twice, in order, and no longer than one may read it."""

# ruff: noqa: ASYNC110 - nothing else shares the loop: it looks at the database until something is so

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from tests.ending import joined
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, Json, until

from tenantry.foundation.database.embedded import EmbeddedPostgres

COUNT = "i=0; while [ $i -lt {n} ]; do i=$((i+1)); echo line $i; {pause}; done"


def text_of(events: list[Json], *streams: str) -> str:
    logs = [event["data"] for event in events if event["event"] == "log"]
    return "".join(line["text"] for line in logs if line["stream"] in (streams or ("stdout", "stderr", "system")))


def counted(n: int) -> str:
    return "".join(f"line {number}\n" for number in range(1, n + 1))


def test_a_live_stream_shows_lines_as_they_come_and_then_the_end(ground: Ground) -> None:
    job_id = ground.start("sh", "-c", "echo first; sleep 0.6; echo second; exit 7")
    with ground.follow(job_id) as events:
        first = next(events)
        seen = time.monotonic()
        assert first["data"]["text"] == "first\n"
        rest = list(events)
    assert time.monotonic() - seen > 0.3, "the first line did not wait for the second"
    assert text_of(rest) == "second\n"
    assert rest[-1]["event"] == "end"
    assert rest[-1]["data"] == {"status": "failed", "exit_code": 7, "reason": "exited"}


def test_a_dropped_connection_is_resumed_without_loss_or_repetition(ground: Ground) -> None:
    job_id = ground.start("sh", "-c", COUNT.format(n=60, pause="sleep 0.02"))
    whole: list[Json] = []
    last = 0
    while not whole or whole[-1]["event"] != "end":
        with ground.follow(job_id, after=last) as events:
            for event in events:
                whole.append(event)
                if event["event"] == "log":
                    last = event["id"]
                    if len(whole) % 3 == 0:
                        break
    ids = [event["id"] for event in whole if event["event"] == "log"]
    assert ids == list(range(1, len(ids) + 1))
    assert text_of(whole) == counted(60)
    assert len(ids) > 5


def test_many_followers_of_a_fast_writer_all_see_everything(ground: Ground) -> None:
    """Batches that became visible out of order would be missed by whoever had read the later one."""
    job_id = ground.start("sh", "-c", "sleep 0.3; seq 1 60000", limits={"output_bytes": 1 << 20})
    found: list[list[Json]] = []
    threads = [threading.Thread(target=lambda: found.append(ground.followed(job_id)), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        joined(thread, seconds=60)
    expected = "".join(f"{number}\n" for number in range(1, 60001))
    assert [text_of(events) == expected for events in found] == [True] * 4
    job = ground.job(job_id)
    assert job["log"] == {"size_bytes": len(expected), "sha256": hashlib.sha256(expected.encode()).hexdigest()}


def test_pages_hold_it_all_once(ground: Ground) -> None:
    job = ground.sh(COUNT.format(n=8, pause="sleep 0.15"))
    whole, pages, cursor = "", 0, None
    while True:
        page = ground.log(job["id"], limit=2, **({"cursor": cursor} if cursor else {}))
        whole += "".join(item["text"] for item in page["items"])
        pages += 1
        if (cursor := page["next_cursor"]) is None:
            break
    assert whole == counted(8)
    assert pages > 2
    assert ground.client.get(f"{ground.jobs}/{job['id']}/logs?follow=false&cursor=-1").status_code == 422


def test_characters_cut_between_two_writes_are_whole(ground: Ground) -> None:
    script = (
        "import os, time\nfor byte in 'naïve 日本 🎉'.encode():\n    os.write(1, bytes([byte])); time.sleep(0.03)\n"
    )
    job = ground.run("python3", "-c", script)
    assert ground.lines(job["id"]) == "naïve 日本 🎉"
    assert len(ground.log(job["id"])["items"]) > 1


def test_bytes_that_are_no_text_are_shown_as_such_and_counted_right(ground: Ground) -> None:
    job = ground.run("python3", "-c", "import os; os.write(1, bytes(range(256)) + b'\\xf0\\x9f')")
    text = ground.lines(job["id"], "stdout")
    assert text.startswith("\x00\x01")
    assert text.endswith("\ufffd")
    assert job["log"]["size_bytes"] == 258
    assert job["log"]["sha256"] == hashlib.sha256(bytes(range(256)) + b"\xf0\x9f").hexdigest()


def test_both_streams_keep_their_names_and_their_order(ground: Ground) -> None:
    job = ground.sh("for i in 1 2 3; do echo out $i; sleep 0.15; echo err $i >&2; sleep 0.15; done")
    items = ground.log(job["id"])["items"]
    assert [(item["stream"], item["text"]) for item in items] == [
        (stream, f"{stream[3:]} {number}\n") for number in (1, 2, 3) for stream in ("stdout", "stderr")
    ]
    assert [item["at"] for item in items] == sorted(item["at"] for item in items)


def test_a_quiet_job_ends_its_stream_too(ground: Ground) -> None:
    assert [event["event"] for event in ground.followed(ground.start("true"))] == ["end"]


def ends_within(ground: Ground, client: httpx.Client, job_id: str, revoke: str, **body: object) -> float:
    """Follow with `client`, make the call that ends it, and tell how long the stream went on."""
    with client.stream("GET", f"{ground.jobs}/{job_id}/logs", timeout=10) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if "begun" in line)
        platform = revoke.startswith("/tenants")
        caller = ground.installation.platform if platform else ground.tenant.owner
        done = caller.post(revoke, json=body) if body else caller.delete(revoke)
        assert done.status_code < 300, done.text
        asked = time.monotonic()
        assert any(line == "event: refused" for line in lines)
        return time.monotonic() - asked


def test_a_revoked_key_sees_no_more_within_a_second(make_ground: MakeGround) -> None:
    ground = make_ground()
    made = ground.tenant.owner.post(
        f"/workspaces/{ground.workspace}/keys", json={"name": "reader", "roles": ["viewer"]}
    ).json()
    job_id = ground.start("sh", "-c", "echo begun; sleep 60")
    client = ground.installation.client(made["secret"])
    revoke = f"/workspaces/{ground.workspace}/keys/{made['id']}"
    assert ends_within(ground, client, job_id, revoke) < 1
    assert client.get(f"{ground.jobs}/{job_id}").status_code == 401
    ground.cancel(job_id)


def test_a_suspended_tenant_sees_no_more_within_a_second(make_ground: MakeGround) -> None:
    ground = make_ground()
    job_id = ground.start("sh", "-c", "echo begun; sleep 60")
    suspend = f"/tenants/{ground.tenant.id}/suspend"
    assert ends_within(ground, ground.client, job_id, suspend, reason="unpaid") < 1


@pytest.mark.timeout(60)
async def test_streams_that_wait_hold_no_connection(make_ground: MakeGround) -> None:
    ground = make_ground(region="eu")
    job_id = ground.start("sh", "-c", "echo begun; sleep 60")
    until(lambda: "begun" in ground.lines(job_id))
    async with httpx.AsyncClient(
        base_url=ground.installation.api, headers=ground.client.headers, timeout=30, limits=httpx.Limits()
    ) as client:
        streams = [client.stream("GET", f"{ground.jobs}/{job_id}/logs") for _ in range(40)]
        answers = [await stream.__aenter__() for stream in streams]
        iterators = [answer.aiter_lines() for answer in answers]
        for lines in iterators:
            assert [line async for line in _first(lines)] == ["event: log"]
        superuser = EmbeddedPostgres(ground.installation.home).superuser
        connection = await asyncpg.connect(
            host=superuser.host, user=superuser.user, password=superuser.password, database="postgres"
        )
        try:
            # The pool is smaller than forty; none of it is in a transaction.
            while await connection.fetchval(
                """select count(*) from pg_stat_activity
                   where datname like '%eu' and usename = 'tenantry_app' and state like 'idle in transaction%'"""
            ):
                await asyncio.sleep(0.02)
        finally:
            await connection.close()
        begun = time.monotonic()
        assert (await client.get(f"{ground.jobs}/{job_id}")).status_code == 200
        assert time.monotonic() - begun < 2
        for stream in streams:
            await stream.__aexit__(None, None, None)
    ground.cancel(job_id)


async def _first(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        return
