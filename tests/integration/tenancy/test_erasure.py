"""A deleted tenant is erased for good, and what is left of it is a signed certificate."""

import asyncio
import base64

import asyncpg
import pytest
from tests.conftest import Installation
from tests.integration.tenancy.ground import (
    Inhabited,
    MakeInhabited,
    databases,
    files_with,
    home_of,
    inhabit,
    lasting,
    only_witnessed,
    rows_of,
    rows_with,
    said,
    superuser_dsn,
)

from tenantry.foundation.signatures import is_signed

ISOLATIONS = ("row_level", "schema_level", "database_level")


def erase(inhabited: Inhabited) -> dict[str, object]:
    answer = inhabited.installation.platform.delete(inhabited.path)
    assert answer.status_code == 200, answer.text
    return inhabited.until_status("erase", "succeeded")


@pytest.mark.parametrize(("isolation", "region"), [*((each, "us") for each in ISOLATIONS), ("row_level", "eu")])
async def test_nothing_of_an_erased_tenant_is_left(make_inhabited: MakeInhabited, isolation: str, region: str) -> None:
    inhabited = make_inhabited(isolation=isolation, region=region)
    neighbour = make_inhabited(isolation=isolation, region=region)
    installation, word, slug = inhabited.installation, inhabited.word, inhabited.tenant.slug
    before = await rows_of(installation, inhabited.tenant_id)
    assert sum(len(tables) for tables in before.values()) >= 15
    assert files_with(installation, inhabited.tenant.id)
    neighbours = await rows_of(installation, neighbour.tenant_id)

    erase(inhabited)

    assert await rows_of(installation, inhabited.tenant_id) == {}
    cell = f"tenantry_{region}.tenantry"
    # The slug is kept, and the platform's own words: the key that asked, the certificate, its trail.
    left = await rows_with(installation, word)
    assert left == set()
    assert await rows_with(installation, slug) == {"tenantry_directory.directory.tenants"}
    # The queue's accounts are numbers under an id, collected when they have been idle for a while.
    assert await rows_with(installation, str(inhabited.tenant_id)) - {f"tenantry_{region}.queue.nodes"} == {
        "tenantry_directory.directory.tenants",
        "tenantry_directory.directory.operations",
        f"{cell}.certificates",
    }
    assert not home_of(installation, region, inhabited.tenant.id).exists()
    assert not files_with(installation, word)
    assert only_witnessed(files_with(installation, inhabited.tenant.id))
    assert not [name for name in await databases(installation) if inhabited.tenant_id.hex in name]
    assert lasting(await rows_of(installation, neighbour.tenant_id)) == lasting(neighbours)
    assert neighbour.readable() == neighbour.expected


async def test_a_sandbox_that_runs_is_stopped_and_nothing_of_it_is_left(make_inhabited: MakeInhabited) -> None:
    inhabited = await asyncio.to_thread(make_inhabited)
    owner, path = inhabited.tenant.owner, f"/workspaces/{inhabited.workspace}/sandboxes/{inhabited.sandbox}"
    started = await asyncio.to_thread(owner.post, f"{path}/start", params={"wait": 60})
    assert started.json()["status"] == "running", started.text
    await asyncio.to_thread(said, owner, path, f"echo {inhabited.word} more > more")
    await asyncio.to_thread(erase, inhabited)
    installation = inhabited.installation
    assert await rows_of(installation, inhabited.tenant_id) == {}
    assert not home_of(installation, "us", inhabited.tenant.id).exists()
    assert not files_with(installation, inhabited.word)
    assert only_witnessed(files_with(installation, inhabited.tenant.id))


def test_the_certificate_tells_counts_and_digests_and_is_signed(make_inhabited: MakeInhabited) -> None:
    inhabited = make_inhabited()
    platform = inhabited.installation.platform
    assert platform.get(f"{inhabited.path}/certificate").status_code == 404
    operation = erase(inhabited)
    answer = platform.get(f"{inhabited.path}/certificate")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    document = shown["document"]
    assert document["id"] == operation["id"]
    assert document["tenant"] == inhabited.tenant.id
    assert document["rows"]["jobs"]["count"] == 2
    kept = {name: document["rows"][name]["count"] for name in ("sandboxes", "sandbox_trees", "sandbox_snapshots")}
    assert kept == {"sandboxes": 1, "sandbox_trees": 2, "sandbox_snapshots": 1}
    assert document["keysets"] == 1
    assert document["stores"]["objects"]["count"] == 3
    assert document["stores"]["images"]["count"] == 1
    assert document["audit"]["size"] > 5
    assert len(document["audit"]["last_leaf"]) == 64
    assert document["deleted_at"] <= document["tallied_at"] <= document["erased_at"]
    text = answer.text
    assert inhabited.word not in text
    assert inhabited.tenant.slug not in text
    signature, key = (base64.b64decode(shown[name]) for name in ("signature", "public_key"))
    assert is_signed(document, signature=signature, public_key=key)
    assert not is_signed({**document, "rows_total": 1}, signature=signature, public_key=key)
    assert not is_signed(document, signature=signature[:-1], public_key=key)


def test_what_is_asked_of_an_erased_tenant_is_refused(make_inhabited: MakeInhabited) -> None:
    inhabited = make_inhabited()
    platform, path = inhabited.installation.platform, inhabited.path
    owner = inhabited.tenant.owner
    erase(inhabited)
    answers = {
        "GET": platform.get(path),
        "restore": platform.post(f"{path}/restore"),
        "suspend": platform.post(f"{path}/suspend", json={"reason": "late"}),
        "move": platform.post(f"{path}/move", json={"isolation": "schema_level"}),
    }
    told = {name: (answer.status_code, answer.json()["code"]) for name, answer in answers.items()}
    assert told == {"GET": (410, "erased")} | dict.fromkeys(("restore", "suspend", "move"), (409, "erased"))
    for client in (owner, inhabited.installation.client(inhabited.key)):
        assert client.get("/me").status_code == 401
    again = {
        "name": "again",
        "slug": inhabited.tenant.slug,
        "plan": "free",
        "region": "us",
        "owner": {"email": "a@b.example", "name": "A"},
    }
    answer = platform.post("/tenants", json=again)
    assert (answer.status_code, answer.json()["code"]) == (409, "slug_taken")
    listed = {each["id"]: each["status"] for each in _all(inhabited)}
    assert listed[inhabited.tenant.id] == "erased"


async def test_the_platforms_trail_tells_the_erasure(make_inhabited: MakeInhabited) -> None:
    inhabited = make_inhabited(region="eu")
    operation = erase(inhabited)
    trail = inhabited.installation.platform
    # The platform's trail of that region is not the one of its home region.
    actions = await _trail_of_eu(inhabited, str(operation["id"]))
    assert actions == ["tenant.erased", "tenant.erasure_scheduled"]
    assert trail.get(f"{inhabited.path}/operations/{operation['id']}").json()["status"] == "succeeded"


async def _trail_of_eu(inhabited: Inhabited, operation: str) -> list[str]:
    connection = await asyncpg.connect(superuser_dsn(inhabited.installation, "tenantry_eu"))
    try:
        rows = await connection.fetch(
            "select action from tenantry.audit_events where resource_id = $1 and action ~ '^tenant.eras' "
            "order by event_id desc",
            operation,
        )
    finally:
        await connection.close()
    return [row["action"] for row in rows]


def _all(inhabited: Inhabited) -> list[dict[str, str]]:
    items: list[dict[str, str]] = []
    cursor = None
    while True:
        page = inhabited.installation.platform.get(
            "/tenants", params={"limit": 100, **({"cursor": cursor} if cursor else {})}
        ).json()
        items += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return items


async def test_a_deletion_is_taken_back_until_its_erasure_begins(elsewhere: Installation) -> None:
    inhabited = await asyncio.to_thread(inhabit, elsewhere)
    platform, path = elsewhere.platform, inhabited.path
    deleted = platform.delete(path).json()
    erasure = inhabited.operations("erase")[0]
    assert (erasure["status"], erasure["due_at"]) == ("running", deleted["erase_after"])
    assert inhabited.tenant.owner.get("/me").status_code in (401, 403)
    assert platform.post(f"{path}/restore").json()["status"] == "active"
    assert inhabited.operations("erase")[0]["status"] == "cancelled"
    assert inhabited.readable()[0] == f"{inhabited.word}\n"
    platform.delete(path)
    assert [each["status"] for each in inhabited.operations("erase")] == ["running", "cancelled"]
    connection = await asyncpg.connect(superuser_dsn(elsewhere, "tenantry_us"))
    try:
        await connection.execute(
            "update tenantry.tenants set status_reason = 'erasing' where tenant_id = $1", inhabited.tenant_id
        )
    finally:
        await connection.close()
    answer = platform.post(f"{path}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "erasure_begun")
