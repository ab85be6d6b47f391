"""Sandboxes that are kept, on every backend: what is put into one, what is reached of it, and how it ends.

More of the same stands in tests/integration/jail, on one engine and each bubblewrap there is.
"""

import asyncio
import io
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.jail.living import heard, kept
from tests.integration.jail.test_dial import ask, listening
from tests.prisons import KINDS, Prison, opened_prison

from tenantry.engines.jail.errors import JailUnavailable, SandboxEnded
from tenantry.engines.jail.exec_types import ExecSpec, TerminalSize
from tenantry.engines.jail.selftest import with_python
from tenantry.engines.jail.trees import Fill
from tenantry.engines.jail.types import Ending, Limits

MIB = 1 << 20


@pytest.fixture(scope="module", params=KINDS)
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison(request.param, tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


async def test_a_program_is_put_in_and_its_output_and_end_are_its_own(prison: Any) -> None:
    async with kept(prison) as room:
        done = await room.sh("echo out; echo err >&2; id -u; exit 7", env={"A": "b"})
        assert (done.out, done.err, done.outcome.exit_code) == ("out\n1000\n", "err\n", 7)
        assert (await room.exec("nothing")).outcome.ending is Ending.NOT_STARTED
        execution = await room.start("wc -c")
        await execution.write(bytes(100_000))
        execution.close_stdin()
        assert "100000" in await heard(execution, "100000")
        await execution.close()
        if prison.jail.name == "gvisor":
            with pytest.raises(JailUnavailable, match="terminal"):
                await room.sh("tty", terminal=TerminalSize(5, 77))
            return
        assert (await room.sh("tty; stty size", terminal=TerminalSize(5, 77))).out.split() == ["/dev/pts/0", "5", "77"]


async def test_its_files_and_its_ports_are_reached_and_it_is_carried_on(prison: Any) -> None:
    image, python, env = with_python(prison.host)
    saved = io.BytesIO()
    async with kept(prison, image=image, env=env) as room:
        await asyncio.to_thread(room.sandbox.files.write, "a", io.BytesIO(b"outside"), most_bytes=MIB)
        assert (await room.sh("cat a; echo inside > b")).out == "outside"
        with await asyncio.to_thread(room.sandbox.files.open, "b") as source:
            assert source.read() == b"inside\n"
        if prison.jail.name == "gvisor":
            with pytest.raises(JailUnavailable, match="cannot be reached"):
                await room.sandbox.dial(8000)
        else:
            execution = await listening(room.sandbox, python, 8000)
            assert await ask(await room.sandbox.dial(8000)) == b"127.0.0.1 said hello"
            await execution.close()
        await room.sandbox.save(saved, max_bytes=MIB)
    async with kept(prison, workspace=Fill.from_archive(lambda: io.BytesIO(saved.getvalue()))) as room:
        assert (await room.sh("cat a b")).out == "outsideinside\n"


async def test_whoever_ends_it_ends_all_that_was_put_in(prison: Any) -> None:
    async with kept(prison) as room:
        execution = await room.start("trap '' TERM HUP; setsid sleep 61 & echo on; sleep 62")
        await heard(execution, "on")
        room.sandbox.kill("because")
        outcome = await room.sandbox.wait()
        assert (outcome.ending, outcome.detail) == (Ending.KILLED, "because")
        assert (await execution.wait()).ending is Ending.KILLED
        await execution.close()
        with pytest.raises(SandboxEnded):
            await room.sandbox.exec(ExecSpec(command=("true",)))
        assert outcome.usage.cpu_seconds > 0


async def test_one_program_ends_alone_and_the_sandbox_when_its_time_is_over(prison: Any) -> None:
    async with kept(prison, limits=Limits(timeout_seconds=2, memory_mib=64)) as room:
        execution = await room.start("sleep 61 & echo on; sleep 62")
        await heard(execution, "on")
        execution.signal(signal.SIGKILL)
        assert (await execution.wait()).exit_code == 128 + signal.SIGKILL
        await execution.close()
        assert (await room.sh("echo still here")).out == "still here\n"
        assert (await room.sandbox.wait()).ending is Ending.TIMED_OUT
