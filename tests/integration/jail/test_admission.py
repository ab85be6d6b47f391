"""A sandbox that lacks a wall is ended before it counts as started, and says which."""

import asyncio
import os
from pathlib import Path

import pytest
from tests.mutation.mutants import any_bubblewrap, without

from tenantry.engines.jail import furnish
from tenantry.engines.jail import jail as jail_module
from tenantry.engines.jail.bubblewrap import build_arguments, find_bubblewrap
from tenantry.engines.jail.cgroups import Cgroup
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.launch import LauncherClient
from tenantry.engines.jail.types import Ending, Outcome, Spec


async def outcome_of(home: Path, *command: str) -> Outcome:
    async with asyncio.timeout(60), await Jail.open(home, bubblewrap=any_bubblewrap(), trial=False) as jail:
        spec = Spec(image=ImageStore(home / "images").host(), command=command)
        async with await jail.start(spec, lambda *_: None) as sandbox:
            assert not sandbox.verified
            return await sandbox.wait()


def leave_out(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.setattr(
        jail_module, "build_arguments", lambda spec, *, exposed: without(build_arguments(spec, exposed=exposed), name)
    )


async def test_a_program_without_a_filter_is_ended_however_long_it_would_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(furnish, "_FILTER_SECONDS", 0.5)
    leave_out(monkeypatch, "--seccomp 4")
    ended = await outcome_of(tmp_path, "sleep", "600")
    assert ended.ending is Ending.NOT_STARTED
    assert "no seccomp filter is on" in ended.detail


async def test_a_program_outside_of_its_cgroup_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with await Jail.open(tmp_path, bubblewrap=any_bubblewrap()) as jail:
        if jail.isolation != "cgroup":
            pytest.skip("no cgroup here")
    monkeypatch.setattr(Cgroup, "join_files", ())
    ended = await outcome_of(tmp_path, "sleep", "600")
    assert ended.ending is Ending.NOT_STARTED
    assert "it is in no cgroup of its own" in ended.detail


async def test_a_bubblewrap_that_does_not_tell_what_it_started_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(monkeypatch, "--json-status-fd 5")
    ended = await outcome_of(tmp_path, "sleep", "600")
    assert ended.ending is Ending.NOT_STARTED
    assert "did not tell" in ended.detail


async def test_a_launcher_whose_start_is_cancelled_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    started: asyncio.Queue[LauncherClient] = asyncio.Queue()

    async def never(client: LauncherClient, *_: object, **__: object) -> None:
        started.put_nowait(client)
        await asyncio.Event().wait()

    monkeypatch.setattr(LauncherClient, "_configure", never)
    task = asyncio.create_task(LauncherClient.start(find_bubblewrap(), private=os.geteuid() == 0))
    client = await started.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client._process.poll() is not None
