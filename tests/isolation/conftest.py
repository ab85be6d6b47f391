"""One furnished world for all tests of isolation on one strategy, which leave it as it was."""

from collections.abc import Iterator

import pytest
from tests.conftest import Installation, MakeTenant, on_every_strategy
from tests.isolation.grounds import World, make_world
from tests.isolation.wire import Wire


@pytest.fixture(scope="session")
async def world(installation: Installation, make_tenant: MakeTenant) -> World:
    return await make_world(installation, make_tenant)


@pytest.fixture(scope="session")
def wire(installation: Installation) -> Iterator[Wire]:
    opened = Wire(installation.url)
    yield opened
    opened.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_every_strategy(metafunc)
