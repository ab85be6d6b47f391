"""What the engine is asked for, what it gets to see, and what becomes of a container that others lay hands on."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.jail.living import kept
from tests.integration.jail.test_remains import children_of, link_of
from tests.prisons import Prison, opened_prison

from tenantry.engines.jail import uids
from tenantry.engines.jail.docker import container, rooms
from tenantry.engines.jail.docker.backend import DockerBackend
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.exec_types import TerminalSize
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.types import Ending, InputFile, Limits, Spec

CANARY = "canary-9d41"


@pytest.fixture(scope="module")
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison("docker", tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


@pytest.fixture
async def engine(docker_socket: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(docker_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=60) as client:
        yield client


async def test_the_engine_never_sees_what_a_program_is_given(prison: Any, engine: httpx.AsyncClient) -> None:
    """Neither its command nor its environment, inputs or secrets: they are put in past it."""
    given = (InputFile("given", CANARY.encode()),)
    command = ("sh", "-c", f": {CANARY}; sleep 60")
    spec = prison.spec(*command, env={"TOKEN": CANARY}, inputs=given, secret_files=given)
    async with await prison.jail.start(spec, lambda *_: None) as sandbox:
        inspected = await engine.get(f"/containers/{sandbox.id}/json")
        seen = [inspected.text, (await engine.get(f"/containers/{sandbox.id}/logs?stdout=1")).text]
        seen.append((await engine.get("/events?since=0&until=1")).text)
        assert CANARY not in "".join(seen)
        assert inspected.json()["Config"]["Entrypoint"] == ["/run/keeper"]


async def test_a_container_has_no_more_than_it_needs(prison: Any, engine: httpx.AsyncClient) -> None:
    limits = Limits(memory_mib=64, pids=16, cpus=0.5)
    async with await prison.jail.start(prison.spec("sleep", "60", limits=limits), lambda *_: None) as sandbox:
        made = (await engine.get(f"/containers/{sandbox.id}/json")).json()
    host = made["HostConfig"]
    assert (host["Privileged"], host["CapAdd"], host["CapDrop"]) == (False, None, ["ALL"])
    assert (host["NetworkMode"], host["IpcMode"], host["CgroupnsMode"]) == ("none", "private", "private")
    assert (host["ReadonlyRootfs"], host["PidMode"], host["Devices"]) == (True, "", None)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"], host["CpuQuota"]) == (64 << 20, 64 << 20, 19, 50_000)
    assert host["LogConfig"]["Type"] == "none"
    assert host["Binds"] is None
    assert all(mount["ReadOnly"] for mount in host["Mounts"])
    assert {mount["Source"] for mount in host["Mounts"]} == {str(bind.source) for bind in prison.host.binds}
    assert made["Config"]["User"] == f"{sandbox.receipt.uid}:{sandbox.receipt.uid}"
    assert int(made["Config"]["User"].partition(":")[0]) >= 200_000


def test_of_a_spec_nothing_but_numbers_and_the_image_makes_a_container() -> None:
    """Two programs that differ in all else get containers that differ in nothing."""
    limits = Limits(memory_mib=64)
    shapes = {container.Shape.of("sha256:a", (), limits) for _ in range(2)}
    assert len(shapes) == 1
    config = container.container_config(shapes.pop(), uid=200_001, labels={}, runtime=None)
    assert set(config) == {
        *("Image", "Entrypoint", "Cmd", "Env", "User", "Hostname", "WorkingDir", "Labels", "AttachStdin", "OpenStdin"),
        *("StdinOnce", "Tty", "NetworkDisabled", "HostConfig"),
    }


async def test_a_container_that_somebody_else_ends_is_told_as_killed(prison: Any, engine: httpx.AsyncClient) -> None:
    async with await prison.jail.start(prison.spec("sleep", "60"), lambda *_: None) as sandbox:
        (await engine.post(f"/containers/{sandbox.id}/kill")).raise_for_status()
        async with asyncio.timeout(20):
            outcome = await sandbox.wait()
    assert (outcome.ending, outcome.detail) == (Ending.KILLED, "its container was ended by somebody else")
    assert (await prison.sh("exit 3")).outcome.exit_code == 3


async def test_a_container_that_waits_and_is_gone_is_not_taken(prison: Any, engine: httpx.AsyncClient) -> None:
    for _ in range(3):
        assert (await prison.sh("exit 4")).outcome.exit_code == 4
    wanted = {"filters": json.dumps({"label": [f"tenantry.owner={prison.jail._owner.instance}"]})}
    waiting = (await engine.get("/containers/json", params=wanted)).json()
    for one in waiting:
        await engine.post(f"/containers/{one['Id']}/kill")
    assert (await prison.sh("exit 5")).outcome.exit_code == 5


async def test_an_image_is_given_to_the_engine_once_and_goes_with_its_root(
    prison: Any, engine: httpx.AsyncClient, docker_socket: Path, tmp_path: Path
) -> None:
    store = ImageStore(tmp_path / "images")
    (tmp_path / "root/bin").mkdir(parents=True)
    image = store.import_directory(tmp_path / "root")
    wanted = {"filters": json.dumps({"label": [f"tenantry.image={image.digest}"]})}

    async def made() -> list[tuple[str, int]]:
        return [(one["Id"], one["Created"]) for one in (await engine.get("/images/json", params=wanted)).json()]

    await prison.run("absent", image=image)
    first = await made()
    assert len(first) == 1
    async with await DockerBackend.open(tmp_path, socket=docker_socket, trial=False, spare=0) as other:
        await other.run(Spec(image=image, command=("absent",)), lambda *_: None)
        assert await made() == first
    store.remove(image.digest)
    async with await DockerBackend.open(tmp_path, socket=docker_socket, trial=False):
        assert await made() == []
    with pytest.raises(JailUnavailable) as refused:
        await prison.run("absent", image=image)
    assert refused.value.code == "image_unreachable"


async def test_an_image_that_was_removed_from_the_engine_is_given_anew(
    prison: Any, engine: httpx.AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "root/bin").mkdir(parents=True)
    image = ImageStore(tmp_path / "images").import_directory(tmp_path / "root")
    assert (await prison.run("absent", image=image)).outcome.exit_code == 127
    wanted = {"filters": json.dumps({"label": [f"tenantry.image={image.digest}"]})}
    for one in (await engine.get("/images/json", params=wanted)).json():
        (await engine.delete(f"/images/{one['Id']}", params={"force": "true"})).raise_for_status()
    assert (await prison.run("absent", image=image, limits=Limits(pids=9))).outcome.exit_code == 127


async def test_no_container_is_left_when_the_backend_is_closed(
    engine: httpx.AsyncClient, docker_socket: Path, tmp_path: Path
) -> None:
    async with await DockerBackend.open(tmp_path, socket=docker_socket) as backend:
        image = ImageStore(tmp_path / "images").host()
        await asyncio.gather(*(backend.run(Spec(image=image, command=("true",)), lambda *_: None) for _ in range(3)))
        held = await backend.start(Spec(image=image, command=("sleep", "60")), lambda *_: None)
        wanted = {"all": "true", "filters": json.dumps({"label": [f"tenantry.owner={backend._owner.instance}"]})}
        assert held.id in {one["Id"] for one in (await engine.get("/containers/json", params=wanted)).json()}
    assert (await engine.get("/containers/json", params=wanted)).json() == []


def descriptors() -> int:
    """How many this process has, but for the locks of uids, which rest with their pool."""
    return len([path for path in Path("/proc/self/fd").iterdir() if str(uids.DIRECTORY) not in link_of(path)])


async def test_nothing_of_many_and_what_was_put_into_them_is_left(
    docker_socket: Path, engine: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Neither container, uid, process nor descriptor; waiting ones would come and go, so none waits."""
    gate = asyncio.Semaphore(4)
    async with await DockerBackend.open(tmp_path, socket=docker_socket, spare=0) as backend:
        prison = Prison(backend, ImageStore(tmp_path / "images").host())

        async def one(number: int) -> None:
            async with gate:
                if number % 2:
                    await prison.sh("sleep 60 & setsid sleep 60 & exit 3")
                    return
                async with kept(prison) as room:
                    await room.sh("setsid sleep 60 & tty", terminal=TerminalSize(9, 9))
                    await room.start("exec sleep 60")

        async def held() -> Counter[str]:
            launcher = backend._launcher._process.pid
            wanted = {"all": "true", "filters": json.dumps({"label": [f"tenantry.owner={backend._owner.instance}"]})}
            return Counter(
                {
                    "descriptors": descriptors(),
                    "descriptors of the launcher": len(os.listdir(f"/proc/{launcher}/fd")),
                    "children of the launcher": len(children_of(launcher)),
                    "containers": len((await engine.get("/containers/json", params=wanted)).json()),
                    "sandboxes": len(backend._sandboxes),
                    "guests": len(backend._launcher._guests),
                    "uids": len(backend._pool._locks) - len(backend._pool._free),
                }
            )

        await asyncio.gather(*map(one, range(8)))
        before = await held() + Counter({"descriptors": 4})  # connections to the engine come and go
        await asyncio.gather(*map(one, range(40)))
        async with asyncio.timeout(10):  # a container that goes by itself is on the engine's list a little longer
            while left := await held() - before:
                assert set(left) == {"containers"}, left


async def test_what_is_not_the_keeper_is_not_entered(
    prison: Any, monkeypatch: pytest.MonkeyPatch, engine: httpx.AsyncClient
) -> None:
    """A process 1 that is another program, as a runtime with a kernel of its own would show, gets nobody put in."""
    monkeypatch.setattr(rooms, "PLACE", "run/other")
    monkeypatch.setattr(rooms, "_KEEPER_SECONDS", 0.3)
    with pytest.raises(JailUnavailable) as refused:
        await prison.run("true", limits=Limits(pids=11))
    assert refused.value.code == "docker_remote"
    wanted = {"all": "true", "filters": json.dumps({"label": [f"tenantry.owner={prison.jail._owner.instance}"]})}
    while prison.jail._rooms._preparing:  # those that waited in another shape are on their way out
        await asyncio.wait(prison.jail._rooms._preparing)
    held = {room.container for room in prison.jail._rooms._ready}
    async with asyncio.timeout(20):  # one that the engine takes away by itself is on its list a little longer
        while not {one["Id"] for one in (await engine.get("/containers/json", params=wanted)).json()} <= held:
            pass
