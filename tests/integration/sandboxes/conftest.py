"""A workspace for tests that leave no trace in it, and makers of others."""

from collections.abc import Callable

import pytest
from tests.conftest import MakeTenant, on_every_strategy
from tests.integration.sandboxes.ground import Ground

MakeGround = Callable[..., Ground]


@pytest.fixture(scope="session")
def make_ground(make_tenant: MakeTenant) -> MakeGround:
    """Make a workspace in a tenant of its own; keywords are the workspace's settings."""

    def make(*, region: str = "us", isolation: str | None = None, **settings: object) -> Ground:
        tenant = make_tenant(region=region, isolation=isolation)
        workspace = tenant.workspace("dev", settings=settings)
        return Ground(tenant, workspace, tenant.as_role("workspace-admin", workspace))

    return make


@pytest.fixture(scope="session")
def ground(make_ground: MakeGround) -> Ground:
    return make_ground()


_LIVES = ("test_jobs", "test_suspension", "test_persistence")
"""What a tenant's life and its work are tried by, on each strategy; the rest is the same code on any."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in _LIVES:
        on_every_strategy(metafunc)
