"""What is told of changes in a living sandbox's /workspace."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from tests.integration.jail.living import Room, kept

from tenantry.engines.jail.errors import FileFull, FileMissing, FileRefused, WatchesExhausted
from tenantry.engines.jail.file_types import ChangeKind, FileChange
from tenantry.engines.jail.types import Limits
from tenantry.engines.jail.watching import MOST_DIRECTORIES, Watcher, fair_share

NOBODYS = 3_999_999_999
"""A user that is nobody's."""
CREATED, MODIFIED, DELETED, MOVED = ChangeKind.CREATED, ChangeKind.MODIFIED, ChangeKind.DELETED, ChangeKind.MOVED


async def begun(room: Room, path: str = "") -> tuple[AsyncIterator[FileChange], "asyncio.Future[FileChange]"]:
    """Begin to watch, which it does from its first step on: that is waited for by what it tells first."""
    changes = room.sandbox.files.watch(path)
    first = asyncio.ensure_future(anext(changes))
    below = f"{path}/" if path else ""
    while not first.done():
        await room.sh(f"echo > {below}begun; rm {below}begun")
    return changes, first


async def until(changes: AsyncIterator[FileChange], last: FileChange) -> list[FileChange]:
    seen = []
    async with asyncio.timeout(20):
        async for change in changes:
            if "begun" not in change.path:
                seen.append(change)
            if change == last:
                return seen
    raise AssertionError(seen)


def change(kind: ChangeKind, path: str, moved_from: str = "") -> FileChange:
    return FileChange(kind=kind, path=path, moved_from=moved_from)


async def test_each_kind_of_change_is_told_at_its_path(prison: Any) -> None:
    async with kept(prison) as room:
        changes, _ = await begun(room)
        await room.sh("echo 1 > f")
        assert change(CREATED, "f") in await until(changes, change(MODIFIED, "f"))
        await room.sh("mv f g")
        assert await until(changes, change(MOVED, "g", "f"))
        await room.sh("rm g")
        assert await until(changes, change(DELETED, "g"))
        await room.sh("echo > x; mv x /tmp/x; mv /tmp/x y")
        assert await until(changes, change(CREATED, "y"))
        await changes.aclose()  # type: ignore[attr-defined]


async def test_directories_made_later_are_watched_with_what_is_in_them(prison: Any) -> None:
    async with kept(prison) as room:
        changes, _ = await begun(room)
        await room.sh("mkdir -p a/b/c; echo > a/b/c/f")
        assert await until(changes, change(CREATED, "a/b/c/f"))
        await room.sh("mv a/b d; echo > d/c/g")
        seen = await until(changes, change(CREATED, "d/c/g"))
        assert change(MOVED, "d", "a/b") in seen
        await changes.aclose()  # type: ignore[attr-defined]


async def test_what_is_written_from_outside_is_one_file_made(prison: Any) -> None:
    async with kept(prison) as room:
        changes, _ = await begun(room)
        await asyncio.to_thread(room.sandbox.files.write, "f", iter([b"x"]), most_bytes=1)
        seen = await until(changes, change(CREATED, "f"))
        assert {one.path for one in seen} == {"f"}
        await changes.aclose()  # type: ignore[attr-defined]


async def test_only_what_lies_below_is_told(prison: Any) -> None:
    async with kept(prison) as room:
        await room.sh("mkdir d")
        changes, _ = await begun(room, "d")
        await room.sh("echo > elsewhere; echo > d/here")
        assert {one.path for one in await until(changes, change(CREATED, "d/here"))} == {"d/here"}
        await changes.aclose()  # type: ignore[attr-defined]


async def test_no_link_is_watched_through(prison: Any) -> None:
    async with kept(prison) as room:
        await room.sh("ln -s /tmp l; ln -s /etc m")
        for path, error in (("l", FileRefused), ("m/ssl", FileRefused), ("nothing", FileMissing)):
            with pytest.raises(error):
                await anext(room.sandbox.files.watch(path))
        changes, _ = await begun(room)
        await room.sh("echo > /tmp/hidden; echo > l/hidden2; ln -s /tmp n; echo > n/hidden3; echo > end")
        seen = await until(changes, change(CREATED, "end"))
        assert not [one for one in seen if "hidden" in one.path]
        await changes.aclose()  # type: ignore[attr-defined]


async def test_more_directories_than_are_watched_overflow(prison: Any) -> None:
    async with kept(prison, limits=Limits(timeout_seconds=60, memory_mib=256)) as room:
        await room.sh(f"mkdir t; cd t; seq {MOST_DIRECTORIES + 5} | xargs mkdir")
        changes, first = await begun(room)
        assert (await first).kind is ChangeKind.OVERFLOW
        await changes.aclose()  # type: ignore[attr-defined]


async def test_more_than_is_read_overflows(prison: Any) -> None:
    async with kept(prison, limits=Limits(timeout_seconds=60, memory_mib=256)) as room:
        changes, _ = await begun(room)
        await room.sh("for i in $(seq 20000); do : > f; done; echo > end")
        assert await until(changes, FileChange(kind=ChangeKind.OVERFLOW))
        await changes.aclose()  # type: ignore[attr-defined]


async def test_it_ends_with_the_sandbox(prison: Any) -> None:
    async with kept(prison) as room:
        changes, _ = await begun(room)
        room.sandbox.kill()
        async with asyncio.timeout(10):
            async for _ in changes:
                pass


async def test_how_many_watch_at_a_time_is_bounded(prison: Any) -> None:
    async with kept(prison) as room:
        watching = [await begun(room) for _ in range(8)]
        with pytest.raises(FileFull) as refused:
            await anext(room.sandbox.files.watch())
        assert refused.value.code == "watch_limit"
        for changes, _ in watching:
            await changes.aclose()  # type: ignore[attr-defined]
        changes, _ = await begun(room)
        await changes.aclose()  # type: ignore[attr-defined]


def test_where_the_kernel_gives_no_more_it_is_told_and_nothing_stays_open() -> None:
    """As a user of its own, whose instances nobody else has."""
    if os.geteuid() != 0:
        pytest.skip("another user can be had by root alone")
    child = os.fork()
    if child == 0:
        code = 4
        with suppress(BaseException):
            code = _watched_out()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _watched_out() -> int:
    """Watch until no more can be; gives 0 when that is told as it should be, once and again after one has ended."""
    os.setresuid(NOBODYS, NOBODYS, NOBODYS)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    held: list[Watcher] = []
    for _ in range(2):
        before = len(os.listdir("/proc/self/fd"))
        try:
            while len(held) < 4 * fair_share() + 8:
                before = len(os.listdir("/proc/self/fd"))
                held.append(Watcher(root, uid=None))
        except WatchesExhausted as error:
            if error.code != "watches_exhausted" or len(os.listdir("/proc/self/fd")) != before:
                return 2
            held.pop().close()
            continue
        return 3
    return 0
