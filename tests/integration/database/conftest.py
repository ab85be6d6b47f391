"""A prepared server of its own: nothing seals, relays or dispatches while the fence is tried."""

from collections.abc import AsyncIterator

import pytest
from tests.integration.database.ground import Database, Ground, open_ground


@pytest.fixture(scope="session")
async def ground() -> AsyncIterator[Ground]:
    async with open_ground() as opened:
        yield opened


@pytest.fixture(scope="session")
def database(ground: Ground) -> Database:
    return ground.database()
