"""SIGHUP: a command while the terminal is there or never was, the end once it has gone."""

import os
import pty
import signal
import subprocess
import sys
from contextlib import AbstractContextManager

from tests.ending import killed_after, line_of

PROGRAM = """
import asyncio, fcntl, os, signal, sys, termios
from tenantry.entrypoints.declared import _has_terminal, _on_hangup

async def main():
    if {terminal}:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _on_hangup, asked, _has_terminal())
    print("ready", _has_terminal(), flush=True)
    while True:
        await asked.wait()
        asked.clear()
        print("reload", flush=True)

asyncio.run(main())
"""


def started(stdin: int, *, terminal: bool) -> AbstractContextManager["subprocess.Popen[str]"]:
    program = [sys.executable, "-c", PROGRAM.format(terminal=terminal)]
    return killed_after(
        subprocess.Popen(program, stdin=stdin, stdout=subprocess.PIPE, text=True, start_new_session=not terminal)
    )


def line(process: "subprocess.Popen[str]") -> str:
    return line_of(process).strip()


def test_without_a_terminal_it_is_a_command() -> None:
    with started(subprocess.DEVNULL, terminal=False) as process:
        assert line(process) == "ready False"
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert line(process) == "reload"


def test_on_a_terminal_it_is_a_command_until_the_terminal_goes() -> None:
    master, slave = pty.openpty()
    with started(slave, terminal=True) as process:
        os.close(slave)
        assert line(process) == "ready True"
        process.send_signal(signal.SIGHUP)
        assert line(process) == "reload"
        os.close(master)
        assert process.wait(timeout=20) == -signal.SIGTERM
