"""A crowd that comes while nothing is known yet: nobody waits for whoever waits for them."""

import asyncio

import pytest
from tests.conftest import MakeTenant
from tests.integration.api.conftest import OpenBeside

pytestmark = pytest.mark.xdist_group("api")

POOL, CROWD = 5, 40


async def test_jobs_of_a_crowd_are_taken_though_each_needs_a_second_connection_at_first(
    open_beside: OpenBeside, make_tenant: MakeTenant
) -> None:
    acme = make_tenant(region="us", isolation="row_level")
    workspace = acme.workspace("crowded")
    async with open_beside(pool_size=POOL) as served, served.client(acme.bootstrap_key) as client:
        await client.get("/me")  # the key is known now; the tenant's policies and keys are not
        wanted = {"command": ["true"]}
        answers = await asyncio.gather(
            *(client.post(f"/workspaces/{workspace}/jobs", json=wanted) for _ in range(CROWD))
        )
    assert [answer.status_code for answer in answers] == [202] * CROWD, {answer.text for answer in answers}
