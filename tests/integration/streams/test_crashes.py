"""A streaming process is killed at every moment of a batch: nothing is lost, and what comes again is whole."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests.integration.notifications.receivers import Receiver
from tests.integration.streams.conftest import Home, stream_all, told

pytestmark = pytest.mark.xdist_group("streams")


@asynccontextmanager
async def killed_at(home: Path, point: str, *, collected: Path) -> AsyncIterator[None]:
    """Run a streaming process until it says that it has come to a point, and kill it there."""
    environment = {
        **os.environ,
        "TENANTRY_NOTIFICATIONS__ALLOW_PRIVATE_ADDRESSES": "true",
        "TENANTRY_AUDIT__STREAM_DIRECTORIES": json.dumps({"siem": str(collected)}),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.streams.streamer", str(home), point),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while (line := await process.stdout.readline()) != f"{point}\n".encode():
                assert line, "it ended by itself"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("point", "arrived"), [("claimed", ["one", "two"]), ("sent", ["one", "two", "one", "two"])], ids=["claimed", "sent"]
)
async def test_killed_around_a_sending(
    point: str, arrived: list[str], acme: Home, receiver: Receiver, collected: Path
) -> None:
    """Sent and not noted comes twice, under the same ids; claimed and not sent comes once. Nobody has it meanwhile."""
    made = await acme.stream(f"{receiver.url}/in")
    await acme.record("one", "two")
    await acme.house.seal()
    following = acme.house.following()
    async with killed_at(acme.house.ground.home, point, collected=collected):
        await stream_all(following)
        assert told(receiver) == arrived[2:], "its lease did not hold"
        acme.house.clock.ahead += timedelta(seconds=121)
        await stream_all(following)
    assert told(receiver) == arrived
    ids = [event["id"] for heard in receiver.heard for event in json.loads(heard.body)]
    assert len(set(ids)) == 2
    assert (await acme.shown(made["id"]))["lag_events"] == 0 or (await acme.shown(made["id"]))["sent"] == 2


@pytest.mark.parametrize("point", ["claimed", "half", "sent"])
async def test_killed_around_a_write_to_a_file(point: str, acme: Home, collected: Path) -> None:
    """Red once against a build that appended behind half a line."""
    made = await acme.stream(kind="file", directory="siem")
    await acme.record("one", "two")
    await acme.house.seal()
    async with killed_at(acme.house.ground.home, point, collected=collected):
        acme.house.clock.ahead += timedelta(seconds=121)
        await stream_all(acme.house.following())
    files = sorted((collected / acme.id / made["id"]).iterdir())
    lines = b"".join(file.read_bytes() for file in files)
    assert lines.endswith(b"\n")
    events = [json.loads(line)["data"]["resource"]["id"] for line in lines.splitlines()]
    whole = {"claimed": ["one", "two"], "half": ["one", "one", "two"], "sent": ["one", "two", "one", "two"]}
    assert events == whole[point]


@pytest.mark.parametrize("point", ["claimed", "sent"])
async def test_killed_around_a_part_among_the_objects(point: str, acme: Home, collected: Path) -> None:
    made = await acme.stream(kind="object")
    await acme.record("one", "two")
    await acme.house.seal()
    async with killed_at(acme.house.ground.home, point, collected=collected):
        acme.house.clock.ahead += timedelta(seconds=121)
        await stream_all(acme.house.following())
    objects = acme.house.parts.objects["us"]
    keys = [entry.key async for entry in objects.list_objects(acme.tenant_id, f"audit/streams/{made['id']}")]
    parts = [b"".join([piece async for piece in objects.get(acme.tenant_id, key)]) for key in keys]
    named = [json.loads(line)["data"]["resource"]["id"] for part in parts for line in part.splitlines()]
    assert set(named) == {"one", "two"}
    assert named[:2] == ["one", "two"]
