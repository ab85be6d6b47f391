"""Works on one operation, and dies where it is told to: `python crashing.py HOME OPERATION START_SECONDS POINT…`.

A point is `<step>:begins`, `<step>:ends` (done, not yet noted) or `<step>:<n>` (after its n-th effect). Each point is
met by a process of its own, forked from this one, which takes up what the one before has left. Its clock is ahead of
the installation's by START_SECONDS and more each time, so that the server's own runner sees nothing that is due and no
lease holds. The point `cancel` is met by a process that calls the operation off. At last one process works to the end,
and finds it as it should be: succeeded, or cancelled. Prints the exit code of each, as JSON.
"""

import asyncio
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from tenantry.capabilities.tenants.service import Directory, OperationLog
from tenantry.capabilities.tenants.types import Operation, OperationStatus
from tenantry.entrypoints.operations import make_operations
from tenantry.entrypoints.provision import PlaceMaker
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.database.transfer import TenantRows
from tenantry.foundation.objects.directory import DirectoryObjects
from tenantry.foundation.settings import load_settings

LEASE = timedelta(minutes=10)
STEP_SECONDS = 3600
CANCEL = "cancel"
_FAST = 10
_SECONDS = 60
_EFFECTS: tuple[tuple[type[Any], tuple[str, ...]], ...] = (
    (TenantRows, ("write", "write_texts", "delete", "place", "execute", "forget")),
    (DirectoryObjects, ("put", "delete_all")),
    (PlaceMaker, ("make", "remove")),
    (OperationLog, ("seat", "switch", "erase_placement")),
    (Directory, ("place_workspaces", "set_status")),
    (TenantSession, ("commit",)),
)


class AheadClock(SystemClock):
    """Ahead of the machine's clock, and faster, so that what waits for a retry need not be waited for."""

    def __init__(self, ahead: timedelta, *, fast: int = 1) -> None:
        self._ahead = ahead
        self._fast = fast
        self._began = time.time()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._began + (time.time() - self._began) * self._fast, UTC) + self._ahead


class Death:
    """Where to die; `None` nowhere."""

    def __init__(self, point: str | None) -> None:
        self._step, _, self._what = (point or "").partition(":")
        self._left = int(self._what) if self._what.isdecimal() else 0
        self._here = False

    async def watch(self, operation: Operation, what: str) -> None:
        self._here = what == "begins" and operation.step == self._step
        if operation.step != self._step:
            return
        if what == self._what:
            os._exit(9)
        if what == "ends" and self._what.isdecimal():
            os._exit(8)  # it had fewer effects

    def after_effect(self) -> None:
        if self._here and self._left:
            self._left -= 1
            if not self._left:
                os._exit(9)


def _deadly(method: Callable[..., Any], death: Death) -> Callable[..., Any]:
    async def call(*arguments: Any, **fields: Any) -> Any:
        result = await method(*arguments, **fields)
        death.after_effect()
        return result

    return call


async def _cancel(home: Path, operation_id: UUID, *, ahead: timedelta) -> None:
    async with open_parts(load_settings(home=home)) as opened:
        log = opened.directory.operations(AheadClock(ahead))
        operation = await log.get(operation_id, tenant_id=None)
        called_off = await log.call_off(operation, cancelled_by="another")
        os._exit(9 if called_off is not None else 4)


async def _work(home: Path, operation_id: UUID, *, ahead: timedelta, death: Death, wanted: OperationStatus) -> None:
    for owner, names in _EFFECTS:
        for name in names:
            setattr(owner, name, _deadly(getattr(owner, name), death))
    async with open_parts(load_settings(home=home)) as opened:
        parts = dataclasses.replace(opened, clock=AheadClock(ahead, fast=_FAST))
        log = parts.directory.operations(parts.clock)
        runner = make_operations(parts, watch=death.watch, lease=LEASE)
        deadline = time.monotonic() + _SECONDS
        while True:
            await runner.run_due()
            operation = await log.find(operation_id)
            assert operation is not None
            if operation.status is not OperationStatus.RUNNING:
                os._exit(0 if operation.status is wanted else 3)
            assert time.monotonic() < deadline, f"{operation.step}: {operation.failure}"
            await asyncio.sleep(0.05)


def main(home: str, operation: str, start_seconds: str, *points: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    codes = []
    wanted = OperationStatus.CANCELLED if CANCEL in points else OperationStatus.SUCCEEDED
    for number, point in enumerate([*points, None]):
        child = os.fork()
        if not child:
            signal.alarm(_SECONDS + 30)  # whoever started it waits no longer
            ahead = timedelta(seconds=int(start_seconds) + (number + 1) * STEP_SECONDS)
            place, name = Path(home), UUID(hex=operation)
            if point == CANCEL:
                asyncio.run(_cancel(place, name, ahead=ahead))
            asyncio.run(_work(place, name, ahead=ahead, death=Death(point), wanted=wanted))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(codes))  # noqa: T201 - this is what the test reads


if __name__ == "__main__":
    main(*sys.argv[1:])
