"""The supervisor's end of the launcher (launcher.py): an asyncio client of its socket."""

import asyncio
import base64
import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tenantry.engines.jail.bubblewrap import Bubblewrap
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.kernel import Moved
from tenantry.engines.jail.seccomp import build_filter

_PROGRAM: Final = Path(__file__).with_name("launcher.py")
_MESSAGE_BYTES: Final = 1 << 16
_MOST_SOCKETS: Final = 128

_Answer = TypeVar("_Answer")
Address = tuple[bool, str, int]
"""Whether of datagrams, then where: address and port."""


@dataclass(frozen=True, slots=True)
class Death:
    """`status` is wait(2)'s of the monitor, None when the launcher died first and took the sandbox with it.

    `room_lost`: the container it was put into had been ended.
    """

    status: int | None
    cpu_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    room_lost: bool = False
    moved: Moved | None = None
    """Read and written by all that were reaped, and of that before the program began, `set_up`."""
    set_up: Moved = (0, 0)


class LauncherClient:
    """One launcher process; made by `start`, ended by `close`. Bound to the event loop it was started on."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._configured: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._exposed: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening: dict[int, asyncio.Future[list[socket.socket]]] = {}
        self._deaths: dict[str, asyncio.Future[Death]] = {}
        self._guests: dict[int, asyncio.Future[int | None]] = {}
        self._admitted: dict[int, asyncio.Future[None]] = {}
        self._outbox: deque[tuple[bytes, Sequence[int], asyncio.Future[None] | None]] = deque()
        self._tokens = 0
        self.shelf = ""  # the directory it has covered in its own mount namespace, if it has one
        self.alive = True
        self._loop.add_reader(channel.fileno(), self._receive)

    @classmethod
    async def start(cls, bubblewrap: Bubblewrap | None, *, private: bool) -> "LauncherClient":
        """Start the process; `private` gives it a mount namespace, which needs root, and `bubblewrap`.

        Raises JailUnavailable `launcher_failed` when the kernel refuses what it needs.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        process = await asyncio.to_thread(_spawn, theirs)
        client = cls(process, ours)
        try:
            answer = await client._configure(bubblewrap, private=private)
        except BaseException:
            await client.close()
            raise
        if "configured" not in answer:
            await client.close()
            raise JailUnavailable(
                "launcher_failed",
                f"the sandbox launcher could not prepare itself: {answer.get('error', 'it ended at once')}",
                remedy="as root it needs CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID, CAP_SETPCAP; or be an ordinary user",
            )
        client.shelf = answer["configured"]
        return client

    async def _configure(self, bubblewrap: Bubblewrap | None, *, private: bool) -> dict[str, Any]:
        self._post(
            op="configure",
            seccomp=base64.b64encode(build_filter()).decode(),
            bwrap=str(bubblewrap.path) if bubblewrap else "",
            libraries=str(bubblewrap.libraries) if bubblewrap and bubblewrap.libraries else None,
            private=private,
        )
        return await self._configured

    async def expose(self, path: Path) -> Path:
        """Bind `path` read-only where any uid can reach it, until it is concealed; raises OSError."""
        self._tokens += 1
        token = self._tokens
        answer = self._exposed[token] = self._loop.create_future()
        self._post(op="expose", token=token, path=str(path))
        answered = await answer
        if "path" not in answered:
            number = answered.get("errno") or 0
            raise OSError(number, os.strerror(number), str(path))
        return Path(answered["path"])

    def conceal(self, exposed: Path) -> None:
        """Take back what `expose` gave; nothing may be starting from it, what runs already keeps it."""
        self._post(op="conceal", path=str(exposed))

    async def listen(
        self, addresses: Sequence[Address], *, pid: int, inode: int, raised: bool = False
    ) -> list[socket.socket]:
        """Bind sockets in network namespace `inode`, that of process `pid`, one for each address; raises OSError.

        With `raised`, its loopback is brought up first, which needs root.
        """
        return await self._sockets(op="listen", pid=pid, network=inode, addresses=list(addresses), raised=raised)

    async def dial(self, port: int, *, pid: int, inode: int) -> socket.socket:
        """Connect to 127.0.0.1:`port` in network namespace `inode`, that of process `pid`; raises OSError."""
        return (await self._sockets(op="dial", pid=pid, network=inode, port=port))[0]

    async def _sockets(self, **message: object) -> list[socket.socket]:
        self._tokens += 1
        answer: asyncio.Future[list[socket.socket]] = self._loop.create_future()
        self._listening[self._tokens] = answer
        self._post(token=self._tokens, **message)
        if not self.alive:
            raise OSError(errno.ESRCH, "the sandbox launcher has ended")
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                for one in answer.result():
                    one.close()
            raise

    def prepare(self, sandbox_id: str, *, join: Sequence[str]) -> None:
        """Fork ahead of time what `launch` will want: one seat for one sandbox, never used twice."""
        self._post(op="prepare", id=sandbox_id, join=list(join))

    def dismiss(self, sandbox_id: str) -> None:
        """End a seat that nobody will take."""
        self._post(op="dismiss", id=sandbox_id)

    async def launch(
        self,
        sandbox_id: str,
        *,
        uid: int | None,
        join: Sequence[str],
        rlimits: Sequence[tuple[int, int]],
        files: Sequence[tuple[int, int]],
        descriptors: Sequence[int],
        keeper: int | None = None,
    ) -> asyncio.Future[Death]:
        """Fork a sandbox; returns once the descriptors are handed over, with the future of its death.

        With `keeper`, process 1 of a container, it is put in there (containing.py), else bwrap makes it.
        """
        death = self._deaths[sandbox_id] = self._loop.create_future()
        sent = self._loop.create_future()
        body = {"op": "launch", "id": sandbox_id, "uid": uid, "join": list(join), "rlimits": list(rlimits)}
        body |= {"files": list(files)} | ({} if keeper is None else {"keeper": keeper})
        self._put(json.dumps(body).encode(), descriptors, sent)
        await sent
        return death

    async def enter(
        self, sandbox_id: str, *, uid: int | None, join: Sequence[str], descriptors: Sequence[int]
    ) -> tuple[int, asyncio.Future[int | None]]:
        """Put a fork into a sandbox (entering.py); returns once the descriptors are handed over.

        The token is what `admit` and `strike` want. The future is of its wait status once it was admitted: -1 when it
        had ended before, None when the launcher died.
        """
        self._tokens += 1
        token = self._tokens
        left = self._guests[token] = self._loop.create_future()
        sent = self._loop.create_future()
        body = {"op": "enter", "token": token, "id": sandbox_id, "uid": uid, "join": list(join)}
        try:
            self._put(json.dumps(body).encode(), descriptors, sent)
            await sent
        except BaseException:
            self._guests.pop(token, None)
            raise
        return token, left

    async def admit(self, token: int, *, sandbox_id: str, pid: int) -> None:
        """Have the launcher know process `pid` by its token; returns once it does, or has told that it left."""
        left = self._guests.get(token)
        known = self._admitted[token] = self._loop.create_future()
        self._post(op="admit", token=token, id=sandbox_id, pid=pid)
        try:
            if left is not None:
                await asyncio.wait([known, left], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._admitted.pop(token, None)

    def strike(self, token: int, number: int) -> None:
        """Send a signal to its process group; nothing once it has ended."""
        self._post(op="strike", token=token, number=number)

    def forget(self, token: int) -> None:
        """Expect no news of one that was never admitted."""
        self._guests.pop(token, None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def release(self, sandbox_id: str, *, init: int) -> None:
        self._post(op="release", id=sandbox_id, init=init)

    def resume(self, sandbox_id: str) -> None:
        self._post(op="resume", id=sandbox_id)

    def kill(self, sandbox_id: str) -> None:
        self._post(op="kill", id=sandbox_id)

    async def close(self) -> None:
        """End the process, and with it whatever sandboxes are left."""
        self._gone()
        self._channel.close()
        await asyncio.to_thread(self._process.wait)

    def _post(self, **message: object) -> None:
        self._put(json.dumps(message).encode(), (), None)

    def _put(self, body: bytes, descriptors: Sequence[int], sent: asyncio.Future[None] | None) -> None:
        if not self.alive:
            if sent:
                sent.set_exception(JailUnavailable("launcher_gone", "the sandbox launcher has ended", remedy="retry"))
            return
        self._outbox.append((body, descriptors, sent))
        if len(self._outbox) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._outbox:
            body, descriptors, sent = self._outbox[0]
            try:
                socket.send_fds(self._channel, [body], descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._channel.fileno(), self._flush)
                return
            except OSError:
                self._gone()
                return
            self._outbox.popleft()
            if sent and not sent.done():
                sent.set_result(None)
        self._loop.remove_writer(self._channel.fileno())

    def _receive(self) -> None:
        while self.alive:
            try:
                body, descriptors, _, _ = socket.recv_fds(self._channel, _MESSAGE_BYTES, _MOST_SOCKETS)
            except BlockingIOError:
                return
            except OSError:
                body, descriptors = b"", []
            if not body:
                self._gone()
                return
            self._dispatch(json.loads(body), descriptors)

    def _dispatch(self, answer: dict[str, Any], descriptors: list[int]) -> None:
        if "listening" in answer:
            self._hand_over(answer, [_adopted(descriptor) for descriptor in descriptors])
        elif "ended" in answer:
            death = Death(
                answer["status"],
                answer["cpu_us"] / 1e6,
                answer["peak_kib"] / 1024,
                room_lost=answer["room_lost"],
                moved=tuple(answer["moved"]) if answer["moved"] else None,
                set_up=tuple(answer["set_up"]),
            )
            _settle(self._deaths.pop(answer["ended"], None), death)
        elif "admitted" in answer:
            _settle(self._admitted.get(answer["admitted"]), None)
        elif "left" in answer:
            _settle(self._guests.pop(answer["left"], None), answer["status"])
        elif "exposed" in answer:
            _settle(self._exposed.pop(answer["exposed"]), answer)
        else:
            _settle(self._configured, answer)

    def _hand_over(self, answer: dict[str, Any], sockets: list[socket.socket]) -> None:
        waiting = self._listening.pop(answer["listening"], None)
        if waiting is None or waiting.done():
            for one in sockets:
                one.close()
        elif "error" in answer:
            waiting.set_exception(OSError(answer["errno"], f"in its network: {answer['error']}"))
        else:
            waiting.set_result(sockets)

    def _gone(self) -> None:
        """Tell everyone who waits: a launcher that died took its sandboxes along."""
        if not self.alive:
            return
        self.alive = False
        with contextlib.suppress(ValueError, OSError):
            self._loop.remove_reader(self._channel.fileno())
            self._loop.remove_writer(self._channel.fileno())
        for death in self._deaths.values():
            _settle(death, Death(None))
        for waiting in (*self._exposed.values(), self._configured):
            _settle(waiting, {})
        for left in self._guests.values():
            _settle(left, None)
        self._refuse_the_rest()
        for held in (self._outbox, self._deaths, self._guests, self._exposed, self._listening):
            held.clear()

    def _refuse_the_rest(self) -> None:
        for listening in self._listening.values():
            if not listening.done():
                listening.set_exception(OSError(errno.ESRCH, "the sandbox launcher has ended"))
        for _, _, sent in self._outbox:
            if sent and not sent.done():
                sent.set_exception(JailUnavailable("launcher_gone", "the sandbox launcher has ended", remedy="retry"))


def _settle(waiting: asyncio.Future[_Answer] | None, answer: _Answer) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(answer)


def memory_file(content: bytes) -> int:
    """Make a file in memory, read from its start by whoever gets the descriptor; no command line shows it."""
    descriptor = os.memfd_create("tenantry", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as target:
            target.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _adopted(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)  # recv_fds of Python 3.11 drops its flags, MSG_CMSG_CLOEXEC too
    made = socket.socket(fileno=descriptor)
    made.setblocking(False)
    return made


def _spawn(channel: socket.socket) -> subprocess.Popen[bytes]:
    """Start the launcher in a session of its own, so that a terminal's Ctrl-C is the supervisor's to judge."""
    with channel:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_PROGRAM), str(channel.fileno())],
            pass_fds=(channel.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )
