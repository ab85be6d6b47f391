"""Evidence outlives what the log told of it: once that has left, signature and the tenant's key stand for it."""

import asyncio

from tests.integration.evidence.conftest import MakeGround
from tests.integration.evidence.rounds import behind
from tests.integration.evidence.seen import base, got, locked
from tests.integration.sandboxes.ground import Ground, until

EVENTS = 300


def look_on(ground: Ground) -> None:
    """Fill the log, until what fills it has its place."""
    for _ in range(EVENTS):
        assert ground.tenant.owner.get("/audit", params={"limit": 1}).status_code == 200
    newest = ground.tenant.owner.get("/audit", params={"limit": 1}).json()["items"][0]["id"]
    until(lambda: ground.tenant.owner.get(f"/audit/proof/{newest}").status_code == 200 or None)


async def test_it_holds_when_its_event_has_left_the_log_and_one_that_was_removed_is_found(
    make_ground: MakeGround,
) -> None:
    """Red once where every missing event made it `trail_differs`, and once where none did."""
    ground = make_ground(persistence_mode="full")
    old = await asyncio.to_thread(lambda: locked(ground, ground.run("true")["id"]))
    await asyncio.to_thread(look_on, ground)
    young = await asyncio.to_thread(lambda: locked(ground, ground.run("true")["id"]))
    async with behind(ground.installation) as connection:
        await connection.execute(
            "update audit_heads set erased = 256, swept = 256 where tenant_id = $1", ground.tenant_id
        )
        gone = await connection.execute(
            """delete from audit_events e using audit_sequence s
               where s.tenant_id = $1 and s.sequence <= 256 and e.tenant_id = $1 and e.event_id = s.event_id""",
            ground.tenant_id,
        )
    assert gone == "DELETE 256"
    for each in (old, young):
        seen = await asyncio.to_thread(got, ground, each["id"])
        assert (seen["state"], seen["faults"]) == ("locked", [])
    assert ground.client.post(f"{base(ground)}/index").json()["tampered"] == []
    async with behind(ground.installation) as connection:
        await connection.execute(
            """delete from audit_events where tenant_id = $1 and action = 'evidence.locked'""", ground.tenant_id
        )
    seen = await asyncio.to_thread(got, ground, young["id"])
    assert (seen["state"], seen["faults"]) == ("tampered", ["trail_differs"])
