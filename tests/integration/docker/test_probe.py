"""What stands in the way of containers is told with its code and remedy, and nothing else is used instead."""

import os
import socket
from pathlib import Path

import pytest

from tenantry.engines.jail.docker.backend import DockerBackend, check_engine
from tenantry.engines.jail.docker.probe import probe_docker
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.entrypoints.backends import open_backend
from tenantry.entrypoints.doctor import examine
from tenantry.foundation.sandbox_settings import SandboxSettings
from tenantry.foundation.settings import Settings, load_settings

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def settings_of(home: Path, engine: Path) -> Settings:
    chosen = SandboxSettings(backend="docker", docker_socket=engine)
    return load_settings(home=home).model_copy(update={"sandboxes": chosen})


async def test_an_engine_that_holds_sandboxes_has_no_fault(docker_socket: Path, tmp_path: Path) -> None:
    results = await probe_docker(tmp_path, socket=docker_socket)
    assert [result for result in results if result.fault] == []
    assert {"docker_engine", "sandbox_seccomp", "sandbox_loopback_only", "sandbox_nested_namespaces_refused"} <= {
        result.code for result in results
    }
    assert all(result.ok for result in results if result.code.startswith("sandbox_"))


@needs_root
async def test_without_an_engine_there_is_no_sandbox_and_no_other_backend(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, tmp_path / "absent.sock")
    with pytest.raises(JailUnavailable) as refused:
        await open_backend(settings)
    assert refused.value.code == "docker_unreachable"
    assert "sandboxes.docker_socket" in str(refused.value.fields["remedy"])
    report = await examine(settings)
    (fault,) = [check for check in report["checks"] if check["code"] == "docker_socket"]
    assert (report["healthy"], fault["fault"], bool(fault["remedy"])) == (False, True, True)


@needs_root
async def test_a_socket_nobody_listens_at_is_told(tmp_path: Path) -> None:
    place = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    results = await probe_docker(tmp_path, socket=place)
    assert [result.code for result in results if result.fault] == ["docker_unreachable"]


async def test_a_runtime_the_engine_does_not_have_is_told(docker_socket: Path, tmp_path: Path) -> None:
    results = await probe_docker(tmp_path, socket=docker_socket, runtime="absent")
    assert [result.code for result in results if result.fault] == ["docker_runtime_unknown"]
    async with await DockerBackend.open(tmp_path, socket=docker_socket, runtime="runc") as backend:
        assert backend.isolation == "cgroup"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, "docker_rootless"),
        ({"MemoryLimit": False}, "docker_no_cgroups"),
        ({"PidsLimit": False}, "docker_no_cgroups"),
        ({"CpuCfsQuota": False}, "docker_no_cgroups"),
    ],
)
def test_an_engine_whose_containers_are_weaker_is_refused(said: dict[str, object], code: str) -> None:
    with pytest.raises(JailUnavailable) as refused:
        check_engine(said, runtime=None)
    assert refused.value.code == code
    assert refused.value.fields["remedy"]
