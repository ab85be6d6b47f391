"""A /workspace carried between real sandboxes: by an archive or straight, each time to another uid."""

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.prisons import KINDS, Prison, Ran, needs_root, opened_prison

from tenantry.engines.jail.errors import SandboxBusy
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.trees import Fill, pack
from tenantry.engines.jail.types import Ending, Limits

SMALL = Limits(memory_mib=64, pids=32, timeout_seconds=30, disk_mib=8, tmp_mib=4, shm_mib=4)
LEAVE = """
umask 022
mkdir -p a/b private; echo first > a/b/file; echo mine > private/key; chmod 700 private; chmod 600 private/key
printf '#!/bin/sh\\necho runs as $(id -u)\\n' > tool; chmod 755 tool
ln -s a/b/file near; ln -s /etc/passwd far; ln -s /proc/self/environ odd; mkfifo pipe
cp /bin/true su; chmod 6755 su
echo out > /outputs/report
"""
LOOK = """
cat a/b/file private/key near /outputs/report; ./tool; readlink far odd
[ -e pipe ] && echo pipe; [ -u su ] && echo setuid; [ -g su ] && echo setgid
[ -O private/key ] && echo owned; echo more >> a/b/file && tail -1 a/b/file
rm -r private && echo removed
"""
SEEN = "first\nmine\nfirst\nout\nruns as 1000\n/etc/passwd\n/proc/self/environ\nowned\nmore\nremoved\n"


@pytest.fixture(scope="module", params=KINDS)
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison(request.param, tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


def _packed(sandbox: Sandbox) -> Fill:
    target, found = io.BytesIO(), sandbox.remains()
    assert found is not None
    pack(found[0], found[1], target, max_bytes=8 << 20)
    os.close(found[0])
    content = target.getvalue()
    return Fill.from_archive(lambda: io.BytesIO(content))


WAYS: dict[str, Callable[[Sandbox], Fill]] = {"archive": _packed, "sandbox": Fill.from_sandbox}


@pytest.mark.parametrize("way", WAYS)
async def test_a_tree_survives_from_one_sandbox_to_the_next(prison: Any, way: str) -> None:
    async with await prison.jail.start(prison.spec("sh", "-c", LEAVE, limits=SMALL), lambda *_: None) as first:
        assert (await first.wait()).exit_code == 0
        ran = Ran()
        spec = prison.spec("sh", "-c", LOOK, limits=SMALL, workspace=WAYS[way](first))
        async with await prison.jail.start(spec, ran.hear) as second:
            outcome = await second.wait()
            assert (ran.out, ran.err, outcome.exit_code) == (SEEN, "", 0)
            filled = second.filled
            assert filled is not None
            assert [(item.path, item.reason) for item in filled.skipped] == (
                [("pipe", "not_regular")] if way == "sandbox" and prison.jail.name != "gvisor" else []
            )
            assert [item.path for item in await second.artifacts(["outputs/**"])] == ["outputs/report"]
        assert [item.read() for item in await first.artifacts(["a/b/*"])] == [b"first\n"]


@needs_root
async def test_the_next_one_has_another_uid_and_owns_what_it_got(prison: Any) -> None:
    async with await prison.jail.start(prison.spec("sh", "-c", LEAVE, limits=SMALL), lambda *_: None) as first:
        await first.wait()
        spec = prison.spec("true", limits=SMALL, workspace=Fill.from_sandbox(first))
        async with await prison.jail.start(spec, lambda *_: None) as second:
            await second.wait()
            owners = []
            for sandbox in (first, second):
                root, uid = sandbox.remains()
                status = os.stat("private/key", dir_fd=root)
                owners.append((status.st_uid, status.st_gid))
                assert owners[-1] == (uid, uid)
                os.close(root)
            assert owners[0] != owners[1]
            assert first.receipt.namespaces != second.receipt.namespaces


async def test_a_living_or_closed_sandbox_is_not_carried(prison: Any) -> None:
    async with await prison.jail.start(prison.spec("sleep", "60"), lambda *_: None) as living:
        with pytest.raises(SandboxBusy):
            Fill.from_sandbox(living)
        living.kill()
        await living.wait()
        fill = Fill.from_sandbox(living)
    with pytest.raises(SandboxBusy):
        Fill.from_sandbox(living)
    with pytest.raises(SandboxBusy):
        await prison.jail.start(prison.spec("true", workspace=fill), lambda *_: None)


async def test_what_does_not_fit_does_not_start(prison: Any) -> None:
    script = "head -c 6000000 /dev/urandom > big"
    async with await prison.jail.start(prison.spec("sh", "-c", script, limits=SMALL), lambda *_: None) as first:
        assert (await first.wait()).exit_code == 0
        ran = await prison.run("true", limits=replace(SMALL, disk_mib=2), workspace=_packed(first))
    assert ran.outcome.ending is Ending.NOT_STARTED
    assert "more than the 2 MiB it has room for" in ran.outcome.detail


async def test_many_small_files_meet_the_bound_of_the_kernel(prison: Any) -> None:
    script = "i=0; while [ $i -lt 1000 ]; do echo x > f$i; i=$((i+1)); done"
    async with await prison.jail.start(prison.spec("sh", "-c", script, limits=SMALL), lambda *_: None) as first:
        await first.wait()
        ran = await prison.run("true", limits=replace(SMALL, disk_mib=1), workspace=Fill.from_sandbox(first))
    assert ran.outcome.ending is Ending.NOT_STARTED
    assert "more than the 1 MiB it has room for" in ran.outcome.detail


async def test_a_workspace_to_be_read_cannot_be_changed(prison: Any) -> None:
    script = "mkdir -p d; echo first > d/file; chmod 777 d d/file; ln -s d/file link"
    change = "cat d/file; (echo x > new) || (echo x > d/file) || (echo x > link) || rm d/file || (echo x > /outputs/a)"
    async with await prison.jail.start(prison.spec("sh", "-c", script, limits=SMALL), lambda *_: None) as first:
        await first.wait()
        fill = Fill.from_sandbox(first)
        ran = await prison.sh(change, limits=SMALL, workspace=fill, workspace_writable=False)
        assert (ran.out, ran.outcome.exit_code != 0) == ("first\n", True)
        assert ran.err.count("Read-only file system") == 5
        assert (await prison.sh("echo x > /tmp/a && cat /tmp/a", limits=SMALL, workspace_writable=False)).out == "x\n"


async def test_a_start_that_is_given_up_has_its_filling_come_to_its_end(prison: Any) -> None:
    """What holds descriptors in a thread would else write to whatever gets their numbers next."""
    entered, gate, ended = threading.Event(), threading.Event(), threading.Event()

    class Archive(io.BytesIO):
        def close(self) -> None:
            ended.set()
            super().close()

    def opened() -> io.BytesIO:
        entered.set()
        assert gate.wait(30)
        return Archive(bytes(10240))

    spec = prison.spec("sleep", "60", limits=SMALL, workspace=Fill.from_archive(opened))
    starting = asyncio.ensure_future(prison.jail.start(spec, lambda *_: None))
    assert await asyncio.to_thread(entered.wait, 30)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not ended.is_set()
    gate.set()
    assert await asyncio.to_thread(ended.wait, 30)
