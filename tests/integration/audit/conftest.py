"""A prepared server of its own: nothing else seals, so every gap and every place is of these tests' making."""

from collections.abc import AsyncIterator

import pytest
from tests.integration.database.ground import Database, Ground, open_ground

from tenantry.foundation.database.cells import Cell


@pytest.fixture(scope="session")
async def ground() -> AsyncIterator[Ground]:
    async with open_ground() as opened:
        yield opened


@pytest.fixture(scope="session")
def database(ground: Ground) -> Database:
    return ground.database()


@pytest.fixture(scope="session")
async def cell(database: Database) -> AsyncIterator[Cell]:
    async with database.cell(pool_size=8) as opened:
        yield opened
