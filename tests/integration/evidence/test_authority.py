"""By what a job was allowed: the grant that alone did, its approval by digest, and who voted."""

import asyncio

from tests.integration.api.deciding import principal
from tests.integration.evidence.conftest import MakeGround
from tests.integration.evidence.seen import locked, statement_of
from tests.integration.sandboxes.ground import Ground


async def test_a_granted_job_names_the_grant_its_approval_and_the_votes(make_ground: MakeGround) -> None:
    ground = make_ground()
    who, path = principal(ground.tenant, ground.workspace, "viewer"), f"/workspaces/{ground.workspace}"
    asked = who.client.post(f"{path}/grants", json={"role": "operator", "reason": "canary-reason"}).json()
    decided = ground.tenant.owner.post(f"{path}/approvals/{asked['approval']}/approve", json={"comment": "canary-said"})
    assert decided.status_code == 200, decided.text
    job = await asyncio.to_thread(lambda: Ground(ground.tenant, ground.workspace, who.client).run("true")["id"])
    predicate = statement_of(await asyncio.to_thread(locked, ground, job))["predicate"]
    authority = predicate["authority"]
    assert (authority["grant"]["id"], authority["grant"]["role"]) == (asked["id"], "operator")
    assert authority["grant"]["principal"] == who.id
    [approval] = authority["approvals"]
    assert (approval["id"], approval["status"], approval["needed"]) == (asked["approval"], "approved", 1)
    assert len(approval["sha256"]) == 64
    owner = ground.tenant.owner.get("/me").json()["principal"]
    assert [vote["vote"] for vote in approval["votes"]] == ["approve"]
    assert approval["votes"][0]["by"] in (owner["id"], owner.get("acts_for"))
    assert "canary" not in str(predicate)


def test_what_is_allowed_for_good_names_none(make_ground: MakeGround) -> None:
    ground = make_ground()
    predicate = statement_of(locked(ground, ground.run("true")["id"]))["predicate"]
    assert predicate["authority"] == {}
