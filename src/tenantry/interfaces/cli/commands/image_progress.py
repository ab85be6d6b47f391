"""How far an upload or a pull is: drawn on a terminal; elsewhere a pull has lines."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tenantry.interfaces.cli.output import say
from tenantry.interfaces.cli.terminal import is_terminal, one_line

if TYPE_CHECKING:
    from tenantry.client.types import PullProgress

    Shown = Callable[[PullProgress], object]


@contextmanager
def uploading(name: str) -> Generator[Callable[[int], object] | None]:
    """Show the bytes sent, on a terminal."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(one_line(name), total=None)
        yield lambda sent: shown.update(task, completed=sent)


@contextmanager
def pulling(reference: str, *, quiet: bool) -> "Generator[Shown | None]":
    """Show what was fetched and what is done with it, or with `quiet` nothing."""
    if quiet:
        yield None
    elif is_terminal(sys.stderr):
        with _drawn(reference) as shown:
            yield shown
    else:
        yield _lines()


@contextmanager
def _drawn(reference: str) -> "Generator[Shown]":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(f"pulling {one_line(reference)}", total=None)

        def show(now: "PullProgress") -> None:
            shown.update(
                task,
                description=f"{_phase(now)} {one_line(reference)}",
                completed=now.get("bytes_done", 0),
                total=now.get("bytes_total") or None,
            )

        yield show


def _lines() -> "Shown":
    """Make what writes a line for each phase, and for each layer that is done."""
    last = ""

    def show(now: "PullProgress") -> None:
        nonlocal last
        if _phase(now) != last:
            last = _phase(now)
            say(last)

    return show


def _phase(now: "PullProgress") -> str:
    phase, layers = one_line(str(now.get("phase", ""))), now.get("layers_total", 0)
    done = {"fetching": now.get("layers_done", 0), "unpacking": now.get("layers_unpacked", 0)}.get(phase)
    return f"{phase}: {done} of {layers} layers" if done is not None else phase
