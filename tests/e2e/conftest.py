"""An installation that tests may kill, with short leases; each of its deaths is survived by the next test's start."""

import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.conftest import Installation, Tenant, start_installation
from tests.integration.sandboxes.ground import Ground

from tenantry.foundation.database.embedded import EmbeddedPostgres

ENVIRONMENT = {
    "TENANTRY_SERVE_REGIONS": '["us"]',
    "TENANTRY_JOBS__LEASE_SECONDS": "3",
    "TENANTRY_JOBS__SLOTS": "6",
    "TENANTRY_JOBS__CONTENT_GRACE_SECONDS": "600",
    "TENANTRY_SERVER__MAX_UPLOAD_BYTES": str(1 << 20),
}


def start(home: Path) -> Installation:
    return start_installation(home, port=0, verify=True, **ENVIRONMENT)


@dataclass
class Mortal:
    """One home; `running` changes with each restart."""

    running: Installation
    clients: list[httpx.Client] = field(default_factory=list)

    def restart(self) -> None:
        self.close()
        self.running = start(self.running.home)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()

    def client(self, key: str) -> httpx.Client:
        self.clients.append(self.running.client(key))
        return self.clients[-1]

    def tenant(self) -> Tenant:
        slug = f"t-{secrets.token_hex(5)}"
        owner = {"email": f"owner@{slug}.example", "name": "Owner"}
        body = {"name": slug, "slug": slug, "plan": "enterprise", "region": "us", "owner": owner}
        answer = self.client(self.running.platform_key).post("/tenants", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Tenant(self.running, made["id"], slug, "us", made["bootstrap_key"]["secret"])

    def ground(self) -> Ground:
        tenant = self.tenant()
        self.clients.append(tenant.owner)
        # Kept, since what else opens a job's output dies with its worker.
        kept = {"persistence_mode": "full"}
        return Ground(tenant, tenant.workspace("dev", settings=kept), tenant.owner)

    def again(self, ground: Ground) -> Ground:
        """The same workspace, after a restart."""
        before = ground.tenant
        tenant = Tenant(self.running, before.id, before.slug, before.region, before.bootstrap_key)
        self.clients.append(tenant.owner)
        return Ground(tenant, ground.workspace, tenant.owner)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    home: Path = tmp_path_factory.mktemp("mortal") / "home"
    started = Mortal(start(home))
    yield started
    started.close()
    started.running.stop(signal.SIGTERM)
    EmbeddedPostgres(home).purge()
