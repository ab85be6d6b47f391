"""A prepared server of its own; each test migrates a database of its own on it."""

from collections.abc import AsyncIterator

import pytest
from tests.integration.database.ground import Ground, open_ground


@pytest.fixture(scope="session")
async def ground() -> AsyncIterator[Ground]:
    async with open_ground() as opened:
        yield opened
