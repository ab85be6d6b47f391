"""Declared tenants in the server process: who gets which port, and when the directory is looked at."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

import structlog

from tenantry.capabilities.access.service import Admission
from tenantry.capabilities.tenants.service import Directory, OverlayCatalogue, PlanCatalogue, TenantRegistry
from tenantry.capabilities.tenants.service.declared import (
    KEY_FOLDER,
    DeclaredMode,
    DeclaredTenants,
    TenantFolder,
    keep_key,
)
from tenantry.capabilities.tenants.types import BootstrapKey, Tenant
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.settings import Settings

FOLDER: Final = "tenants"
_TERMINAL: Final = "/dev/tty"
_log = structlog.get_logger(__name__)


def make_declared(
    settings: Settings,
    *,
    registry: TenantRegistry,
    directory: Directory,
    cells: Cells,
    plans: PlanCatalogue,
    overlays: OverlayCatalogue,
    admission: Admission,
    clock: Clock,
) -> DeclaredTenants:
    """Make the server's side of `tenants_dir`; keys of tenants it makes go to `bootstrap-keys` in the home."""

    async def keep(tenant: Tenant, key: BootstrapKey) -> None:
        folder = settings.home / KEY_FOLDER
        await asyncio.to_thread(keep_key, folder, slug=tenant.slug, secret=key.secret, now=clock.now())

    mode = DeclaredMode(settings.declared_tenants)
    path = (settings.tenants_dir or settings.home / FOLDER).expanduser().absolute()
    return DeclaredTenants(
        # What the server acts upon by itself must be its own; what it only looks at may be anybody's.
        folder=TenantFolder(path, private=mode is DeclaredMode.APPLY, clock=clock),
        mode=mode,
        registry=registry,
        directory=directory,
        cells=cells,
        plans=plans,
        overlays=overlays,
        regions=settings.known_region_names,
        clock=clock,
        keep_key=keep,
        forget=admission.forget,
    )


async def follow_declared(declared: DeclaredTenants, *, seconds: float) -> None:
    """Look at the directory at once, every so many `seconds` (0: no more) and whenever SIGHUP asks for it."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, _on_hangup, asked, _has_terminal())
    try:
        while True:
            await _look(declared, asked)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds or None):
                    await asked.wait()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _look(declared: DeclaredTenants, asked: asyncio.Event) -> None:
    try:
        if asked.is_set():
            asked.clear()
            found = await declared.reload()
            _log.info("declared.reloaded", loaded=found.loaded, changed=len(found.changed), skipped=len(found.skipped))
        else:
            await declared.poll()
    except TenantryError as error:
        _log.warning("declared.interrupted", code=error.code)
    except Exception as error:  # noqa: BLE001 - a loop goes on
        _log.exception("declared.fault", kind=type(error).__name__)


def _on_hangup(asked: asyncio.Event, had_terminal: bool) -> None:
    """Take SIGHUP for a command to reload, unless it says that the terminal is gone: then it means to end."""
    if had_terminal and not _has_terminal():
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        asked.set()


def _has_terminal() -> bool:
    try:
        with Path(_TERMINAL).open("rb", buffering=0):
            return True
    except OSError:
        return False
