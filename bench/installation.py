"""An installation of its own to measure: server, two workers, embedded PostgreSQL, one tenant with a workspace."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import yaml

from tenantry.entrypoints.addresses import Addresses, addresses_of, cell_database, embedded_dsn
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.secrets import Secrets, load_secrets
from tenantry.foundation.settings import load_settings

REGION = "us"
_START_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Installation:
    """`key` is the tenant owner's, `workspace` its one workspace."""

    home: Path
    pid: int
    url: str
    tenant: str
    slug: str
    workspace: str
    key: str = field(repr=False)

    @property
    def secrets(self) -> Secrets:
        return load_secrets(self.home)

    @property
    def addresses(self) -> Addresses:
        return addresses_of(load_settings(home=self.home), self.secrets)

    @property
    def superuser_dsn(self) -> str:
        """The cell's database as the one who sees past the fence: for baselines and for filling."""
        parts = EmbeddedPostgres(self.home).superuser
        return embedded_dsn(self.home, user=parts.user, password=parts.password, database=cell_database(REGION))

    def another(self, *, isolation: str) -> "Installation":
        """Make another tenant here, of this strategy; everything else is the same."""
        return _furnished(self.home, self.pid, self.url, isolation=isolation)

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=60, limits=limits)


@contextlib.contextmanager
def running_installation(**environment: str) -> Iterator[Installation]:
    """Start one below a temporary directory, with these settings; stop it and delete everything in the end."""
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as scratch:
        home = Path(scratch) / "home"
        plans = Path(scratch) / "plans.yaml"
        plans.write_text(_unhurried_plans())
        with (Path(scratch) / "server.log").open("w+") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tenantry.entrypoints.server", str(home), "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment() | {"TENANTRY_PLANS_FILE": str(plans)} | environment,
            )
            try:
                url = _ready(home, process, Path(log.name))
                yield _furnished(home, process.pid, url)
            finally:
                process.terminate()
                process.wait(timeout=30)
                if (home / "postgres").exists():
                    EmbeddedPostgres(home).purge()


def _unhurried_plans() -> str:
    """Write the shipped plans with rates that no load of this machine reaches: they are counted, and refuse nothing."""
    shipped = resources.files("tenantry.capabilities.tenants").joinpath("plans.yaml").read_text(encoding="utf-8")
    catalogue = yaml.safe_load(shipped)
    for plan in catalogue["plans"].values():
        for rate in plan["rate_limits"].values():
            rate["maxRequests"] = rate["windowMs"] * 1000
    return json.dumps(catalogue)


def clean_environment() -> dict[str, str]:
    """Leave out the settings of whoever runs the bench."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TENANTRY_")}


def _ready(home: Path, process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, httpx.HTTPError):
            url: str = json.loads((home / "server.json").read_text())["url"]
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return url
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-4000:]}")


def _furnished(home: Path, pid: int, url: str, *, isolation: str = "row_level") -> Installation:
    platform_key = json.loads((home / "credentials.json").read_text())["key"]
    slug = f"bench-{secrets.token_hex(4)}"
    tenant = _post(
        f"{url}/api/v1/tenants",
        key=platform_key,
        body={
            "name": slug,
            "slug": slug,
            "plan": "enterprise",
            "region": REGION,
            "isolation": isolation,
            "owner": {"email": "owner@bench.example", "name": "Owner"},
        },
    )
    key = tenant["bootstrap_key"]["secret"]
    workspace = _post(
        f"{url}/api/v1/workspaces", key=key, body={"name": "bench", "owner": {"type": "team", "id": "bench"}}
    )
    return Installation(home=home, pid=pid, url=url, tenant=tenant["id"], slug=slug, workspace=workspace["id"], key=key)


def _post(address: str, *, key: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(address, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30)
    answer.raise_for_status()
    made: dict[str, Any] = answer.json()
    return made
