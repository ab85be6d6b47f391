"""Several servers that apply the same files, and ones that die half way: one tenant, one key, one change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.conftest import Installation
from tests.integration.declared.conftest import Declared, slug

from tenantry.capabilities.tenants.service.declared import DeclaredTenants
from tenantry.entrypoints.api_runtime import make_runtime
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.clock import SystemClock

pytestmark = pytest.mark.xdist_group("declared")


@dataclass
class Later(SystemClock):
    """The machine's clock, ahead of it by as much as a test says."""

    ahead: timedelta

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@asynccontextmanager
async def servers(
    installation: Installation, folder: Path, *, count: int, ahead: timedelta = timedelta()
) -> AsyncIterator[list[DeclaredTenants]]:
    """What so many server processes would have of declared tenants."""
    settings = installation.settings.model_copy(update={"declared_tenants": "apply", "tenants_dir": folder})
    async with AsyncExitStack() as stack:
        parts = [await stack.enter_async_context(open_parts(settings)) for _ in range(count)]
        yield [make_runtime(replace(each, clock=Later(ahead))).declared for each in parts]


@pytest.fixture
def declared(installation: Installation, tmp_path: Path) -> Declared:
    tmp_path.chmod(0o755)
    return Declared(installation, tmp_path)


async def test_three_servers_make_one_tenant_and_change_it_once(declared: Declared) -> None:
    name = slug()
    declared.write(name)
    async with servers(declared.installation, declared.folder, count=3) as three:
        found = await asyncio.gather(*(each.reload() for each in three))
        assert sum(len(each.changed) for each in found) == 1
        assert declared.get(name).json()["version"] == 1
        owner = declared.installation.client(declared.key(name))
        assert owner.get("/me").json()["tenant"]["slug"] == name
        assert len(owner.get(f"/tenants/{name}/keys").json()["items"]) == 1
        declared.write(name, name="Changed", metadata={"a": 1})
        found = await asyncio.gather(*(each.reload() for each in three))
        assert sum(len(each.changed) for each in found) == 1
        assert [fault for each in found for fault in each.skipped] == []
        tenant = declared.get(name).json()
        assert (tenant["version"], tenant["name"]) == (2, "Changed")


async def test_a_server_that_dies_before_it_kept_the_key_leaves_a_tenant_that_the_next_one_finishes(
    declared: Declared,
) -> None:
    name = slug()
    declared.write(name)
    in_the_way = declared.installation.home / "bootstrap-keys" / f"{name}.key.new"
    in_the_way.mkdir(parents=True)
    async with servers(declared.installation, declared.folder, count=1) as (first,):
        [fault] = (await first.reload()).skipped
        assert "could not be written" in fault.rule
        in_the_way.rmdir()
        # So soon another server may still be at it: it is left to that one.
        assert (await first.reload()).changed == ()
    async with servers(declared.installation, declared.folder, count=1, ahead=timedelta(seconds=31)) as (second,):
        [change] = (await second.reload()).changed
        assert (change.slug, change.applied) == (name, True)
        assert (await second.reload()).changed == ()
    assert declared.get(name).json()["version"] == 1
    owner = declared.installation.client(declared.key(name))
    assert owner.get("/me").json()["tenant"]["slug"] == name


async def test_a_file_counts_at_the_second_look_that_finds_it_the_same(declared: Declared) -> None:
    name = slug()
    async with servers(declared.installation, declared.folder, count=1) as (server,):
        assert await server.poll() is None
        declared.write_text(f"{name}.yaml", f"slug: {name}\nname: Half")
        assert await server.poll() is None
        declared.write(name)
        assert await server.poll() is None
        found = await server.poll()
        assert found is not None
        assert [each.slug for each in found.changed] == [name]
        assert await server.poll() is None


async def test_an_invalid_file_is_told_once_it_has_settled(declared: Declared) -> None:
    async with servers(declared.installation, declared.folder, count=1) as (server,):
        assert await server.poll() is None
        declared.write_text("bad.yaml", "slug: x\n")
        assert await server.poll() is None
        found = await server.poll()
        assert found is not None
        assert {each.file for each in found.skipped} == {"bad.yaml"}
        assert await server.poll() is None


async def test_what_cannot_be_applied_for_now_is_tried_again(declared: Declared) -> None:
    name = slug()
    declared.write(name)
    in_the_way = declared.installation.home / "bootstrap-keys" / f"{name}.key.new"
    in_the_way.mkdir(parents=True)
    ahead = timedelta()
    async with servers(declared.installation, declared.folder, count=1, ahead=ahead) as (server,):
        found = await server.poll()
        assert found is not None
        assert found.changed == ()
        again = await server.poll()
        assert again is not None, "it is due until it is done"
    in_the_way.rmdir()


async def test_a_region_served_elsewhere_is_left_to_its_server(declared: Declared) -> None:
    us, eu = slug(), slug()
    declared.write(us)
    declared.write(eu, region="eu")
    installation = declared.installation
    settings = installation.settings.model_copy(
        update={"declared_tenants": "apply", "tenants_dir": declared.folder, "serve_regions": ("us",)}
    )
    async with open_parts(settings, regions=("us",)) as parts:
        found = await make_runtime(parts).declared.reload()
    assert [each.slug for each in found.changed] == [us]
    assert found.skipped == ()
    assert declared.get(eu).status_code == 404
