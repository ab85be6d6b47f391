"""What stands in the way of gVisor is told with its code and remedy, and nothing else is used instead."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.exec_types import ExecSpec, TerminalSize
from tenantry.engines.jail.gvisor.backend import GvisorBackend
from tenantry.engines.jail.gvisor.probe import probe_gvisor
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.types import Listeners, Network, Spec
from tenantry.entrypoints.backends import open_backend
from tenantry.entrypoints.doctor import examine
from tenantry.foundation.sandbox_settings import SandboxSettings
from tenantry.foundation.settings import JobSettings, Settings, load_settings

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def settings_of(home: Path, engine: Path, **chosen: Any) -> Settings:
    sandboxes = SandboxSettings(backend="gvisor", docker_socket=engine, **chosen)
    return load_settings(home=home).model_copy(update={"sandboxes": sandboxes})


@pytest.fixture(scope="module")
async def backend(docker_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GvisorBackend]:
    home = tmp_path_factory.mktemp("home")
    async with await GvisorBackend.open(home, socket=docker_socket, trial=False, spare=0) as opened:
        yield opened


async def containers(engine: Path) -> list[dict[str, Any]]:
    transport = httpx.AsyncHTTPTransport(uds=str(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=60) as client:
        found: list[dict[str, Any]] = (await client.get("/containers/json?all=true")).json()
        return found


@pytest.mark.parametrize(
    ("runtime", "code"),
    [
        ("absent", "docker_runtime_unknown"),
        ("runc", "gvisor_other_runtime"),
        ("runsc-loud", "gvisor_flag"),
        ("runsc-network", "gvisor_network"),
    ],
)
async def test_a_runtime_that_is_not_what_was_asked_for_holds_no_sandbox(
    docker_socket: Path, tmp_path: Path, runtime: str, code: str
) -> None:
    before = len(await containers(docker_socket))
    with pytest.raises(JailUnavailable) as refused:
        await open_backend(settings_of(tmp_path, docker_socket, docker_runtime=runtime))
    assert refused.value.code == code, refused.value.message
    assert refused.value.fields["remedy"]
    assert len(await containers(docker_socket)) == before
    assert list((tmp_path / "gvisor" / "rooms").glob("*/*")) == []


async def test_another_engine_than_dockers_is_told(podman_socket: Path, tmp_path: Path) -> None:
    with pytest.raises(JailUnavailable) as refused:
        await open_backend(settings_of(tmp_path, podman_socket))
    assert refused.value.code == "gvisor_other_engine"
    assert "docker_socket" in str(refused.value.fields["remedy"])


@needs_root
async def test_without_an_engine_there_is_no_sandbox_and_the_doctor_says_so(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, tmp_path / "absent.sock")
    with pytest.raises(JailUnavailable) as refused:
        await open_backend(settings)
    assert refused.value.code == "docker_unreachable"
    report = await examine(settings)
    (fault,) = [check for check in report["checks"] if check["code"] == "docker_socket"]
    assert (report["healthy"], fault["fault"], bool(fault["remedy"])) == (False, True, True)


async def test_the_probe_tells_version_and_platform_and_what_is_weaker(docker_socket: Path, tmp_path: Path) -> None:
    results = {result.code: result for result in await probe_gvisor(tmp_path, socket=docker_socket)}
    assert [result for result in results.values() if result.fault] == []
    assert results["gvisor_runtime"].detail.startswith("runsc ")
    assert "platform" in results["gvisor_runtime"].detail
    assert all(result.ok for code, result in results.items() if code.startswith("sandbox_"))
    assert results["gvisor_shares_pids"].ok or results["gvisor_shares_pids"].remedy
    assert "gvisor_network" not in results


async def test_the_probe_tells_that_a_network_cannot_be_had(docker_socket: Path, tmp_path: Path) -> None:
    told = await probe_gvisor(tmp_path, socket=docker_socket, network_runtime="runsc-network")
    results = {result.code: result for result in told}
    found = results["gvisor_network"]
    assert found.fault != results["gvisor_shares_pids"].ok, found
    assert not found.fault or ("capabilities on the host" in found.detail and found.remedy)


async def test_the_doctor_asks_for_the_backend_that_has_the_level(tmp_path: Path) -> None:
    asked = load_settings(home=tmp_path).model_copy(update={"jobs": JobSettings(min_isolation="gvisor")})
    report = await examine(asked)
    (fault,) = [check for check in report["checks"] if check["code"] == "isolation_too_low"]
    assert fault["fault"]
    assert "sandboxes.backend = 'gvisor'" in fault["remedy"]


async def test_what_is_not_to_be_had_is_refused_with_its_remedy(backend: GvisorBackend, tmp_path: Path) -> None:
    image = ImageStore(tmp_path / "images").host()

    async def attach(listeners: Listeners) -> None:
        listeners.close()

    with pytest.raises(JailUnavailable) as networked:
        await backend.start(Spec(image=image, command=("true",), network=Network()), lambda *_: None, attach=attach)
    async with await backend.start(Spec(image=image, keep=True), lambda *_: None) as sandbox:
        with pytest.raises(JailUnavailable) as watched:
            await sandbox.exec(ExecSpec(command=("sh",), terminal=TerminalSize(9, 9)))
        with pytest.raises(JailUnavailable) as dialled:
            await sandbox.dial(8000)
    refused = (networked.value, watched.value, dialled.value)
    assert [each.code for each in refused] == ["gvisor_no_network", "gvisor_no_terminal", "gvisor_no_ports"]
    assert "docker_network_runtime" in str(networked.value.fields["remedy"])
    assert all("sandboxes.backend" in str(each.fields["remedy"]) for each in refused[1:])
