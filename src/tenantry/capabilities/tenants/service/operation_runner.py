"""Does the operations that are due, step by step, and puts back those that are to end early."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from tenantry.capabilities.tenants.service.operations import DONE, Next, OperationLog, Steps
from tenantry.capabilities.tenants.types import Operation, OperationStatus
from tenantry.foundation.clock import Clock
from tenantry.foundation.errors import Conflict, TenantryError, Unavailable

PUT_BACK: Final = "put_back"
"""What the log and `watch` call the step that puts an operation back."""
_RENEW_SECONDS: Final = 5.0
_RETRY: Final = timedelta(seconds=2)

_log = structlog.get_logger(__name__)


class _CalledOffError(Exception):
    """The step was left because the operation is to be put back."""


class _Hold:
    """The lease of one operation while it is worked on: renewed, and heard by it when somebody calls it off."""

    def __init__(self, log: OperationLog, steps: Steps, *, seconds: float) -> None:
        self._log = log
        self._steps = steps
        self._seconds = seconds
        self._work: asyncio.Task[Next] | None = None
        self._called_off = False

    async def run(self, operation: Operation) -> Next:
        """Do a step; raises _CalledOffError when the operation was called off and the step could be left."""
        work = self._work = asyncio.ensure_future(self._steps.run(operation))
        try:
            return await work
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if not self._called_off or (own is not None and own.cancelling()):
                raise
            raise _CalledOffError from None
        finally:
            self._work = None

    async def keep(self, operation: Operation) -> None:
        """Renew while a step takes long; without the lease the epoch refuses what the step notes."""
        while True:
            await asyncio.sleep(self._seconds)
            with contextlib.suppress(TenantryError):
                found = await self._log.renew(operation)
                if found is not None and found.ending is not None and found.step in self._steps.interruptible:
                    self._leave()

    def _leave(self) -> None:
        if self._work is not None and not self._called_off:
            self._called_off = True
            self._work.cancel()


class OperationRunner:
    """Does what is due in the regions of this process; `watch` is told of each step before and after it."""

    def __init__(
        self,
        log: OperationLog,
        *,
        kinds: Mapping[str, Steps],
        regions: Sequence[str],
        clock: Clock,
        watch: Callable[[Operation, str], Awaitable[None]] | None = None,
        renew_seconds: float = _RENEW_SECONDS,
    ) -> None:
        """`renew_seconds`: how often a lease is renewed, and how soon a long step hears that it was called off."""
        self._log = log
        self._kinds = kinds
        self._regions = regions
        self._clock = clock
        self._watch = watch
        self._renew_seconds = renew_seconds

    async def run_due(self) -> int:
        """Work until nothing is due; tells how many operations it moved on."""
        count = 0
        while (operation := await self._log.claim(self._regions)) is not None:
            await self._carry_on(operation)
            count += 1
        return count

    async def _carry_on(self, operation: Operation) -> None:
        """Do steps until the operation ends or waits; never raises but for its own cancellation."""
        hold = _Hold(self._log, self._kinds[operation.kind], seconds=self._renew_seconds)
        renewal = asyncio.create_task(hold.keep(operation))
        try:
            while operation.status is OperationStatus.RUNNING and operation.due_at <= self._clock.now():
                if operation.ending is None:
                    operation = await self._step(operation, hold)
                else:
                    operation = await self._put_back(operation, operation.ending)
        except TenantryError as error:  # lost to another process, or the directory is away: the lease decides
            _log.warning("operation.left", operation=operation.operation_id.hex, step=operation.step, code=error.code)
        finally:
            renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewal

    async def _step(self, operation: Operation, hold: _Hold) -> Operation:
        await self._tell(operation, "begins")
        try:
            after = await hold.run(operation)
        except _CalledOffError:
            return await self._note(operation, step=operation.step)
        except (Unavailable, Conflict) as error:
            return await self._later(operation, error.code)
        except TenantryError as error:
            _log.error("operation.failed", operation=operation.operation_id.hex, step=operation.step, code=error.code)
            given_up = await self._log.give_up(operation, failure=error.code)
            return given_up or await self._later(operation, error.code)
        except Exception as error:  # noqa: BLE001 - an error of ours must neither lose nor hasten it
            _log.exception("operation.fault", operation=operation.operation_id.hex, step=operation.step)
            return await self._later(operation, f"internal:{type(error).__name__}")
        await self._tell(operation, "ends")
        if after.step == DONE:
            return await self._note(operation, step=DONE, status=OperationStatus.SUCCEEDED)
        return await self._note(operation, step=after.step, at=after.at)

    async def _put_back(self, operation: Operation, ending: OperationStatus) -> Operation:
        """Undo, however often it takes; only then has it ended. Why it failed is not lost by what delays this."""
        told = replace(operation, step=PUT_BACK)
        failure = operation.failure if ending is OperationStatus.FAILED else None
        await self._tell(told, "begins")
        try:
            await self._kinds[operation.kind].abandon(operation)
        except TenantryError as error:
            _log.warning("operation.put_back_later", operation=operation.operation_id.hex, code=error.code)
            return await self._later(operation, failure or error.code)
        except Exception as error:  # noqa: BLE001 - the same: it is tried until it is done
            _log.exception("operation.fault", operation=operation.operation_id.hex, step=PUT_BACK)
            return await self._later(operation, failure or f"internal:{type(error).__name__}")
        await self._tell(told, "ends")
        return await self._note(operation, step=operation.step, status=ending, failure=failure)

    async def _later(self, operation: Operation, failure: str) -> Operation:
        return await self._note(operation, step=operation.step, at=self._clock.now() + _RETRY, failure=failure)

    async def _note(
        self,
        operation: Operation,
        *,
        step: str,
        status: OperationStatus = OperationStatus.RUNNING,
        at: datetime | None = None,
        failure: str | None = None,
    ) -> Operation:
        return await self._log.advance(operation, status=status, step=step, at=at, failure=failure)

    async def _tell(self, operation: Operation, what: str) -> None:
        _log.info(
            f"operation.step_{what}", operation=operation.operation_id.hex, kind=operation.kind, step=operation.step
        )
        if self._watch is not None:
            await self._watch(operation, what)
