"""`sandbox exec` and `sandbox shell`: a command in a running sandbox as if it ran here."""

import codecs
import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import threading
import tty
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from tenantry.client.errors import BadAnswer, BadRequest, ClientError
from tenantry.interfaces.cli.commands.sandbox_place import sandbox_id
from tenantry.interfaces.cli.exits import exit_for_exec
from tenantry.interfaces.cli.invocation import Invocation
from tenantry.interfaces.cli.terminal import is_terminal, many_lines, write

if TYPE_CHECKING:
    from tenantry.client.channels import Channel

_PIECE = 64 << 10
_STDOUT = 1
_LOOK_SECONDS = 0.2

SandboxName = Annotated[str, typer.Argument(metavar="SANDBOX", help="name or id")]
Words = Annotated[list[str], typer.Argument(metavar="CMD", help="the command and its arguments, after --")]
Workdir = Annotated[str | None, typer.Option("--workdir", metavar="DIR", help="where it starts")]


def run(
    cli: Invocation,
    sandbox: SandboxName,
    words: Words,
    *,
    workdir: Workdir = None,
    stdin: Annotated[
        bool | None, typer.Option("--stdin/--no-stdin", help="pass standard input on; unless told, where it is piped")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="let its control characters reach the terminal")] = False,
) -> None:
    """Run a command in a running sandbox: its output streams here, its exit code is ours.

    Standard input is passed on where it is a pipe or a file. An interrupt here interrupts the command. 124 tells that
    it timed out; it ends with the connection.
    """
    found = sandbox_id(cli, sandbox)
    asked = _command(words)
    with cli.client.sandboxes.terminal(cli.workspace, found, command=asked, tty=False, workdir=workdir) as channel:
        passed = not is_terminal(sys.stdin) if stdin is None else stdin
        with _interrupting(channel), _feeding(channel, passed=passed):
            end = _streams(channel, raw=raw)
    raise typer.Exit(exit_for_exec(ending=end["ending"], exit_code=end["exit_code"]))


def shell(
    cli: Invocation,
    sandbox: SandboxName,
    words: Annotated[list[str] | None, typer.Argument(metavar="[CMD]", help="instead of `sh`, after --")] = None,
    *,
    workdir: Workdir = None,
) -> None:
    """Open a terminal in a running sandbox. It is as large as this one; `exit` or end of input ends it."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise BadRequest("terminal_missing", "a shell needs a terminal", remedy="tenantry sandbox exec SANDBOX -- CMD")
    found, (rows, columns) = sandbox_id(cli, sandbox), _size()
    options: dict[str, Any] = {"rows": rows, "columns": columns, "term": os.environ.get("TERM"), "workdir": workdir}
    opened = cli.client.sandboxes.terminal(cli.workspace, found, command=_command(words), **options)
    with opened as channel, _raw_terminal(), _resizing(channel), _feeding(channel, passed=True):
        end = _terminal(channel)
    raise typer.Exit(exit_for_exec(ending=end["ending"], exit_code=end["exit_code"]))


def _command(words: list[str] | None) -> list[str]:
    """Leave out what only says that options end."""
    found = words or []
    return found[1:] if found[:1] == ["--"] else found


def _streams(channel: "Channel", *, raw: bool) -> dict[str, Any]:
    """Show what comes until the end."""
    shown = {number: _shower(stream, raw=raw) for number, stream in ((1, sys.stdout), (2, sys.stderr))}
    for piece in channel:
        if isinstance(piece, dict):
            return piece
        shown[_STDOUT if piece[:1] == b"\x01" else 2](piece[1:])
    raise BadAnswer("exit_missing", "the connection ended before the command was said to")


def _shower(stream: Any, *, raw: bool) -> Callable[[bytes], None]:
    """Make what shows bytes: piped as they are, on a terminal as text in which nothing steers."""
    if raw or not is_terminal(stream):
        return lambda content: _put(stream.buffer, content)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return lambda content: write(stream, many_lines(decoder.decode(content)))


def _put(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)
    stream.flush()


def _terminal(channel: "Channel") -> dict[str, Any]:
    for piece in channel:
        if isinstance(piece, dict):
            return piece
        _put(sys.stdout.buffer, piece)
    raise BadAnswer("exit_missing", "the connection ended before the shell was said to")


@contextmanager
def _feeding(channel: "Channel", *, passed: bool) -> Generator[None]:
    """Pass standard input on, meanwhile; what is not passed on is at its end from the beginning."""
    if not passed:
        channel.tell(close_stdin=True)
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_feed, args=(channel, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2 * _LOOK_SECONDS)


def _feed(channel: "Channel", over: threading.Event) -> None:
    number = sys.stdin.fileno()
    with contextlib.suppress(ClientError, OSError):  # the other side has ended: its end is read elsewhere
        while not over.is_set():
            # Looked at, so that what is typed after the end is left for whoever reads next.
            if not select.select([number], [], [], _LOOK_SECONDS)[0]:
                continue
            content = os.read(number, _PIECE)
            if not content:
                channel.tell(close_stdin=True)
                return
            channel.send(content)


@contextmanager
def _interrupting(channel: "Channel") -> Generator[None]:
    """Hand an interrupt and a request to end on; a second one ends this command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hand_on(number: int, _frame: object) -> None:
        signal.signal(number, before[signal.Signals(number)])
        # Of its own thread: whoever was interrupted may hold the connection.
        threading.Thread(target=_told, args=(channel, number), daemon=True).start()

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told(channel: "Channel", number: int) -> None:
    with contextlib.suppress(ClientError):
        channel.tell(signal=number)


@contextmanager
def _raw_terminal() -> Generator[None]:
    """Hand every key on as it is pressed; the terminal is as it was afterwards, whatever happened."""
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setraw(number, termios.TCSADRAIN)  # what was typed already is kept
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


@contextmanager
def _resizing(channel: "Channel") -> Generator[None]:
    """Tell the other side when this terminal changes its size.

    It is looked at from time to time, too: a signal that comes while the main thread begins to wait is not handled
    before there is output.
    """
    changed = threading.Event()
    over = threading.Event()

    def follow() -> None:
        told = 0, 0
        with contextlib.suppress(ClientError, OSError):
            while not over.is_set():
                if (size := _size()) != told:
                    channel.tell(resize={"rows": size[0], "columns": size[1]})
                    told = size
                changed.wait(_LOOK_SECONDS)
                changed.clear()

    before = signal.signal(signal.SIGWINCH, lambda *_: changed.set())
    threading.Thread(target=follow, daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
        over.set()
        changed.set()


def _size() -> tuple[int, int]:
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8)))
    return max(rows, 1), max(columns, 1)
