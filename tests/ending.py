"""Waits that end: what does not come to its end in time is killed and fails the test, and holds up nobody else.

`Popen.__exit__` and `Thread.join` wait for ever, and a test's own time limit, once it has struck, bounds nothing more.
"""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import AnyStr, Final

SECONDS: Final = 30.0


def ended(process: "subprocess.Popen[AnyStr]", *, seconds: float = SECONDS) -> int:
    """Wait until a process has ended; gives its exit code."""
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=SECONDS)
        raise AssertionError(f"still running after {seconds:g} s: {process.args!r}") from None


@contextmanager
def killed_after(process: "subprocess.Popen[AnyStr]") -> Iterator["subprocess.Popen[AnyStr]"]:
    """A process for a while: whatever comes, it has ended afterwards, and its pipes are closed."""
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=SECONDS)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def line_of(process: "subprocess.Popen[AnyStr]", *, seconds: float = SECONDS) -> AnyStr:
    """Read the next line of its output."""
    output, read = process.stdout, list[AnyStr]()
    assert output is not None
    reader = threading.Thread(target=lambda: read.append(output.readline()), daemon=True)
    reader.start()
    reader.join(seconds)
    assert read, f"nothing was said in {seconds:g} s: {process.args!r}"
    return read[0]


def joined(thread: threading.Thread, *, seconds: float = SECONDS) -> None:
    """Wait until a thread has ended; make it a daemon, so that one that does not cannot hold up the process."""
    thread.join(seconds)
    assert not thread.is_alive(), f"still running after {seconds:g} s: {thread.name}"
