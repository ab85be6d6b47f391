"""What is said over the link to a running sandbox: programs, files, ports, and what none of it lets out."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import workers_of
from tests.integration.sandboxes.live_ground import LiveGround, executing, place_of, run_in

from tenantry.capabilities.sandboxes.service import LiveClient
from tenantry.capabilities.sandboxes.types.living import LivePlace
from tenantry.engines.jail.exec_types import TerminalSize
from tenantry.engines.jail.file_types import ChangeKind, FileKind
from tenantry.engines.jail.types import Ending, Stream
from tenantry.engines.jail.watching import fair_share
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.errors import Conflict, Exhausted, NotFound, TenantryError, Unavailable
from tenantry.foundation.ids import new_id

SECRET = "correct-horse-battery"
MOST_WATCHED = 64


@pytest.fixture(scope="module")
def live(make_ground: MakeGround) -> LiveGround:
    return LiveGround(make_ground())


@pytest.fixture(scope="module")
async def parts(live: LiveGround) -> AsyncIterator[Parts]:
    async with open_parts(live.ground.installation.settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def place(live: LiveGround, parts: Parts) -> LivePlace:
    return await place_of(parts, live.ground, await asyncio.to_thread(live.run, "linked", env={"MY_TOKEN": SECRET}))


async def test_a_program_runs_with_the_sandboxs_variables_and_its_own(place: LivePlace) -> None:
    script = 'echo "$EXTRA in $PWD"; echo wrong >&2; exit 7'
    outcome, said = await run_in(place, "sh", "-c", script, env={"EXTRA": "more"})
    assert (outcome.ending, outcome.exit_code) == (Ending.EXITED, 7)
    assert said == {Stream.STDOUT: b"more in /workspace\n", Stream.STDERR: b"wrong\n"}


async def test_input_is_passed_on_to_its_end(place: LivePlace) -> None:
    async with executing(place, "wc", "-c") as execution:
        await execution.write(b"x" * 300_000)
        execution.close_stdin()
        said = b""
        while (piece := await execution.read()) is not None:
            said += piece[1]
        assert (await execution.wait()).exit_code == 0
    assert said.split() == [b"300000"]


async def test_secrets_are_masked_in_what_programs_say(place: LivePlace) -> None:
    _, said = await run_in(place, "sh", "-c", "echo before $MY_TOKEN after")
    assert said[Stream.STDOUT] == b"before [masked] after\n"
    other = "another-long-secret"
    _, said = await run_in(place, "sh", "-c", "echo $API_KEY; echo $MY_TOKEN", env={"API_KEY": other})
    assert said[Stream.STDOUT] == b"[masked]\n[masked]\n"


async def test_the_last_words_of_a_program_come_with_input_that_nobody_reads(place: LivePlace) -> None:
    """A hundred times: what is unread when one side closes must not take along what it has said."""
    for _ in range(100):
        async with executing(place, "sh", "-c", "echo last") as execution:
            await execution.write(b"unread")
            execution.close_stdin()
            assert await execution.read() == (Stream.STDOUT, b"last\n")
            assert (await execution.wait()).exit_code == 0


async def test_a_prompt_that_looks_like_the_beginning_of_a_secret_is_shown_before_more_comes(place: LivePlace) -> None:
    async with executing(place, "sh", "-c", "printf c; read line; echo got $line") as execution:
        piece = await execution.read()
        assert piece == (Stream.STDOUT, b"c")
        await execution.write(b"it\n")
        piece = await execution.read()
        assert piece is not None
        assert piece[1].endswith(b"got it\n")


async def test_hanging_up_kills_what_runs(place: LivePlace) -> None:
    async with executing(place, "sh", "-c", "echo $$; exec sleep 300") as execution:
        piece = await execution.read()
        assert piece is not None
    pid = piece[1].decode().strip()

    async def gone() -> bool:
        outcome, _ = await run_in(place, "test", "-d", f"/proc/{pid}")
        return outcome.exit_code == 1

    async with asyncio.timeout(5):
        while not await gone():
            pass


async def test_a_terminal_is_one_and_takes_another_size(place: LivePlace) -> None:
    size = TerminalSize(24, 80)
    async with executing(place, "sh", "-c", "test -t 0 && stty size; read go; stty size", terminal=size) as execution:
        piece = await execution.read()
        assert piece is not None
        assert piece[1].split() == [b"24", b"80"]
        execution.resize(TerminalSize(40, 100))
        await execution.write(b"\n")
        said = b""
        while (piece := await execution.read()) is not None:
            said += piece[1]
    assert said.split()[-2:] == [b"40", b"100"]


async def test_signals_reach_a_program(place: LivePlace) -> None:
    async with executing(
        place, "sh", "-c", "trap 'echo told; exit 3' TERM; echo ready; while :; do read x; done"
    ) as run:
        assert await run.read() == (Stream.STDOUT, b"ready\n")
        run.signal(15)
        assert await run.read() == (Stream.STDOUT, b"told\n")
        assert (await run.wait()).exit_code == 3


async def test_a_program_that_is_not_there_is_told_as_a_shell_would(place: LivePlace) -> None:
    outcome, _ = await run_in(place, "no-such-program")
    assert (outcome.ending, outcome.exit_code) == (Ending.NOT_STARTED, 127)


async def test_files_are_written_listed_read_moved_and_deleted(place: LivePlace) -> None:
    files = await LiveClient().files(place)
    content = b"0123456789abcdef" * 50_000

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 100_000):
            yield content[at : at + 100_000]

    await files.make_directory("docs")
    written = await files.write("docs/a.bin", pieces(), 0o600)
    assert (written.size_bytes, written.mode, written.kind) == (len(content), 0o600, FileKind.FILE)
    info, stream = await files.read("docs/a.bin")
    assert info == await files.stat("docs/a.bin")
    assert b"".join([piece async for piece in stream]) == content
    await files.move("docs/a.bin", "docs/b.bin")
    assert [each.path.rpartition("/")[2] for each in await files.list("docs")] == ["b.bin"]
    await files.delete("docs", recursive=True)
    with pytest.raises(NotFound) as refused:
        await files.stat("docs/b.bin")
    assert refused.value.code == "file_not_found"


async def test_what_breaks_off_is_not_a_file(place: LivePlace) -> None:
    files = await LiveClient().files(place)

    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        await files.write("torn.txt", broken())
    with pytest.raises(NotFound):
        await files.stat("torn.txt")


async def test_a_file_that_is_too_large_is_refused_whole(place: LivePlace) -> None:
    files = await LiveClient().files(place)

    async def much() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(64 << 10)

    with pytest.raises(TenantryError) as refused:
        await files.write("big.bin", much(), most_bytes=1000)
    assert refused.value.code == "file_too_large"
    with pytest.raises(NotFound):
        await files.stat("big.bin")


async def test_changes_of_files_are_told_until_one_hangs_up(place: LivePlace) -> None:
    files = await LiveClient().files(place)
    changes = await files.watch("")
    await run_in(place, "sh", "-c", "echo new > watched.txt")
    change = await anext(changes)
    assert (change.kind, change.path.rpartition("/")[2]) == (ChangeKind.CREATED, "watched.txt")
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_port_inside_is_reached_and_one_that_is_shut_is_told(place: LivePlace) -> None:
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 7777)); print('up', flush=True);"
        "c, _ = s.accept(); c.sendall(c.recv(100).upper()); c.close()"
    )
    async with executing(place, "python3", "-c", script) as execution:
        assert await execution.read() == (Stream.STDOUT, b"up\n")
        reader, writer = await LiveClient().dial(place, 7777)
        writer.write(b"hello")
        assert await reader.read() == b"HELLO"
        writer.close()
        await writer.wait_closed()
    with pytest.raises(Conflict) as refused:
        await LiveClient().dial(place, 7778)
    assert refused.value.code == "port_refused"


async def test_another_sandboxs_name_opens_nothing(place: LivePlace) -> None:
    for wrong in (
        LivePlace(new_id(), place.job_id, place.address),
        LivePlace(place.sandbox_id, new_id(), place.address),
    ):
        with pytest.raises(Conflict) as refused:
            await run_in(wrong, "true")
        assert refused.value.code == "sandbox_not_running"


async def test_where_nobody_listens_the_sandbox_is_away(place: LivePlace) -> None:
    with pytest.raises(Unavailable) as refused:
        await run_in(LivePlace(place.sandbox_id, place.job_id, f"{place.address}.not"), "true")
    assert refused.value.code == "sandbox_away"


async def test_the_socket_is_its_users_alone(live: LiveGround, place: LivePlace) -> None:
    path = live.ground.installation.home / "us" / "workers" / place.address.rpartition("/")[2]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_nonsense_on_the_link_ends_itself_alone(place: LivePlace) -> None:
    for nonsense in (b"\xff" * 100, b"\x01\x00\x00\x00\x02{}", b"\x01\x00\x00\x00\x02[]", b"", b"\x05\x00\x00\x00\x00"):
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(10)
            path = Path(place.address.removeprefix("unix:"))
            above = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)  # the whole may be too long for an address
            one.connect(f"/proc/self/fd/{above}/{path.name}")
            os.close(above)
            one.sendall(nonsense)
            one.shutdown(socket.SHUT_WR)
            while one.recv(1000):
                pass
    outcome, _ = await run_in(place, "true")
    assert outcome.exit_code == 0


async def test_a_stop_ends_what_is_spoken_and_says_so(live: LiveGround, parts: Parts) -> None:
    made = await asyncio.to_thread(live.run, "talking")
    place = await place_of(parts, live.ground, made)
    async with executing(place, "sh", "-c", "echo on; exec sleep 300") as execution:
        assert await execution.read() == (Stream.STDOUT, b"on\n")
        await asyncio.to_thread(live.stopped, made)
        outcome = await execution.wait()
        assert outcome.exit_code is None or outcome.exit_code == 137
    with pytest.raises(Conflict):
        await run_in(place, "true")
    assert workers_of(live.ground.installation)


@pytest.mark.skipif(fair_share() > MOST_WATCHED, reason="there is too much to watch here")
async def test_watches_of_all_sandboxes_of_a_tenant_are_bounded_together(make_ground: MakeGround, parts: Parts) -> None:
    live, share = LiveGround(make_ground()), fair_share()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(share // 8 + 1):
            made = await asyncio.to_thread(live.run, f"watched{number}")
            stack.push_async_callback(asyncio.to_thread, live.client.delete, f"{live.path}/{made['id']}")
            files = await LiveClient().files(await place_of(parts, live.ground, made))
            for _ in range(min(8, share - 8 * number)):
                watching = asyncio.ensure_future(anext(await files.watch("")))
                stack.callback(watching.cancel)
        with pytest.raises(Exhausted) as refused:
            await files.watch("")
        assert (refused.value.code, refused.value.layer) == ("watch_limit", "sandboxes")
        assert refused.value.fields["limit"] == share
