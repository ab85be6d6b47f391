"""What the engine is asked for under gVisor, what engine and runtime get to see, and what becomes of a container."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.prisons import Prison, opened_prison

from tenantry.engines.jail import overheads
from tenantry.engines.jail.gvisor import container
from tenantry.engines.jail.gvisor.group import SentryGroup
from tenantry.engines.jail.types import Ending, InputFile, Limits

CANARY = "canary-77c1"


@pytest.fixture(scope="module")
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison("gvisor", tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


@pytest.fixture
async def engine(docker_socket: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(docker_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=60) as client:
        yield client


def read_all(pattern: str) -> bytes:
    found = b""
    for path in Path("/proc").glob(pattern):
        try:
            found += path.read_bytes()
        except OSError:
            continue
    return found


async def test_neither_engine_nor_runtime_sees_what_a_program_is_given(prison: Any, engine: httpx.AsyncClient) -> None:
    """Its command, environment, inputs and secrets come in past both: by a socket, and by files that were lent."""
    given = (InputFile("given", CANARY.encode()),)
    command = ("sh", "-c", f": {CANARY}; cat /inputs/given /run/secrets/given; echo $TOKEN; sleep 60")
    said, heard = bytearray(), asyncio.Event()

    def hear(_: object, text: bytes) -> None:
        said.extend(text)
        if said.count(CANARY.encode()) == 3:
            heard.set()

    spec = prison.spec(*command, env={"TOKEN": CANARY}, inputs=given, secret_files=given)
    async with await prison.jail.start(spec, hear) as sandbox:
        async with asyncio.timeout(30):
            await heard.wait()
        inspected = await engine.get(f"/containers/{sandbox.id}/json")
        seen = [inspected.text, (await engine.get(f"/containers/{sandbox.id}/logs?stdout=1")).text]
        seen.append((await engine.get("/events?since=0&until=1")).text)
        assert CANARY not in "".join(seen)
        assert inspected.json()["Config"]["Entrypoint"] == [f"/{container.KEEPER}"]
        for pattern in ("[0-9]*/cmdline", "[0-9]*/environ"):
            assert CANARY.encode() not in await asyncio.to_thread(read_all, pattern)


async def test_a_container_has_no_more_than_it_needs(prison: Any, engine: httpx.AsyncClient) -> None:
    limits = Limits(memory_mib=64, pids=16, cpus=0.5)
    async with await prison.jail.start(prison.spec("sleep", "60", limits=limits), lambda *_: None) as sandbox:
        made = (await engine.get(f"/containers/{sandbox.id}/json")).json()
    host = made["HostConfig"]
    assert (host["Runtime"], host["Privileged"], host["CapAdd"], host["CapDrop"]) == ("runsc", False, None, ["ALL"])
    assert (host["NetworkMode"], host["IpcMode"], host["ReadonlyRootfs"]) == ("none", "none", True)
    assert (host["PidMode"], host["Devices"], host["Binds"], host["LogConfig"]["Type"]) == ("", None, None, "none")
    assert host["SecurityOpt"] == ["no-new-privileges"]
    memory = 64 + overheads.OVERHEAD_MIB << 20
    assert (host["Memory"], host["MemorySwap"], host["CpuQuota"]) == (memory, memory, 50_000)
    assert host["PidsLimit"] == overheads.tasks(limits) < 4096
    assert [mount["Target"] for mount in host["Mounts"] if not mount.get("ReadOnly")] == ["/workspace"]
    shown = {mount["Source"] for mount in host["Mounts"]} - {str(bind.source) for bind in prison.host.binds}
    assert len(shown) == 1
    assert made["Config"]["User"] == "65534:65534"


async def test_what_was_lent_is_out_of_sight_while_it_runs(prison: Any, engine: httpx.AsyncClient) -> None:
    async with await prison.jail.start(prison.spec("sleep", "60"), lambda *_: None) as sandbox:
        made = (await engine.get(f"/containers/{sandbox.id}/json")).json()
        mounted = (await asyncio.to_thread(read_all, "self/mountinfo")).decode()
        (lent,) = [mount["Source"] for mount in made["HostConfig"]["Mounts"] if not mount.get("ReadOnly")]
        assert lent not in mounted
        assert not await asyncio.to_thread(Path(lent).exists)


def test_of_a_spec_nothing_but_numbers_and_the_image_makes_a_container(prison: Any) -> None:
    """Two programs that differ in all else get containers that differ in nothing."""
    specs = [prison.spec("sh", "-c", word, env={"A": word}, workdir=f"/{word}") for word in ("one", "two")]
    assert len({container.Shape.of("sha256:a", spec, runtime="runsc") for spec in specs}) == 1


async def test_a_container_that_somebody_else_ends_is_told_as_killed(prison: Any, engine: httpx.AsyncClient) -> None:
    async with await prison.jail.start(prison.spec("sleep", "60"), lambda *_: None) as sandbox:
        (await engine.post(f"/containers/{sandbox.id}/kill")).raise_for_status()
        async with asyncio.timeout(20):
            outcome = await sandbox.wait()
    assert (outcome.ending, outcome.detail) == (Ending.KILLED, "its container was ended by somebody else")
    assert (await prison.sh("exit 3")).outcome.exit_code == 3


async def test_a_program_that_ends_its_kernels_first_process_ends_nothing(prison: Any) -> None:
    ran = await prison.sh("kill -9 1; kill -9 -1; sleep 0.1; cat /proc/1/environ; echo still")
    assert ran.outcome.exit_code != 0 or "still" in ran.out
    assert (await prison.sh("echo next")).out == "next\n"


async def test_the_group_stays_until_it_has_been_read(prison: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late that is: engine and runtime take it away as soon as the kernel is gone."""
    settle = SentryGroup.settle

    def late(group: SentryGroup) -> None:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and all(place.is_dir() for place in group.directories):
            subprocess.run(["true"], check=True)
        settle(group)

    monkeypatch.setattr(SentryGroup, "settle", late)
    script = "(head -c 300m /dev/zero | tail -c 290m >/dev/null) 2>/dev/null; exit 0"
    outcome = (await prison.sh(script, limits=Limits(memory_mib=64, timeout_seconds=60))).outcome
    assert (outcome.ending, outcome.usage.oom_kills) == (Ending.OUT_OF_MEMORY, 1)


async def test_no_container_and_no_directory_is_left_when_the_backend_is_closed(
    engine: httpx.AsyncClient, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened_prison("gvisor", tmp_path, request) as other:
        for _ in range(3):
            await other.sh("true")
        held = await other.jail.start(other.spec("sleep", "60"), lambda *_: None)
        wanted = {"all": "true", "filters": json.dumps({"label": [f"tenantry.home={tmp_path}"]})}
        assert held.id in {one["Id"] for one in (await engine.get("/containers/json", params=wanted)).json()}
    assert (await engine.get("/containers/json", params=wanted)).json() == []
    assert list((tmp_path / "gvisor" / "rooms").iterdir()) == []
    assert str(tmp_path) not in (await asyncio.to_thread(read_all, "self/mountinfo")).decode()
