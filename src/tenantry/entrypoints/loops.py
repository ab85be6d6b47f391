"""What a process does again and again: what goes wrong is logged, and the loop goes on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from tenantry.foundation.errors import TenantryError

_log = structlog.get_logger(__name__)


async def forever(
    name: str,
    work: Callable[[], Awaitable[object]],
    *,
    seconds: float | Callable[[], float],
    wake: asyncio.Event | None = None,
) -> None:
    """Work, wait for `seconds` or for `wake`, work again. Woken at work, it works once more at once."""
    wake = wake or asyncio.Event()
    while True:
        wake.clear()
        try:
            await work()
        except TenantryError as error:
            _log.warning("loop.interrupted", loop=name, code=error.code)
        except Exception as error:  # noqa: BLE001 - a loop goes on
            _log.exception("loop.fault", loop=name, kind=type(error).__name__)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds() if callable(seconds) else seconds):
                await wake.wait()
