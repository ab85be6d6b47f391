"""What is live ends when it is no longer allowed, or has had its share; and nothing of a gateway is left."""

import asyncio
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.egress.conftest import PLAIN, Ran, read

from tenantry.engines.egress import Caps, Decision, Event, Gateway
from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.types import Ending, Listeners, Network, Spec

API, OTHER = "api.example.com", "other.example.com"
HOLDING = f"""
s = socket.create_connection(('{API}', {PLAIN})); s.sendall(b'ping'); say(s.recv(10).decode())
try: say(s.recv(10).decode())
except OSError as e: say(type(e).__name__)
"""


async def line(ran: Ran) -> None:
    async with asyncio.timeout(20):
        while b"\n" not in ran.said:
            ran.heard.clear()
            await ran.heard.wait()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - nothing tells when the kernel and the servers have closed theirs
            await asyncio.sleep(0.01)


def no(host: str, port: int) -> Decision:
    return Decision(allowed=False, rule="narrower", reason=f"{host}:{port} is no longer allowed")


async def test_narrowing_ends_a_live_connection_at_once_and_leaves_the_others(ground: Any) -> None:
    ground.allow(API, PLAIN)
    ground.allow(OTHER, PLAIN)
    code = f"""
t = socket.create_connection(('{OTHER}', {PLAIN})); t.sendall(b'a'); t.recv(10)
{HOLDING}
t.sendall(b'b'); say(t.recv(10).decode())
say(ask('{API}')[0], ask('{OTHER}')[0])
"""
    async with ground.start(code) as ran:
        await line(ran)
        assert not ran.denials
        ran.gateway.narrow(lambda host, port: no(host, port) if host == API else ground.decide(host, port))
        assert ran.denials == [("narrowed", API, PLAIN, "narrower")]
        assert ran.events[-1].bytes_sent == 4
        await ran.sandbox.wait()
        assert [read(x) for x in ran.out.splitlines()] == [["ping"], [""], ["b"], [3, 0]]


async def test_a_private_place_is_left_when_the_policy_no_longer_names_it(ground: Any) -> None:
    ground.allow(API, PLAIN)
    async with ground.start(HOLDING) as ran:
        await line(ran)
        ground.allow(API, PLAIN, private=False)
        ran.gateway.narrow(ground.decide)
        assert ran.denials == [("narrowed", API, PLAIN, "private_address")]
        await ran.sandbox.wait()


async def test_narrowing_while_a_name_is_resolved_reaches_the_connection_too(ground: Any) -> None:
    ground.allow(API, 80)
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(name: str) -> list[str]:
        asked.set()
        await go.wait()
        return [ground.outside.address]

    ground.outside.resolve = slow
    try:
        async with ground.start(f"say(talk(('{API}', 80), get('{API}')))") as ran:
            async with asyncio.timeout(20):
                await asked.wait()
            ran.gateway.narrow(no)
            go.set()
            await ran.sandbox.wait()
    finally:
        del ground.outside.resolve
    assert ran.denials == [("narrowed", API, 80, "narrower")]
    assert ground.outside.connections == 0


async def test_no_byte_beyond_the_cap_goes_out(ground: Any) -> None:
    ground.allow(API, PLAIN)
    code = f"""
s = socket.create_connection(('{API}', {PLAIN}))
try:
    for _ in range(50): s.sendall(b'x' * 10000); s.recv(1 << 20)
except OSError as e: say(type(e).__name__)
say(talk(('{API}', {PLAIN}), b'y' * 100000))
"""
    ran = await ground.run(code, caps=Caps(bytes_out=200_000))
    assert len(ground.outside.raw) <= 200_000
    assert [rule for *_, rule in ran.denials] == ["bytes_out", "bytes_out"]
    assert ran.gateway.usage.bytes_sent == len(ground.outside.raw)


async def test_no_byte_beyond_the_cap_comes_in(ground: Any) -> None:
    ground.allow(API, 80)
    code = f"n = len(talk(('{API}', 80), get('{API}', path='/bytes/5000000'))); say(n)"
    ran = await ground.run(code, caps=Caps(bytes_in=1_000_000))
    assert read(ran.out)[0] <= 1_000_000
    assert [rule for *_, rule in ran.denials] == ["bytes_in"]


async def test_more_connections_at_once_than_the_cap_are_not_served(ground: Any) -> None:
    ground.allow(API, PLAIN)
    code = f"""
held = []
for n in range(4):
    s = socket.create_connection(('{API}', {PLAIN})); held.append(s)
    try: s.sendall(b'x'); say(s.recv(1).decode())
    except OSError: say('')
"""
    ran = await ground.run(code, caps=Caps(connections=2))
    assert [read(x)[0] for x in ran.out.splitlines()] == ["x", "x", "", ""]
    assert [rule for *_, rule in ran.denials] == ["connections"] * 2


async def test_what_carries_nothing_ends(ground: Any) -> None:
    ground.allow(API, PLAIN)
    ran = await ground.run(HOLDING, caps=Caps(idle_seconds=0.2))
    assert read(ran.out.splitlines()[1]) == [""]
    assert ran.events[-1].allowed


async def test_of_many_denials_not_all_are_told_but_all_are_counted(ground: Any) -> None:
    ran = await ground.run(f"for n in range(700): ask(f'n{{n}}.{OTHER}')", caps=Caps(new_names_per_minute=10_000))
    assert ran.gateway.usage.denials == 700
    assert 200 <= len(ran.denials) < 650
    assert ("quiet", "quiet") in {(kind, rule) for kind, _, _, rule in ran.denials}


async def test_who_knocks_without_end_is_served_again_later(ground: Any) -> None:
    ground.allow(API, 80)
    code = f"""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 53))
for _ in range(30000):
    try: s.send(b'x' * 20)
    except OSError: pass
for _ in range(1500): socket.create_connection(('{API}', 80)).close()
for n in range(50):
    try: say(ask('{API}')); break
    except OSError: pass
say(talk(('{API}', 80), get('{API}'))[-7:])
"""
    ran = await ground.run(code)
    assert [read(x) for x in ran.out.splitlines()] == [[[0, 1, "127.1.0.1"]], ["hello /"]]


async def test_what_cannot_be_told_is_not_allowed(ground: Any) -> None:
    ground.allow(API, PLAIN)
    opened: list[Gateway] = []
    heard: list[Event] = []

    def fail(event: Event) -> None:
        heard.append(event)
        if len(heard) > 1:
            raise LookupError("mine")

    async def attach(listeners: Listeners) -> None:
        opened.append(Gateway.open(listeners, decide=ground.decide, on_event=fail, resolve=ground.outside.resolve))

    code = HOLDING + f"say(ask('{OTHER}')[0], ask('{API}')[0])"
    code = code.replace("try: say", f"ask('{OTHER}')\ntry: say", 1)
    said = bytearray()
    spec = ground.spec(code)
    async with await ground.jail.start(spec, lambda _, text: said.extend(text), attach=attach) as sandbox:
        await sandbox.wait()
        with pytest.raises(LookupError, match="mine"):
            await opened[0].close()
    assert said.decode().splitlines() == ['["ping"]', '[""]', "[3, 3]"]


def held() -> int:
    gc.collect()
    return sum("uids" not in os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())


async def test_nothing_is_left_after_close(ground: Any) -> None:
    ground.allow(API, 80, PLAIN)
    code = f"""
held = [socket.create_connection(('{API}', {PLAIN})) for _ in range(5)]
[s.sendall(b'x') or s.recv(1) for s in held]
half = socket.create_connection(('{API}', 80)); half.sendall(b'GET / HTTP/1.1\\r\\nHo')
other = socket.create_connection(('127.0.0.1', 3128)); dns = socket.create_connection(('127.0.0.1', 53))
say('ready'); time.sleep(60)
"""
    await ground.run("pass")
    before, tasks = held(), asyncio.all_tasks()
    for _ in range(3):
        async with ground.start(code) as ran:
            await line(ran)
            assert held() > before
            await asyncio.gather(ran.gateway.close(), ran.gateway.close())
            assert not ran.gateway._live
        assert {event.bytes_sent for event in ran.events if event.kind == "tcp"} == {1}
    await until(lambda: held() <= before and not asyncio.all_tasks() - tasks)


async def test_attaching_comes_before_the_program_and_its_failure_is_the_starts(ground: Any) -> None:
    given: list[Listeners] = []

    async def attach(listeners: Listeners) -> None:
        given.append(listeners)
        await asyncio.sleep(0.05)
        assert not said
        raise LookupError("mine")

    said = bytearray()
    await ground.run("pass")
    before = held()
    spec = Spec(image=ground.host, command=("echo", "ran"), network=Network())
    with pytest.raises(LookupError, match="mine"):
        await ground.jail.start(spec, lambda _, text: said.extend(text), attach=attach)
    assert not said
    assert given[0].dns.fileno() == -1
    given.clear()
    assert held() <= before
    with pytest.raises(SpecInvalid):
        await ground.jail.start(spec, lambda *_: None)
    with pytest.raises(SpecInvalid):
        await ground.jail.start(Spec(image=ground.host, command=("true",)), lambda *_: None, attach=attach)


async def test_listeners_of_a_sandbox_that_died_meanwhile_are_a_start_that_failed(ground: Any) -> None:
    """The launcher refuses a process that is not in the network bwrap told."""
    launcher = ground.jail._launcher
    with pytest.raises(OSError, match="not in the sandbox's network"):
        await launcher.listen([(False, "127.0.0.1", 80)], pid=os.getpid(), inode=12345)
    with pytest.raises(OSError, match="No such file"):
        await launcher.listen([(False, "127.0.0.1", 80)], pid=2**22 + 1, inode=12345)
    assert (await ground.run("say(1)")).outcome.ending is Ending.EXITED


async def test_a_cancelled_start_leaves_no_listener(ground: Any) -> None:
    async def attach(listeners: Listeners) -> None:
        listeners.close()

    spec = Spec(image=ground.host, command=("sleep", "875"), network=Network())
    await ground.run("pass")
    before = held()
    for delay in (0.0, 0.002, 0.004, 0.006, 0.008):
        task = asyncio.create_task(ground.jail.start(spec, lambda *_: None, attach=attach))
        await asyncio.sleep(delay)
        task.cancel()
        try:
            sandbox = await task
        except asyncio.CancelledError:
            continue
        await sandbox.close()
    await until(lambda: held() <= before)


async def test_an_address_is_looked_at_again_when_the_policy_changed_while_it_was_dialled(ground: Any) -> None:
    ground.allow(API, 80)
    narrowing: list[Gateway] = []

    async def resolve(_: str) -> list[str]:
        ground.allow(API, 80, private=False)
        narrowing[0].narrow(ground.decide)
        return [ground.outside.address]

    ground.outside.resolve = resolve
    try:
        async with ground.start(f"say(talk(('{API}', 80), get('{API}'))[:12])") as ran:
            narrowing.append(ran.gateway)
            await ran.sandbox.wait()
    finally:
        del ground.outside.resolve
    assert read(ran.out) == ["HTTP/1.1 403"]
    assert ran.denials == [("narrowed", API, 80, "private_address")]
    assert ground.outside.heads == []
