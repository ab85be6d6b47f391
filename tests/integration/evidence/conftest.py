"""Workspaces whose jobs leave evidence, and parts of the installation to do by hand what its server does by itself."""

from collections.abc import AsyncIterator, Callable

import pytest
from tests.conftest import Installation, MakeTenant, on_every_strategy
from tests.integration.sandboxes.ground import Ground

from tenantry.entrypoints.runtime import Parts, open_parts

MakeGround = Callable[..., Ground]


@pytest.fixture(scope="session")
def make_ground(make_tenant: MakeTenant) -> MakeGround:
    """Make a workspace in a tenant of its own; keywords are the workspace's settings, but for its tenant's plan."""

    def make(*, region: str = "us", plan: str = "enterprise", **settings: object) -> Ground:
        tenant = make_tenant(region=region, plan=plan)
        workspace = tenant.workspace("dev", settings=settings)
        return Ground(tenant, workspace, tenant.as_role("workspace-admin", workspace))

    return make


@pytest.fixture(scope="session")
def ground(make_ground: MakeGround) -> Ground:
    return make_ground(persistence_mode="full")


@pytest.fixture(scope="session")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings) as opened:
        yield opened


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] == "test_locking":
        on_every_strategy(metafunc)
