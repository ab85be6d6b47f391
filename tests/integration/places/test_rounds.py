"""The loops that see all tenants: many databases of tenants' own cost few connections, a broken one stops no other."""

import pytest
from tests.conftest import MakeTenant
from tests.integration.places.conftest import Eyes

from tenantry.entrypoints.due import make_due_round
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.database.places import database_of
from tenantry.foundation.ids import Prefix, parse_id

_KEPT = 4
_NAME = "the-rounds-of-this-test"


@pytest.fixture(scope="module")
def own(make_tenant: MakeTenant) -> list[str]:
    """Databases of tenants' own, more of them than a loop keeps connections."""
    tenants = [make_tenant(isolation="database_level") for _ in range(_KEPT + 3)]
    return [database_of("us", parse_id(Prefix.TENANT, tenant.id)) for tenant in tenants]


async def open_to(eyes: Eyes) -> set[str]:
    async with eyes.on("postgres") as connection:
        asked = "select datname from pg_stat_activity where application_name = $1"
        return {row["datname"] for row in await connection.fetch(asked, _NAME)}


async def test_a_loop_keeps_few_connections_and_takes_none_away_that_is_lent(
    own: list[str], parts: Parts, eyes: Eyes
) -> None:
    dsn = f"{parts.addresses.cells['us'].dispatcher}&application_name={_NAME}"
    rounds = Rounds(dsn, region="us", directory=parts.directory, clock=parts.clock, look_seconds=0.0)
    try:
        async with rounds.queue_of(own[0]) as lent:
            found = set()
            async for place in rounds.own_databases():
                found.add(place)
                if place != own[0]:
                    async with rounds.queue_of(place) as connection:
                        assert await connection.fetchval("select true")
            assert set(own) <= found, "each was visited"
            still = await open_to(eyes)
            assert await lent.fetchval("select true")
            assert own[0] in still
            assert len(still) <= _KEPT + 1
        assert own[1] not in still
        rounds.stir(own[1])
        assert {own[1]} == {place async for place in rounds.own_databases()}
        async with rounds.queue_of(own[1]) as connection:
            assert await connection.fetchval("select true"), "one that was closed is opened again"
        assert len(await open_to(eyes)) <= _KEPT
    finally:
        await rounds.close()


async def test_what_is_due_elsewhere_waits_for_no_database_that_is_away(
    own: list[str], parts: Parts, eyes: Eyes
) -> None:
    due = make_due_round(parts, parts.cells.get("us"))
    away = own[0]
    try:
        async with eyes.on("postgres") as connection:
            await connection.execute(f"alter database {away} allow_connections false")
            await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", away)
            try:
                assert await due.go_round() <= 5.0, "it is tried again soon"
            finally:
                await connection.execute(f"alter database {away} allow_connections true")
        assert not {place async for place in due.rounds.own_databases()}, "all others were visited"
    finally:
        await due.rounds.close()
