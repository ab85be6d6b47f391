"""Three PostgreSQL servers, one a region and one for the directory: nothing of an eu tenant is ever written elsewhere.

Canaries go into everything the API takes and, by hand, into every column of every table; then all files of the servers
are read, their write-ahead logs too. That they are found in eu is the control.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from tests.conftest import Installation, Tenant
from tests.isolation.cells import Canaries, Cells, fill_every_table, open_cells

from tenantry.capabilities.tenants.types import PLATFORM_TENANT, Isolation
from tenantry.foundation.ids import Prefix, format_id, parse_id

pytestmark = [pytest.mark.xdist_group("residency"), pytest.mark.timeout(300)]

NAMED: Final = {"tenant.slug"}
"""All that the directory may hold of what a tenant says of itself."""
SEALED: Final = {"job.env", "job.input", "job.output", "job.artifact"}
"""Content: encrypted before it is written, so in no server's files."""
UNKEPT: Final = {"refused.path", "refused.query", "refused.header", "refused.body", "idempotency.key"}
"""What a refused or repeated request says need not be kept anywhere."""

OWNER: Final = {"email": "a@b.example", "name": "A"}


@dataclass
class Ground:
    cells: Cells
    server: Installation
    canary: Canaries
    eu: dict[Isolation, Tenant]
    """By isolation strategy."""
    us: Tenant


def _tenant(server: Installation, region: str, canary: Canaries | None, *, isolation: str = "row_level") -> Tenant:
    say = canary or (lambda place: f"plain-{place.replace('.', '-').replace('_', '-')}")
    slug = say("tenant.slug")
    body = {
        "name": say("tenant.name"),
        "slug": slug,
        "plan": "enterprise",
        "region": region,
        "isolation": isolation,
        "owner": {
            "email": f"{say('owner.email')}@mail.example",
            "name": say("owner.name"),
            "user_id": say("owner.user_id"),
        },
        "settings": {
            "default_model": say("settings.default_model"),
            "allowed_models": [say("settings.allowed_models")],
            "compliance_frameworks": [say("settings.compliance_frameworks")],
        },
        "limits": {say("limits.key"): say("limits.value")},
        "billing": {say("billing.key"): say("billing.value")},
        "contacts": {say("contacts.key"): say("contacts.value")},
        "metadata": {say("metadata.key"): say("metadata.value")},
    }
    answer = server.platform.post("/tenants", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return Tenant(server, made["id"], slug, region, made["bootstrap_key"]["secret"])


def _say_everything(tenant: Tenant, say: Canaries) -> None:
    """Use whatever route takes a text."""
    owner, place = tenant.owner, f"/tenants/{tenant.id}"

    def done(answer: httpx.Response) -> Any:
        assert answer.status_code < 300, answer.text
        return answer.json()

    done(owner.patch(place, json={"name": say("tenant.renamed"), "metadata": {"a": say("tenant.metadata_changed")}}))
    workspace = tenant.workspace(
        say("workspace.name"),
        path=f"teams/{say('workspace.path')}",
        owner={"type": "team", "id": say("workspace.owner")},
        settings={"allowed_images": ["host", say("workspace.allowed")], "blocked_images": [say("workspace.blocked")]},
    )
    inside = f"/workspaces/{workspace}"
    done(owner.patch(inside, json={"name": say("workspace.renamed")}))
    once = {"Idempotency-Key": say("idempotency.key")}
    account = done(owner.post(f"{inside}/service-accounts", json={"name": say("account.name")}, headers=once))
    done(owner.post(f"{inside}/bindings", json={"principal": account["id"], "role": "operator"}))
    key = tenant.key(workspace, "operator", name=say("key.name"))
    job = {
        "command": [
            "sh",
            "-c",
            f"echo {say('job.command')}; echo $SAID; cat /inputs/said; cp /inputs/said /outputs/kept",
        ],
        "env": {"SAID": say("job.env")},
        "inputs": [{"path": "said", "content_base64": base64.b64encode(say("job.input").encode()).decode()}],
        "artifacts": ["kept", say("job.artifact_glob")],
        "labels": {"said": say("job.label")},
    }
    ran = done(tenant.as_key(key).post(f"{inside}/jobs", json=job, params={"wait": 60}))
    assert ran["status"] == "succeeded", ran
    done(owner.post(f"{inside}/suspend", json={"reason": say("workspace.suspended")}))
    done(owner.post(f"{inside}/resume"))
    platform = tenant.installation.platform
    done(platform.patch(place, json={"billing": {"note": say("tenant.billing_changed")}}))
    done(platform.post(f"{place}/suspend", json={"reason": say("tenant.suspended")}))
    done(platform.post(f"{place}/resume"))


def _be_refused(tenant: Tenant, other: Tenant, say: Canaries) -> None:
    """What a trail may keep of a refusal lies in the region of whoever was refused."""
    owner, foreign = tenant.owner, other.workspace("target")
    owner.get(f"/workspaces/{say('refused.path')}")
    owner.get(f"/workspaces/{foreign}/jobs/{say('refused.path')}")
    owner.get("/me", params={"tenant": say("refused.query")})
    owner.get("/audit", params={"actor": say("refused.query")})
    owner.get("/me", headers={"X-Tenant-Id": say("refused.header")})
    owner.post(f"/workspaces/{foreign}/jobs", json={"command": [say("refused.body")]})
    owner.post("/tenants", json={"name": say("refused.body")})
    # Whoever is of us and names the tenant: its keys, and the platform's, whose trail is there.
    reached_for = tenant.workspace("reached-for")
    for client in (other.owner, tenant.installation.platform):
        for path in (f"/workspaces/{reached_for}", f"/tenants/{tenant.slug}", f"/tenants/{tenant.slug}/keys", "/me"):
            for headers in ({}, {"X-Tenant-Id": tenant.slug}):
                client.get(path, headers=headers)
        client.post(f"/tenants/{tenant.slug}/suspend", json={"reason": ""})
        client.post("/tenants", json={"name": "A", "slug": tenant.slug, "plan": "free", "region": "us", "owner": OWNER})


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[Ground]:
    async with open_cells() as cells:
        # The platform's key is one of the first region: an operator in us works on tenants in eu.
        server = await asyncio.to_thread(cells.start, "home", ("us", "eu"))
        try:
            canary = Canaries()
            eu = {isolation: _tenant(server, "eu", canary, isolation=isolation) for isolation in Isolation}
            us = _tenant(server, "us", None)
            yield Ground(cells, server, canary, eu, us)
        finally:
            await asyncio.to_thread(server.stop)


async def test_no_byte_of_an_eu_tenant_is_in_the_us_servers_files(ground: Ground) -> None:
    canary, eu = ground.canary, ground.cells.servers["eu"]
    for tenant in ground.eu.values():
        await asyncio.to_thread(_say_everything, tenant, canary)
        await asyncio.to_thread(_be_refused, tenant, ground.us, canary)
    tables = await fill_every_table(eu, tenant=uuid4(), canary=canary)
    # All loops have turned once more, and both regions have been written to since.
    for number in range(2):
        for tenant in ground.eu.values():
            tenant.workspace(f"later-{number}")
        ground.us.workspace(f"later-{number}")
    await asyncio.to_thread(ground.server.stop)
    for server in ground.cells.servers.values():
        await server.write_out()
    found = {name: canary.found_in(server.files) for name, server in ground.cells.servers.items()}
    assert found["us"] == {}
    assert set(found["directory"]) == NAMED
    missing = set(canary.places.values()) - set(found["eu"])
    assert missing <= SEALED | UNKEPT, "the control: what was said is found where it belongs"
    assert not SEALED & set(found["eu"])
    for table in tables:
        assert any(place.startswith(f"{table}.") for place in found["eu"]) or table in _wordless(canary, table), table
    assert any("pg_wal" in file for files in found["eu"].values() for file in files)
    await _ids_stay_at_home(ground)
    assert canary.found_in(ground.server.home / "us") == {}


def _wordless(canary: Canaries, table: str) -> set[str]:
    """A table none of whose columns holds a text of one's own."""
    return set() if any(place.startswith(f"{table}.") for place in canary.places.values()) else {table}


async def _ids_stay_at_home(ground: Ground) -> None:
    """Rows of a tenant are in its cell alone, whatever they hold."""
    for isolation, made in ground.eu.items():
        tenant = parse_id(Prefix.TENANT, made.id)
        assert await _rows_of(ground, "us", tenant) == 0
        if isolation != Isolation.DATABASE_LEVEL:
            assert await _rows_of(ground, "eu", tenant) > 10
    assert await _rows_of(ground, "us", PLATFORM_TENANT) > 0


async def _rows_of(ground: Ground, region: str, tenant: UUID) -> int:
    async with ground.cells.servers[region].connected() as connection:
        tables = await connection.fetch(
            """select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where c.relkind = 'r' and n.nspname !~ '^pg_'
                 and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')"""
        )
        counts = [
            await connection.fetchval(f"select count(*) from {table['name']} where tenant_id = $1", tenant)
            for table in tables
        ]
    return sum(counts)


async def test_a_process_of_one_region_holds_no_other_and_sends_callers_there(ground: Ground) -> None:
    """The same installation, another machine: of us it knows the name and no address."""
    if ground.server.process.poll() is None:
        await asyncio.to_thread(ground.server.stop)
    only_eu = await asyncio.to_thread(
        lambda: ground.cells.start("only-eu", ("eu",), known=("us",), like=ground.server.home)
    )
    try:
        us_address = str(ground.cells.servers["us"].postgres.superuser.host)
        assert us_address not in (only_eu.home / "tenantry.toml").read_text()
        key = await _platform_key(only_eu)
        platform = only_eu.client(key)
        regions = platform.get("/platform/regions").json()["items"]
        assert regions == [{"slug": "eu", "served_here": True}, {"slug": "us", "served_here": False}]
        for region, status, code in (("us", 421, "wrong_region"), ("mars", 422, "region_unknown")):
            body = {"name": "A", "slug": f"asked-{region}", "plan": "free", "region": region}
            answer = platform.post("/tenants", json=body | {"owner": OWNER})
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            assert platform.get(f"/tenants/asked-{region}").status_code == 404, "nothing was reserved"
        answer = platform.get(f"/tenants/{ground.us.slug}")
        assert (answer.status_code, answer.json()["code"]) == (421, "wrong_region")
        assert platform.get(f"/tenants/{ground.eu[Isolation.ROW_LEVEL].slug}").status_code == 200
        assert only_eu.client(ground.eu[Isolation.ROW_LEVEL].bootstrap_key).get("/me").status_code == 200
        answer = only_eu.client(ground.us.bootstrap_key).get("/me")
        assert (answer.status_code, answer.json()["code"]) == (421, "wrong_region")
        assert format_id(Prefix.TENANT, PLATFORM_TENANT) not in answer.text
    finally:
        await asyncio.to_thread(only_eu.stop)


async def _platform_key(server: Installation) -> str:
    """The key that this machine's first start made for the platform in eu."""
    stored = json.loads((server.home / "credentials.json").read_text())
    return str(stored["key"])
