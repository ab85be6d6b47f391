"""Files of a living sandbox, looked at and changed from outside while somebody inside changes them too."""

import asyncio
import io
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from tests.integration.jail.living import heard, kept

from tenantry.engines.jail import beneath
from tenantry.engines.jail.errors import FileConflict, FileFull, FileMissing, FileRefused, SandboxEnded, SpecInvalid
from tenantry.engines.jail.file_types import FileKind
from tenantry.engines.jail.files import SandboxFiles, parse_path
from tenantry.engines.jail.trees import Fill
from tenantry.engines.jail.types import Ending, Limits
from tenantry.foundation.errors import TenantryError

MIB = 1 << 20


@pytest.fixture(params=["openat2", "stepwise"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "stepwise":
        monkeypatch.setattr("tenantry.engines.jail.files.open_below", beneath.open_stepwise)
    return str(request.param)


async def test_what_is_written_outside_is_read_inside_and_the_other_way_round(prison: Any, way: str) -> None:
    async with kept(prison) as room:
        files, thread = room.sandbox.files, asyncio.to_thread
        told = await thread(files.write, "a.txt", io.BytesIO(b"outside"), most_bytes=MIB)
        assert (told.path, told.kind, told.size_bytes, told.mode) == ("a.txt", FileKind.FILE, 7, 0o644)
        assert (await room.sh("cat a.txt; stat -c ' %u:%g %a' a.txt")).out == "outside 1000:1000 644\n"
        await room.sh("mkdir d; printf inside > d/b; chmod 750 d/b; ln -s b d/l; mkfifo d/p")
        with await thread(files.open, "/workspace/d/b") as source:
            assert source.read() == b"inside"
        listed = await thread(files.list, "d")
        assert [(one.path, one.kind) for one in listed] == [
            ("d/b", FileKind.FILE), ("d/l", FileKind.LINK), ("d/p", FileKind.OTHER),
        ]  # fmt: skip
        assert listed[0].mode == 0o750
        assert [one.path for one in await thread(files.list)] == ["a.txt", "d", "outputs"]
        assert (await thread(files.stat, "")).kind is FileKind.DIRECTORY
        assert (await thread(files.stat, "d/l")).kind is FileKind.LINK


async def test_verbs_do_what_they_say(prison: Any, way: str) -> None:
    async with kept(prison) as room:
        files, thread = room.sandbox.files, asyncio.to_thread
        assert (await thread(files.make_directory, "x/y/z")).kind is FileKind.DIRECTORY
        assert (await thread(files.make_directory, "x/y")).path == "x/y"
        await thread(files.write, "x/y/f", iter([b"1", b"2"]), mode=0o4755, most_bytes=2)
        assert (await room.sh("cat x/y/f; stat -c ' %a' x/y/f")).out == "12 755\n"
        await thread(files.write, "x/y/f", iter([b"3"]), most_bytes=2)
        assert (await room.sh("cat x/y/f")).out == "3"
        assert (await thread(files.move, "x/y/f", "x/g")).path == "x/g"
        await thread(files.write, "h", iter([]), most_bytes=0)
        with pytest.raises(FileConflict, match="already"):
            await thread(files.move, "h", "x/g")
        with pytest.raises(FileConflict, match="into itself"):
            await thread(files.move, "x", "x/y/x")
        with pytest.raises(FileConflict, match="not empty"):
            await thread(files.delete, "x")
        await thread(files.delete, "x", recursive=True)
        await thread(files.delete, "h")
        assert (await room.sh("ls -A")).out == "outputs\n"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda files: files.list("nothing"), FileMissing),
        (lambda files: files.stat("nothing"), FileMissing),
        (lambda files: files.open("d/nothing"), FileMissing),
        (lambda files: files.write("nothing/x", iter([b""]), most_bytes=1), FileMissing),
        (lambda files: files.delete("nothing"), FileMissing),
        (lambda files: files.move("nothing", "x"), FileMissing),
        (lambda files: files.list("f"), FileConflict),
        (lambda files: files.open("d"), FileConflict),
        (lambda files: files.open("p"), FileConflict),
        (lambda files: files.write("d", iter([b""]), most_bytes=1), FileConflict),
        (lambda files: files.make_directory("f"), FileConflict),
        (lambda files: files.write("f/x", iter([b""]), most_bytes=1), FileConflict),
        (lambda files: files.write("x", iter([b"ab"]), most_bytes=1), FileFull),
        (lambda files: files.write("x", iter([bytes(9 * MIB)]), most_bytes=99 * MIB), FileFull),
        (lambda files: files.delete(""), SpecInvalid),
        (lambda files: files.open("../x"), SpecInvalid),
        (lambda files: files.open("/etc/passwd"), SpecInvalid),
        (lambda files: files.write("a\nb", iter([b""]), most_bytes=1), SpecInvalid),
    ],
)
async def test_what_cannot_be_is_told_and_changes_nothing(
    prison: Any, call: Callable[[SandboxFiles], object], error: type[TenantryError]
) -> None:
    async with kept(prison, limits=Limits(disk_mib=8, timeout_seconds=60)) as room:
        await room.sh("mkdir -p d/e; printf f > f; mkfifo p")
        before = (await room.sh("find . | sort")).out
        with pytest.raises(error):
            await asyncio.to_thread(call, room.sandbox.files)
        assert (await room.sh("find . | sort")).out == before


LINKS = ("/", "/etc", "/etc/passwd", "../..", "/proc/self/root", "/proc/self/cwd", "/proc/1/root/etc", "d", "f")


@pytest.mark.parametrize("target", LINKS)
async def test_no_link_is_followed(prison: Any, way: str, target: str) -> None:
    """Whatever it leads to, be it inside: as the last name it is told or replaced, on the way it is refused."""
    async with kept(prison) as room:
        files, thread = room.sandbox.files, asyncio.to_thread
        await room.sh(f"mkdir d; printf f > f; ln -s {target} l")
        refused = (FileRefused, FileConflict)
        for verb in ("open", "list", "make_directory"):
            with pytest.raises(refused):
                await thread(getattr(files, verb), "l")
        for verb in ("open", "list", "stat", "make_directory", "delete"):
            with pytest.raises(refused):
                await thread(getattr(files, verb), "l/passwd")
        with pytest.raises(refused):
            await thread(files.write, "l/x", iter([b"x"]), most_bytes=1)
        with pytest.raises(refused):
            await thread(files.move, "f", "l/x")
        with pytest.raises(refused):
            await thread(files.delete, "l/x", recursive=True)
        assert (await thread(files.stat, "l")).kind is FileKind.LINK
        await thread(files.write, "l", iter([b"mine"]), most_bytes=4)
        assert (await room.sh("cat l; stat -c ' %F' l")).out == "mine regular file\n"


async def test_deleting_all_of_it_takes_no_link_along(prison: Any) -> None:
    async with kept(prison) as room:
        await room.sh(
            "mkdir -p keep t/a/b; echo x > keep/x; ln -s ../keep t/l; ln -s ../../../keep t/a/b/l; chmod 555 t/a"
        )
        await asyncio.to_thread(room.sandbox.files.delete, "t", recursive=True)
        assert (await room.sh("find . | sort")).out.split() == [".", "./keep", "./keep/x", "./outputs"]


async def test_a_tree_deeper_than_any_path_is_deleted(prison: Any) -> None:
    async with kept(prison) as room:
        deep = "i=0; mkdir t; cd t; while [ $i -lt 1500 ]; do mkdir d; cd -P ./d; i=$((i+1)); done"
        assert (await room.sh(deep)).outcome.exit_code == 0
        await asyncio.to_thread(room.sandbox.files.delete, "t", recursive=True)
        assert (await room.sh("ls -A")).out == "outputs\n"


async def test_names_swapped_meanwhile_lead_nowhere_else(prison: Any, way: str) -> None:
    """A directory and a link to / change places as fast as they can: what is read or written is never outside."""
    async with kept(prison, limits=Limits(cpus=1, timeout_seconds=60)) as room:
        await room.sh("mkdir d; printf inside > d/passwd; ln -s /etc l")
        swapping = await room.start("echo on; while :; do mv -T d x; mv -T l d; mv -T d l; mv -T x d; done")
        await heard(swapping, "on")
        before = set(os.listdir("/etc"))

        def attack() -> set[str]:
            seen: set[str] = set()
            end = time.monotonic() + 20
            for turn in itertools.count():
                if (turn > 400 and len(seen) > 1 and "read" in seen) or time.monotonic() > end:
                    break
                try:
                    with room.sandbox.files.open("d/passwd") as source:
                        content = source.read()
                    seen.add("read")
                    assert content == b"inside"
                    room.sandbox.files.write("d/tenantry-was-here", iter([b"x"]), most_bytes=1)
                    room.sandbox.files.delete("d/tenantry-was-here")
                except (FileMissing, FileRefused, FileConflict) as error:
                    seen.add(type(error).__name__)
            return seen

        seen = await asyncio.to_thread(attack)
        await swapping.close()
        assert set(os.listdir("/etc")) == before
        assert "read" in seen
        assert len(seen) > 1


async def test_it_acts_as_the_sandboxs_user(prison: Any) -> None:
    async with kept(prison) as room:
        await room.sh("mkdir d; echo x > d/f; echo x > g; chmod 000 g; chmod 555 d")
        for call in (
            lambda f: f.open("g"),
            lambda f: f.write("d/x", iter([b""]), most_bytes=1),
            lambda f: f.delete("d/f"),
        ):
            with pytest.raises(FileRefused):
                await asyncio.to_thread(call, room.sandbox.files)


async def test_a_content_that_fails_leaves_what_was(prison: Any) -> None:
    def content() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    async with kept(prison) as room:
        files = room.sandbox.files
        await room.sh("echo old > f")
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(files.write, "f", content(), most_bytes=MIB)
        assert (await room.sh("cat f; ls -A")).out == "old\nf\noutputs\n"


async def test_what_reads_the_content_keeps_its_own_rights(prison: Any, tmp_path: Path) -> None:
    """The bytes may come from where the sandbox's user must not read."""
    private = tmp_path / "private"
    private.write_bytes(b"mine")
    private.chmod(0o600)

    def content() -> Iterator[bytes]:
        yield private.read_bytes()

    async with kept(prison) as room:
        await asyncio.to_thread(room.sandbox.files.write, "f", content(), most_bytes=MIB)
        assert (await room.sh("cat f")).out == "mine"


async def test_a_directory_with_too_many_names_is_not_listed(prison: Any) -> None:
    async with kept(prison) as room:
        await room.sh("mkdir d; cd d; seq 10001 | xargs touch")
        with pytest.raises(FileFull):
            await asyncio.to_thread(room.sandbox.files.list, "d")


async def test_odd_names_and_times_are_no_trouble(prison: Any) -> None:
    async with kept(prison) as room:
        await room.sh("touch \"$(printf 'a\\nb')\" \"$(printf '\\377')\" 'ü x'")
        await room.sh("touch -d @99999999999 far; touch -d @-5 old")
        listed = await asyncio.to_thread(room.sandbox.files.list)
        assert [one.path for one in listed] == ["far", "old", "outputs", "ü x"]


async def test_files_are_there_after_death_and_until_it_is_closed(prison: Any) -> None:
    async with kept(prison) as room:
        files = room.sandbox.files
        await room.sh("echo left > f")
        room.sandbox.kill()
        await room.sandbox.wait()
        with await asyncio.to_thread(files.open, "f") as source:
            assert source.read() == b"left\n"
    for verb in ("list", "stat", "open"):
        with pytest.raises(SandboxEnded):
            getattr(files, verb)("f")


@pytest.mark.parametrize(
    ("path", "parts"),
    [("", ()), ("/workspace", ()), ("/workspace/a//b/", ("a", "b")), ("./a", ("a",)), ("/outputs/x", ("outputs", "x"))],
)
def test_a_path_is_relative_to_the_workspace(path: str, parts: tuple[str, ...]) -> None:
    assert parse_path(path) == parts


@pytest.mark.parametrize("path", ["/", "/etc", "/workspacex", "a/../b", "..", "a\0", "x" * 256, "a/" * 65, "\udfff"])
def test_a_path_that_leads_elsewhere_is_none(path: str) -> None:
    with pytest.raises(SpecInvalid):
        parse_path(path)


# Saved and filled again


async def test_what_is_saved_fills_the_next_one(prison: Any, tmp_path: Path) -> None:
    saved = tmp_path / "saved.tar"
    async with kept(prison) as room:
        await room.sh("mkdir -p d; echo x > d/f; chmod 755 d/f; ln -s d/f l; mkfifo p; echo out > /outputs/o")
        with saved.open("wb") as target:
            alive = await room.sandbox.save(target, max_bytes=MIB)
        assert [one.path for one in alive.skipped] == ["p"]
        room.sandbox.kill()
        await room.sandbox.wait()
        again = io.BytesIO()
        assert (await room.sandbox.save(again, max_bytes=MIB)).files == alive.files
        assert again.getvalue() == saved.read_bytes()
    with pytest.raises(SandboxEnded):
        await room.sandbox.save(again, max_bytes=MIB)
    async with kept(prison, workspace=Fill.from_archive(saved)) as room:
        done = await room.sh("cat d/f /outputs/o; readlink l; stat -c '%a %u' d/f; echo more >> d/f")
        assert done.out == "x\nout\nd/f\n755 1000\n"
        assert done.outcome.exit_code == 0


async def test_an_archive_with_an_escape_starts_nothing(prison: Any, tmp_path: Path) -> None:
    import tarfile

    bad = tmp_path / "bad.tar"
    with tarfile.open(bad, "w") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/x"))
    spec = prison.spec(keep=True, workspace=Fill.from_archive(bad))
    async with await prison.jail.start(spec, lambda *_: None) as sandbox:
        assert (await sandbox.wait()).ending is Ending.NOT_STARTED
        assert not sandbox.verified


async def test_a_target_that_fails_is_told(prison: Any) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _: object) -> int:
            raise OSError(28, "full")

    async with kept(prison) as room:
        with pytest.raises(OSError, match="full"):
            await room.sandbox.save(Full(), max_bytes=MIB)  # type: ignore[arg-type]
        assert stat.S_ISDIR((await asyncio.to_thread(room.sandbox.files.stat, "")).mode | stat.S_IFDIR)


# Threads


async def test_what_waits_for_a_store_holds_up_no_other_sandbox(prison: Any) -> None:
    """Ten saves and ten starts of which each waits: more than there are threads that all share."""
    free = threading.Event()

    class Slow(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            assert free.wait(60)
            return len(data)

    def late() -> io.BytesIO:
        assert free.wait(60)
        return io.BytesIO(bytes(10240))

    slow = cast("BinaryIO", Slow())
    async with kept(prison) as room, asyncio.TaskGroup() as group:
        try:
            saves = [group.create_task(room.sandbox.save(slow, max_bytes=MIB)) for _ in range(10)]
            starts = [group.create_task(_filled(prison, Fill.from_archive(late))) for _ in range(10)]
            await asyncio.wait((*saves, *starts), timeout=1)
            async with asyncio.timeout(15), kept(prison) as other:
                assert (await other.sh("echo on")).out == "on\n"
        finally:
            free.set()


async def _filled(prison: Any, tree: Fill) -> None:
    async with kept(prison, workspace=tree):
        pass


async def test_a_file_written_in_pieces_is_there_whole_or_not_at_all(prison: Any) -> None:
    thread = asyncio.to_thread
    async with kept(prison, limits=Limits(disk_mib=8, timeout_seconds=60)) as room:
        files = room.sandbox.files
        writer = files.writer("f", most_bytes=4, mode=0o600)
        await thread(writer.begin)
        await thread(writer.write, b"ab")
        assert (await room.sh("ls")).out == "outputs\n"
        await thread(writer.write, b"cd")
        assert (await thread(writer.finish)).size_bytes == 4
        await thread(writer.discard)
        assert (await room.sh("cat f; stat -c %a f; ls -A")).out == "abcd600\nf\noutputs\n"
        for last in (b"abc", None):
            writer = files.writer("f", most_bytes=4)
            await thread(writer.begin)
            await thread(writer.write, b"xy")
            if last is not None:
                with pytest.raises(FileFull):
                    await thread(writer.write, last)
            await thread(writer.discard)
            await thread(writer.discard)
        writer = files.writer("not/there", most_bytes=4)
        with pytest.raises(FileMissing):
            await thread(writer.begin)
        await thread(writer.discard)
        assert (await room.sh("cat f; ls -A")).out == "abcdf\noutputs\n"
