"""What events say about persons is forgotten after a time, unless a hold keeps it or a move copies it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from tests.integration.api.conftest import ShiftedClock
from tests.integration.streams.conftest import Home, House
from tests.integration.streams.test_data_classes import superuser
from tests.integration.streams.test_forgetting_persons import ADDRESS, STRATEGIES, act, held, known, person

from tenantry.capabilities.audit.service import forgetting
from tenantry.entrypoints.forgetting import forget_old
from tenantry.entrypoints.rounds import Rounds

pytestmark = pytest.mark.xdist_group("streams")

KEPT: tuple[str | None, list[str]] = (ADDRESS, [])
FORGOTTEN: tuple[str | None, list[str]] = (None, ["ip"])


@asynccontextmanager
async def rounds_of(house: House) -> AsyncIterator[Rounds]:
    dsn = house.parts.addresses.cells["us"].sealer
    rounds = Rounds(dsn, region="us", directory=house.parts.directory, clock=house.clock, look_seconds=0.0)
    try:
        yield rounds
    finally:
        await rounds.close()


async def pass_days(house: House, days: int) -> None:
    """Let a round come so many days later, of an installation that keeps it for one."""
    clock = ShiftedClock()
    clock.ahead = timedelta(days=days)
    async with rounds_of(house) as rounds:
        await forget_old(rounds, house.parts.cells.get("us"), days=1, clock=clock)


async def noted(home: Home, *names: str) -> None:
    for name in names:
        await act(home, person(), resource=name)
    await home.house.seal()


@pytest.mark.parametrize("isolation", STRATEGIES)
async def test_it_is_forgotten_after_the_days_and_the_trail_is_told_how_much(
    isolation: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_EVENTS", 2)  # in pieces, and more than one turn of them
    home = await house.tenant(isolation=isolation)
    names = [f"n{number}" for number in range(20)]
    await noted(home, *names)
    await pass_days(house, 0)
    assert await known(home) == dict.fromkeys(names, KEPT), "they are younger"
    await pass_days(house, 2)
    assert await known(home) == dict.fromkeys(names, FORGOTTEN)
    told = await home.trail(action="audit.personal_forgotten")
    assert sum(each["details"]["count"] for each in told) >= len(names)
    assert {each["actor"]["type"] for each in told} == {"system"}
    await home.owner.aclose()


async def test_what_a_legal_hold_keeps_is_forgotten_after_its_release(acme: Home) -> None:
    """Red once where the round asked for no holds."""
    await noted(acme, "n")
    workspace, hold = await held(acme)
    await pass_days(acme.house, 3)
    assert await known(acme) == {"n": KEPT}
    released = await acme.owner.delete(f"/workspaces/{workspace}/evidence/holds/{hold}")
    assert released.status_code == 200, released.text
    await pass_days(acme.house, 3)
    assert await known(acme) == {"n": FORGOTTEN}


async def test_what_is_being_copied_stays_as_it_is_and_holds_up_nobody(house: House) -> None:
    """Red once where the round forgot wherever it found something: the copy would have kept it for ever."""
    moving, other = await house.tenant(), await house.tenant()
    for home in (moving, other):
        await noted(home, "n")
    async with superuser(moving, isolation="row_level") as connection:
        state = "update fence.tenant_state set mode = $2 where tenant_id = $1"
        await connection.execute(state, moving.tenant_id, "read_only")
        await pass_days(house, 4)
        assert (await known(moving), await known(other)) == ({"n": KEPT}, {"n": FORGOTTEN})
        await connection.execute(state, moving.tenant_id, "active")
    await pass_days(house, 4)
    assert await known(moving) == {"n": FORGOTTEN}
    for home in (moving, other):
        await home.owner.aclose()
