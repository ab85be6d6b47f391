"""What was forgotten stays so wherever its tenant moves, and a request goes along and is worked off there."""

from typing import Any

from tests.integration.places.conftest import MakeGround
from tests.integration.places.test_moves import move
from tests.integration.sandboxes.ground import until


def test_a_request_moves_along_and_what_is_asked_there_is_forgotten_there(make_ground: MakeGround) -> None:
    tenant = make_ground().tenant
    owner = tenant.owner
    tenant.workspace("before")

    def forgotten() -> dict[str, Any]:
        events = owner.get("/audit", params={"action": "workspace.created"}).json()["items"]
        asked = owner.post("/audit/forgettings", json={"principal": events[0]["actor"]["id"]}).json()

        def done() -> dict[str, Any] | None:
            found: dict[str, Any] = owner.get(f"/audit/forgettings/{asked['id']}").json()
            return found if found["state"] == "done" else None

        found = until(done, seconds=60)
        assert found is not None
        return found

    def known() -> list[tuple[str | None, list[str]]]:
        events = owner.get("/audit", params={"action": "workspace.created"}).json()["items"]
        return [(event["ip"], event["withheld"]) for event in events]

    first = forgotten()
    assert {ip for ip, _ in known()} == {None}
    requests = [first]
    for isolation in ("schema_level", "database_level", "row_level"):
        move(tenant, isolation=isolation)
        shown = owner.get("/audit/forgettings").json()["items"]
        assert [each["id"] for each in shown] == [each["id"] for each in reversed(requests)]
        tenant.workspace(f"at {isolation}".replace("_", "-"))
        assert next(ip for ip, _ in known()) is not None
        requests.append(forgotten())
        assert {(ip, *withheld) for ip, withheld in known()} == {(None, "ip")}
