from pathlib import Path
from typing import Any

import pytest
from tests.prisons import BINARIES

from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.probe import look_at_watches, probe


@pytest.mark.parametrize("prison", sorted(BINARIES), indirect=True)
async def test_a_machine_that_holds_sandboxes_has_no_fault(prison: Any, tmp_path: Path) -> None:
    results = await probe(tmp_path, bubblewrap=prison.jail.bubblewrap.path)
    assert [result for result in results if result.fault] == []
    assert {"sandbox_seccomp", "sandbox_loopback_only", "sandbox_nested_namespaces_refused"} <= {
        r.code for r in results
    }


def program(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bwrap"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


async def test_an_old_bubblewrap_is_named_with_its_remedy(tmp_path: Path) -> None:
    results = await probe(tmp_path, bubblewrap=program(tmp_path, "echo bubblewrap 0.4.1"))
    (fault,) = [result for result in results if result.code == "bubblewrap_too_old" and "0.4.1" in result.detail][:1]
    assert "upgrade" in fault.remedy
    with pytest.raises(JailUnavailable) as refused:
        await Jail.open(tmp_path, bubblewrap=tmp_path / "bwrap")
    assert refused.value.code == "bubblewrap_too_old"


async def test_a_missing_bubblewrap_is_named_with_its_remedy(tmp_path: Path) -> None:
    results = await probe(tmp_path, bubblewrap=tmp_path / "absent")
    assert "bubblewrap_missing" in {result.code for result in results if result.fault}


async def test_a_bubblewrap_that_cannot_build_a_sandbox_is_refused_with_what_it_said(tmp_path: Path) -> None:
    broken = program(
        tmp_path,
        '[ "$1" = --version ] && echo bubblewrap 0.9.0 && exit\n'
        'echo "bwrap: No permissions to create namespace" >&2; exit 1',
    )
    with pytest.raises(JailUnavailable) as refused:
        await Jail.open(tmp_path, bubblewrap=broken)
    assert refused.value.code == "sandbox_refused"
    assert "No permissions" in refused.value.message


@pytest.mark.parametrize(
    "name",
    ["kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns", "user/max_user_namespaces"],
)
async def test_every_switch_against_user_namespaces_is_told(tmp_path: Path, name: str) -> None:
    switches = {
        "kernel/unprivileged_userns_clone": "1",
        "kernel/apparmor_restrict_unprivileged_userns": "0",
        "user/max_user_namespaces": "100",
    }
    bad = {"kernel/unprivileged_userns_clone": "0", "kernel/apparmor_restrict_unprivileged_userns": "1"}
    for path, value in (switches | {name: bad.get(name, "0")}).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(value + "\n")
    told = [result for result in await probe(tmp_path / "home", sysctl=tmp_path) if not result.ok]
    assert [result.detail.partition("=")[0] for result in told if result.detail.startswith(("kernel/", "user/"))] == [
        name
    ]
    assert all(result.remedy for result in told)


def test_few_watches_are_told_with_their_remedy(tmp_path: Path) -> None:
    place = tmp_path / "fs/inotify/max_user_instances"
    assert look_at_watches(tmp_path).ok
    place.parent.mkdir(parents=True)
    for value, ok in (("128", True), ("64", False)):
        place.write_text(value + "\n")
        told = look_at_watches(tmp_path)
        assert (told.code, told.ok, told.fault) == ("watches_few", ok, False)
        assert told.remedy == "sysctl -w fs.inotify.max_user_instances=1024"


async def test_a_sandbox_that_is_none_is_never_trusted(tmp_path: Path) -> None:
    """A bwrap that only says it made a sandbox is caught, and the bystander it names is left alone."""
    fake = program(
        tmp_path,
        '[ "$1" = --version ] && echo bubblewrap 0.9.0 && exit\n'
        "sleep 5 & printf '{ \"child-pid\": %d }\\n' $! >&5; cat <&6 >/dev/null\n"
        "wait; printf '{ \"exit-code\": 0 }\\n' >&5",
    )
    with pytest.raises(JailUnavailable) as refused:
        await Jail.open(tmp_path, bubblewrap=fake)
    assert refused.value.code == "sandbox_refused"
