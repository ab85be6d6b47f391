"""Real sandboxes: of the kind this process may have, as root or not, and with every bubblewrap there is."""

from collections.abc import AsyncIterator

import pytest
from tests.prisons import BINARIES, Prison, opened_prison


@pytest.fixture(scope="session", params=(*sorted(BINARIES), "docker"))
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison(request.param, tmp_path_factory.mktemp("home"), request) as opened:
        yield opened
