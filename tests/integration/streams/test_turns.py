"""Rounds over all tenants: what one tenant has that cannot be done now, however much, keeps nobody else waiting."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from tests.integration.streams.conftest import Home, House
from tests.integration.streams.test_data_classes import superuser

from tenantry.capabilities.access.types.grants import GRANT_ENDED
from tenantry.entrypoints.due import make_due_round
from tenantry.entrypoints.evidence import make_evidence_round, make_lockers
from tenantry.entrypoints.relay import Relay
from tenantry.entrypoints.rounds import Rounds
from tenantry.foundation.ids import Prefix, parse_id

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

pytestmark = pytest.mark.xdist_group("streams")

_BATCH = 200
"""Rows that a round reads at a time."""

_EVIDENCE = """insert into tenantry.evidence (tenant_id, evidence_id, workspace_id, subject_kind, subject_id, state,
                   persistence_mode, labels, judged, created_at, ended_at, due_at)
               select $1, gen_random_uuid(), $2, 'job', gen_random_uuid(), 'wip', 'full', '{}', '{}', $4, $4, $4
               from generate_series(1, $3::int)"""
_GRANTS = """insert into tenantry.grants (tenant_id, grant_id, workspace_id, principal_type, principal_id, role_asked,
                 role, reason, minutes, status, requested_by, requested_at, granted_by, active_at, expires_at, due_at)
             select $1, gen_random_uuid(), $2, 'user', 'usr_nobody', 'viewer', 'viewer', 'r', 1, 'active', 'usr_nobody',
                 $4::timestamptz - interval '1 hour', '{}', $4::timestamptz - interval '1 hour', $4, $4
             from generate_series(1, $3::int)"""


class Pair:
    """Two tenants of one place, of which one is being moved."""

    def __init__(self, house: House, behind: "Connection", moving: Home, other: Home) -> None:
        self.house = house
        self.behind = behind
        self.moving = moving
        self.other = other

    async def insert(self, statement: str, *, due_at: datetime) -> None:
        """One row more than a round reads at a time for the one, and then one for the other."""
        for home, count, at in ((self.moving, _BATCH + 1, due_at), (self.other, 1, due_at + timedelta(minutes=1))):
            answer = await home.owner.post("/workspaces", json={"name": "w"})
            workspace = parse_id(Prefix.WORKSPACE, answer.json()["id"])
            await self.behind.execute(statement, home.tenant_id, workspace, count, at)

    async def be(self, mode: str) -> None:
        query = "update fence.tenant_state set mode = $2 where tenant_id = $1"
        await self.behind.execute(query, self.moving.tenant_id, mode)


@pytest.fixture
async def pair(house: House) -> AsyncIterator[Pair]:
    moving, other = await house.tenant(), await house.tenant()
    async with superuser(moving, isolation="row_level") as behind:
        yield Pair(house, behind, moving, other)
    for home in (moving, other):
        await home.owner.aclose()


async def test_evidence_of_one_that_is_moved_holds_up_nobody_elses(pair: Pair) -> None:
    house, due_at = pair.house, pair.house.clock.now() - timedelta(minutes=2)
    await pair.insert(_EVIDENCE, due_at=due_at)
    counted = "select count(*) from tenantry.evidence where tenant_id = $1 and due_at > $2"
    round_ = make_evidence_round(house.parts, house.parts.cells.get("us"), lockers=make_lockers(house.parts))
    try:
        await pair.be("read_only")
        await round_.pass_due()
        assert await pair.behind.fetchval(counted, pair.other.tenant_id, due_at + timedelta(minutes=1)) == 1
        assert await pair.behind.fetchval(counted, pair.moving.tenant_id, due_at) == 0
        await pair.be("active")
        await round_.pass_due()
        assert await pair.behind.fetchval(counted, pair.moving.tenant_id, due_at) == _BATCH, "a turn is a batch"
        await round_.pass_due()
        assert await pair.behind.fetchval(counted, pair.moving.tenant_id, due_at) == _BATCH + 1
    finally:
        await round_.close()


async def test_grants_of_one_that_is_moved_hold_up_nobody_elses(pair: Pair) -> None:
    house = pair.house
    await pair.insert(_GRANTS, due_at=house.clock.now() - timedelta(minutes=2))
    left = "select count(*) from tenantry.grants where tenant_id = $1 and status = 'active'"
    round_ = make_due_round(house.parts, house.parts.cells.get("us"))
    try:
        await pair.be("read_only")
        assert await round_.go_round() <= 5, "it is tried again soon"
        assert await pair.behind.fetchval(left, pair.other.tenant_id) == 0
        assert await pair.behind.fetchval(left, pair.moving.tenant_id) == _BATCH + 1
        await pair.be("active")
        while await round_.go_round() == 0:
            pass
        assert await pair.behind.fetchval(left, pair.moving.tenant_id) == 0
    finally:
        await round_.rounds.close()


async def test_news_that_cannot_be_told_hold_up_nobody_elses(pair: Pair) -> None:
    """A hundred, as many as are read at a time, that no version of ours has written."""
    house, tenants = pair.house, [pair.moving.tenant_id, pair.other.tenant_id]
    parts, cell = house.parts, house.parts.cells.get("us")
    insert = """insert into tenantry.outbox (tenant_id, event_id, topic, payload)
                select $1, ('00000000-0000-7000-8000-' || lpad(to_hex($3 + n), 12, '0'))::uuid, $2, $4
                from generate_series(1, $5::int) n"""
    sound = f'{{"grant_id": "{UUID(int=1).hex}", "reason": "grant_expired"}}'
    await pair.behind.execute(insert, tenants[0], GRANT_ENDED, 0, "{}", 100)
    await pair.behind.execute(insert, tenants[1], GRANT_ENDED, 100, sound, 1)
    left = "select count(*) from tenantry.outbox where tenant_id = $1 and topic = $2"
    dsn = parts.addresses.cells["us"].dispatcher
    rounds = Rounds(dsn, region="us", directory=parts.directory, clock=parts.clock)
    relay = Relay(rounds, cell=cell, stoppers={}, offboarding=parts.offboarding, grants=parts.grant_follower(cell))
    try:
        await relay.look()
        assert [await pair.behind.fetchval(left, each, GRANT_ENDED) for each in tenants] == [100, 0]
    finally:
        await pair.behind.execute("delete from tenantry.outbox where tenant_id = any($1::uuid[])", tenants)
        await rounds.close()
