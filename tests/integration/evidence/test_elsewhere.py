"""Evidence of a tenant that has moved: it was signed in one region, and holds in the other."""

import asyncio

from tests.integration.evidence.conftest import MakeGround
from tests.integration.evidence.seen import base, got, keys_of, locked, raw
from tests.integration.places.test_moves import move

from tenantry.capabilities.evidence.service.bundle import read_bundle, verify_bundle


async def test_it_holds_in_the_other_region_and_what_comes_is_signed_there(make_ground: MakeGround) -> None:
    ground = make_ground(persistence_mode="full")
    job = await asyncio.to_thread(lambda: ground.sh("echo x > out.txt", artifacts=["out.txt"])["id"])
    before = await asyncio.to_thread(locked, ground, job)
    await asyncio.to_thread(move, ground.tenant, region="eu")
    after = got(ground, before["id"])
    assert (after["state"], after["faults"], after["sha256"]) == ("locked", [], before["sha256"])
    examined = ground.client.post(f"{base(ground)}/index").json()
    assert (examined["examined"], examined["tampered"]) == (1, [])
    there = await asyncio.to_thread(locked, ground, ground.run("true")["id"])
    names = []
    for each in (after, there):
        verified = verify_bundle(read_bundle(raw(each["bundle"])), keys=keys_of(each))
        names.append(verified.key.name.rpartition("/")[0].rpartition("/")[2])
    assert names == ["us", "eu"]
