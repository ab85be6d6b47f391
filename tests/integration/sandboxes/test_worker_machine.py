"""A worker as on another machine: a process with a certificate of its own, reached over TCP and nothing else."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.authority import Authority, Issued
from tests.conftest import Installation, running_installation, tenants_of
from tests.ending import ended
from tests.integration.api.conftest import problem
from tests.integration.sandboxes.ground import Ground, until
from tests.integration.sandboxes.live_ground import LiveGround, place_of
from tests.integration.sandboxes.living import Living, heard, start, stop
from tests.unit.capabilities.link_ends import SERVER, WORKER, stranger

from tenantry.capabilities.sandboxes.service import LinkCaller, LinkIdentity, LiveClient
from tenantry.capabilities.sandboxes.types.living import ExecWanted, LivePlace
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.errors import Conflict, Unavailable
from tenantry.foundation.link_settings import WorkerLinkSettings
from tenantry.foundation.scope import SYSTEM, TenantScope

PORT = 8124
ECHO = (
    f"import socket; s = socket.create_server(('127.0.0.1', {PORT})); print('up', flush=True)\n"
    "while True:\n"
    "    c, _ = s.accept(); said = b''\n"
    "    while piece := c.recv(65536): said += piece\n"
    "    c.sendall(said.upper()); c.close()"
)


@dataclass(frozen=True)
class Machines:
    """An installation whose server takes no sandboxes, and a worker apart that takes them."""

    folder: Path
    authority: Authority
    installation: Installation
    worker: "subprocess.Popen[bytes]"

    @property
    def sockets(self) -> list[Path]:
        return list((self.installation.home / "us" / "workers").glob("*.sock"))

    def caller(self, issued: Issued) -> LiveClient:
        settings = WorkerLinkSettings.model_validate(_files(self.folder, self.authority, issued))
        return LiveClient(LinkCaller(LinkIdentity(settings, serves=False), settings))


def _files(folder: Path, authority: Authority, issued: Issued) -> dict[str, str]:
    certificate, key = issued.write(folder, f"c{len(list(folder.iterdir()))}")
    return {
        "ca_file": str(authority.write(folder)),
        "certificate_file": str(certificate),
        "key_file": str(key),
    }


def _variables(files: dict[str, str]) -> dict[str, Any]:
    return {f"TENANTRY_WORKER_LINK__{name.upper()}": value for name, value in files.items()}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder, authority = tmp_path_factory.mktemp("machines"), Authority()
    issued = authority.issue("the server", names=[SERVER])
    own = _variables(_files(folder, authority, issued)) | {"TENANTRY_SANDBOXES__SLOTS": "0"}
    with running_installation(folder / "home", **own) as installation:
        issued = authority.issue("the worker", server=True, names=[WORKER], by_address=False)
        other = os.environ | _variables(_files(folder, authority, issued)) | {"TENANTRY_SANDBOXES__SLOTS": "8"}
        worker = subprocess.Popen(
            [sys.executable, "-m", "tenantry.entrypoints.worker", str(installation.home), "us"],
            env=other | {"TENANTRY_WORKER_LINK__LISTEN": "127.0.0.1:0"},
            stdin=subprocess.DEVNULL,
        )
        try:
            yield Machines(folder, authority, installation, worker)
        finally:
            worker.terminate()
            ended(worker)


@pytest.fixture(scope="module")
def ground(machines: Machines) -> Ground:
    tenant = tenants_of(machines.installation, "row_level")()
    workspace = tenant.workspace("dev", settings={"persistence_mode": "full"})
    return Ground(tenant, workspace, tenant.as_role("workspace-admin", workspace))


@pytest.fixture(scope="module")
def living(ground: Ground) -> Iterator[Living]:
    made = start(ground, "far")
    yield made
    stop(made)


@pytest.fixture(scope="module")
async def parts(machines: Machines) -> AsyncIterator[Parts]:
    async with open_parts(machines.installation.settings) as opened:
        yield opened


@pytest.fixture
async def place(parts: Parts, living: Living) -> LivePlace:
    return await place_of(parts, living.ground, {"id": living.id})


async def test_its_address_is_a_port_and_it_has_no_socket_on_a_disk(place: LivePlace, machines: Machines) -> None:
    assert place.address.startswith("tls:127.0.0.1:")
    assert len(machines.sockets) == 1  # the one of the server's own worker


def test_a_program_runs_and_its_secrets_are_masked(living: Living) -> None:
    told = living.sh("cat; echo $MY_TOKEN >&2; exit 7", env={"MY_TOKEN": "correct-horse-battery"})
    assert told["exit_code"] == 7
    assert "correct" not in told["stderr"]


def test_a_terminal_hears_and_answers(living: Living) -> None:
    with living.socket("/terminal?command=sh") as connection:
        connection.send(b"echo $((6*7))\n")
        heard(connection, until=b"42")
        connection.send(b"stty size; exit 3\n")
        _, told = heard(connection)
    assert told["exit_code"] == 3


def test_files_of_any_size_go_in_and_come_out(living: Living) -> None:
    data = os.urandom(30 << 20)
    assert living.put("large.bin", data).status_code in (200, 201)
    answer = living.files("large.bin", content=True)
    assert answer.content == data
    problem(living.files("nothing"), 404, "file_not_found")


def test_a_port_inside_is_reached_and_each_side_ends_alone(living: Living) -> None:
    asked = httpx.QueryParams([("tty", "false"), *(("command", each) for each in ("python3", "-c", ECHO))])
    with living.socket(f"/terminal?{asked}") as running:
        heard(running, until=b"up")
        with living.socket(f"/tunnels/{PORT}") as connection:
            for _ in range(40):
                connection.send(b"hello" * 10_000)
            connection.send(json.dumps({"close_stdin": True}))
            found, _ = heard(connection)
        assert found == b"HELLO" * 400_000
        problem(living.client.get(f"{living.path}/ports/{PORT + 1}/"), 409, "port_refused")


async def test_who_hangs_up_kills_what_runs_even_while_it_reads_nothing(
    machines: Machines, living: Living, place: LivePlace
) -> None:
    def runs() -> bool:
        return bool(living.sh("pgrep -f '[s]leep 3217'")["exit_code"] == 0)

    async def flood() -> None:
        async with asyncio.timeout(1):
            while True:
                await execution.write(bytes(1 << 20))

    client = machines.caller(machines.authority.issue("a server", names=[SERVER]))
    execution = await client.exec(place, ExecWanted(command=("sh", "-c", "exec sleep 3217")))
    with pytest.raises(TimeoutError):
        await flood()
    assert await asyncio.to_thread(runs)
    await execution.close()
    await asyncio.to_thread(until, lambda: not runs(), seconds=10)


def test_its_files_are_kept_and_found_again(ground: Ground) -> None:
    live = LiveGround(ground)
    made = live.run("kept")
    again = Living(ground, made["id"], "kept", ground.client.headers["authorization"].removeprefix("Bearer "))
    again.put("note", b"stays")
    live.done(made, "snapshot", name="before")
    live.stopped(made)
    assert live.done(made, "start", wait=30)["status"] == "running"
    assert again.files("note", content=True).content == b"stays"
    stop(again)


async def test_a_servers_certificate_opens_what_runs_there_and_an_expired_one_nothing(
    machines: Machines, place: LivePlace
) -> None:
    authority = machines.authority
    client = machines.caller(authority.issue("a server and worker", both=True, names=[SERVER, WORKER]))
    assert await client.ask(place, "list", path="")
    with pytest.raises(Conflict):
        await client.ask(LivePlace(place.job_id, place.job_id, place.address), "list", path="")
    with pytest.raises(Unavailable):
        await LiveClient().ask(place, "list", path="")
    past = datetime.now(UTC) - timedelta(minutes=1)
    with pytest.raises(Unavailable):
        await machines.caller(authority.issue("x", names=[SERVER], until=past)).ask(place, "list", path="")


async def test_a_row_that_points_elsewhere_leads_nobody_there(parts: Parts, living: Living, place: LivePlace) -> None:
    scope = TenantScope(tenant_id=living.ground.tenant_id, region="us", actor=SYSTEM)

    async def point(address: str) -> None:
        async with parts.cells.session(scope) as session:
            await session.execute(
                "update jobs set link = $3 where tenant_id = $1 and job_id = $2", scope.tenant_id, place.job_id, address
            )

    async with stranger(None) as (address, said):
        for wrong in (address, "unix:/run/nobody.sock", address.replace("tls:", "tcp:")):
            await point(wrong)
            problem(await asyncio.to_thread(living.exec, "echo", "canary-command"), 503, "sandbox_away")
        await point(place.address)
        assert len(said) == 1
        assert b"canary" not in said[0]
    assert (await asyncio.to_thread(living.run, "true"))["exit_code"] == 0
