"""The trail: every effect with its event or neither; every refusal; found again by each filter."""

import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.api.conftest import problem

from tenantry.engines.merkle.checkpoints import Checkpoint, open_checkpoint
from tenantry.engines.merkle.notes import Note, VerifierKey
from tenantry.engines.merkle.proofs import verify_inclusion
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.entrypoints.addresses import cell_database
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.ids import Prefix, parse_id

pytestmark = pytest.mark.xdist_group("api")
REGIONS = ("eu", "us")


@pytest.fixture(scope="module")
def quiet(make_tenant: MakeTenant) -> Tenant:
    """A tenant whose trail holds only what these tests do."""
    return make_tenant()


def _events(tenant: Tenant, **query: Any) -> list[dict[str, Any]]:
    answer = tenant.owner.get("/audit", params={"limit": 200, **query})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def _eventually(tenant: Tenant, count: int, **query: Any) -> list[dict[str, Any]]:
    """Refusals and reads come with the next group commit."""
    deadline = time.monotonic() + 10
    while len(found := _events(tenant, **query)) < count:
        assert time.monotonic() < deadline, found
    return found


def test_an_event_says_who_did_what_to_which_thing_from_where(quiet: Tenant) -> None:
    made = quiet.owner.post("/workspaces", json={"name": "seen", "owner": {"type": "team", "id": "core"}})
    (event,) = _events(quiet, action="workspace.created", resource=made.json()["id"])
    me = quiet.owner.get("/me").json()["principal"]
    assert event["actor"] == {"type": "api_key", "id": me["id"], "chain": [me["acts_for"]]}
    assert event["resource"] == {"type": "workspace", "id": made.json()["id"]}
    assert (event["tenant"], event["outcome"], event["ip"]) == (quiet.id, "success", "127.0.0.1")
    assert event["trace_id"] == made.headers["x-trace-id"]
    assert event["details"] == {"path": "teams/seen", "allowed_by": me["id"]}


def test_the_chain_names_on_whose_behalf_a_key_acts(quiet: Tenant) -> None:
    workspace = quiet.workspace("chained")
    account = quiet.owner.post(f"/workspaces/{workspace}/service-accounts", json={"name": "robot"}).json()["id"]
    robot = quiet.as_key(quiet.key(workspace, "operator", service_account=account))
    job = robot.post(f"/workspaces/{workspace}/jobs", json={"command": ["true"]}).json()["id"]
    (event,) = _events(quiet, resource=job, action="job.created")
    assert event["actor"]["chain"] == [account]
    assert event["workspace"] == workspace


def test_each_filter_finds_exactly_its_events(quiet: Tenant) -> None:
    workspace = quiet.workspace("filtered")
    key = quiet.key(workspace, "viewer")
    actor = quiet.as_key(key).get("/me").json()["principal"]["id"]
    problem(quiet.as_key(key).delete(f"/workspaces/{workspace}"), 403, "permission_missing")
    denied = _eventually(quiet, 1, actor=actor, outcome="denied")
    assert [(event["action"], event["reason"]) for event in denied] == [("workspace.admin", "permission_missing")]
    rules: list[tuple[dict[str, str], Callable[[dict[str, Any]], bool]]] = [
        ({"actor": actor}, lambda e: e["actor"]["id"] == actor),
        ({"action": "key."}, lambda e: e["action"].startswith("key.")),
        ({"action": "workspace.created"}, lambda e: e["action"] == "workspace.created"),
        ({"resource": workspace}, lambda e: e["resource"]["id"] == workspace),
        ({"resource": "workspace"}, lambda e: e["resource"]["type"] == "workspace"),
        ({"outcome": "denied"}, lambda e: e["outcome"] == "denied"),
        ({"workspace": workspace}, lambda e: e["workspace"] == workspace),
    ]
    for query, rule in rules:
        everything = _events(quiet)
        found = _events(quiet, **query)
        assert found, query
        assert all(rule(event) for event in found), query
        known = {event["id"] for event in found}
        assert {event["id"] for event in everything if rule(event)} <= known, query
    assert _events(quiet, action="Workspace.") == _events(quiet, action="%") == _events(quiet, action="_") == []


def test_since_is_inclusive_and_until_exclusive(quiet: Tenant) -> None:
    for number in range(3):
        quiet.workspace(f"timed {number}")
    newest, middle, *_ = _events(quiet, action="workspace.created")
    at = middle["occurred_at"]
    since = {event["id"] for event in _events(quiet, action="workspace.created", since=at)}
    until = {event["id"] for event in _events(quiet, action="workspace.created", until=at)}
    assert {newest["id"], middle["id"]} <= since
    assert middle["id"] not in until
    assert not since & until
    assert since | until == {event["id"] for event in _events(quiet, action="workspace.created")}


@pytest.mark.parametrize("more", [{}, {"q": "workspace"}, {"order": "sequence"}])
def test_the_ends_of_the_calendar_are_times_as_any(quiet: Tenant, more: dict[str, str]) -> None:
    quiet.workspace(f"of all times {more}")
    _eventually(quiet, 1, action="workspace.created", **more)
    early, late = {"since": "0001-01-01T00:00:00Z"}, {"until": "9999-12-31T23:59:59Z"}
    known = {event["id"] for event in _events(quiet, action="workspace.created", **more)}
    found = _events(quiet, action="workspace.created", **early, **late, **more)
    assert known <= {event["id"] for event in found}
    nothing = {"since": late["until"], "until": early["since"]}
    assert _events(quiet, action="workspace.created", **nothing, **more) == []


def test_pages_of_the_trail_are_newest_first_and_whole(quiet: Tenant) -> None:
    for number in range(4):
        quiet.workspace(f"paged {number}")
    whole = [event["id"] for event in _events(quiet, action="workspace.created")]
    found: list[str] = []
    cursor: str | None = None
    while True:
        query = {"action": "workspace.created", "limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = quiet.owner.get("/audit", params=query).json()
        found += [event["id"] for event in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == whole == sorted(whole, reverse=True)


def test_events_get_their_place_in_an_unbroken_sequence(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    tenant.workspace()
    deadline = time.monotonic() + 10
    while _events(tenant, action="workspace.created")[0]["sequence"] is None:
        assert time.monotonic() < deadline
    sealed = sorted(event["sequence"] for event in _events(tenant) if event["sequence"] is not None)
    assert sealed == list(range(1, len(sealed) + 1))


def test_reads_and_marked_routes_that_are_refused_are_recorded(quiet: Tenant, globex: Tenant) -> None:
    workspace = quiet.workspace("read")
    quiet.owner.get(f"/workspaces/{workspace}")
    (event,) = _eventually(quiet, 1, action="workspace.read", resource=workspace)
    assert event["outcome"] == "success"
    problem(quiet.owner.get("/me", headers={"X-Tenant-Id": globex.slug}), 403, "tenant_mismatch")
    (refused,) = _eventually(quiet, 1, action="me.", outcome="denied")
    assert (refused["outcome"], refused["reason"]) == ("denied", "tenant_mismatch")


def test_a_reach_into_another_region_is_recorded_and_not_told(acme: Tenant, globex: Tenant) -> None:
    foreign = globex.workspace(secrets.token_hex(4))
    abroad = acme.owner.get(f"/workspaces/{foreign}")
    never = acme.owner.get("/workspaces/ws_" + "0" * 26)
    assert problem(abroad, 404, "not_found")["detail"] == problem(never, 404, "not_found")["detail"]
    (event,) = _eventually(acme, 1, action="region.blocked", resource=foreign)
    assert (event["outcome"], event["details"]["region"]) == ("denied", "eu")


def test_what_the_operator_is_refused_stands_in_the_installations_trail(
    installation: Installation, acme: Tenant, dev: str
) -> None:
    refused = problem(
        installation.platform.get(f"/workspaces/{dev}/jobs", headers={"X-Tenant-Id": acme.slug}),
        403,
        "platform_no_content",
    )
    own = {"X-Tenant-Id": "platform"}
    deadline = time.monotonic() + 10
    while True:
        query = {"outcome": "denied", "limit": "200"}
        events = installation.platform.get("/audit", params=query, headers=own).json()["items"]
        found = [event for event in events if event["trace_id"] == refused["trace_id"]]
        if found:
            break
        assert time.monotonic() < deadline
    assert [(event["action"], event["reason"]) for event in found] == [("job.read", "platform_no_content")]
    assert not [event for event in _events(acme) if event["trace_id"] == refused["trace_id"]]


def test_text_from_outside_cannot_forge_a_line_of_the_trail(quiet: Tenant) -> None:
    """CR, LF, ANSI and formulas: escaped, or not taken over at all."""
    evil = quote("job_\r\n\u001b[31m=cmd|' C calc'!A0")
    workspace = quiet.workspace("forged")
    quiet.owner.get(f"/workspaces/{workspace}/jobs/{evil}")
    for event in _events(quiet, workspace=workspace):
        assert "\n" not in event["resource"]["id"]
        assert "\u001b" not in event["resource"]["id"]
    assert "\u001b" not in quiet.owner.get("/audit").text


# --- an effect and its event commit together -------------------------------------------------------------------------


@asynccontextmanager
async def _failing(installation: Installation, tenant: Tenant, table: str) -> AsyncIterator[None]:
    """Let every insert of this tenant into a table fail, as a broken disk would."""
    parts = EmbeddedPostgres(installation.home).superuser
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        host=parts.host,
        port=parts.port,
        user=parts.user,
        password=parts.password,
        database=cell_database(tenant.region),
    )
    tenant_id = parse_id(Prefix.TENANT, tenant.id)
    try:
        await connection.execute(
            f"""create function tenantry.fail_for_test() returns trigger language plpgsql as
                $$ begin raise exception 'disk on fire' using errcode = '58030'; end $$;
                create trigger fail_for_test before insert on tenantry.{table}
                for each row when (new.tenant_id = '{tenant_id}') execute function tenantry.fail_for_test()"""
        )
        yield
    finally:
        await connection.execute("drop function if exists tenantry.fail_for_test() cascade")
        await connection.close()


def _listed(tenant: Tenant, workspace: str) -> list[list[dict[str, Any]]]:
    """What there is; when a key was last used is noted by itself, some seconds later."""
    lists = [tenant.owner.get(path).json()["items"] for path in _lists(tenant, workspace)]
    return [[{name: item[name] for name in item if name != "last_used_at"} for item in items] for items in lists]


async def test_without_its_event_an_effect_does_not_happen(installation: Installation, make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    workspace = tenant.workspace()
    before = _listed(tenant, workspace)
    body = {"name": "doomed", "owner": {"type": "team", "id": "core"}}
    key = {"Idempotency-Key": secrets.token_hex(8)}
    async with _failing(installation, tenant, "audit_events"):
        for path, content in (
            ("/workspaces", body),
            (f"/workspaces/{workspace}/keys", {"name": "doomed", "roles": ["viewer"]}),
            (f"/workspaces/{workspace}/service-accounts", {"name": "doomed"}),
            (f"/workspaces/{workspace}/jobs", {"command": ["true"]}),
        ):
            answer = tenant.owner.post(path, json=content, headers=key if content is body else {})
            problem(answer, 500, "internal")
            assert "disk on fire" not in answer.text
    assert _listed(tenant, workspace) == before
    assert tenant.owner.post("/workspaces", json=body, headers=key).status_code == 201


def _lists(tenant: Tenant, workspace: str) -> list[str]:
    nouns = ("keys", "service-accounts", "jobs")
    return ["/workspaces", f"/tenants/{tenant.id}/keys", *(f"/workspaces/{workspace}/{noun}" for noun in nouns)]


async def test_without_its_effect_an_event_does_not_happen(installation: Installation, make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    async with _failing(installation, tenant, "workspaces"):
        body = {"name": "doomed", "owner": {"type": "team", "id": "core"}}
        problem(tenant.owner.post("/workspaces", json=body), 500, "internal")
    assert _events(tenant, action="workspace.created") == []
    tenant.workspace()
    assert len(_events(tenant, action="workspace.created")) == 1


def _proof(tenant: Tenant, event: str) -> dict[str, Any]:
    """Of an event that is a second old."""
    deadline = time.monotonic() + 20
    while (answer := tenant.owner.get(f"/audit/proof/{event}")).status_code == 503:
        assert answer.headers["retry-after"] == "1"
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    assert answer.status_code == 200, answer.text
    proof: dict[str, Any] = answer.json()
    return proof


def test_an_event_is_proved_by_what_anybody_may_keep(quiet: Tenant, installation: Installation) -> None:
    """With the answer alone: the note by its key, the path by RFC 9162; and the witness has had the note before."""
    made = quiet.workspace("proved")
    (event,) = _events(quiet, action="workspace.created", resource=made)
    proof = _proof(quiet, event["id"])
    told = proof["checkpoint"]
    keys = [
        VerifierKey.parse(
            one["key"],
            valid_from=datetime.fromisoformat(one["valid_from"]),
            valid_until=datetime.fromisoformat(one["valid_until"]) if one["valid_until"] else None,
        )
        for one in told["keys"]
    ]
    assert told["origin"].endswith(f"/{quiet.id}")
    found = open_checkpoint(
        told["note"].encode(), origin=told["origin"], keys=keys, at=datetime.fromisoformat(told["made_at"])
    ).checkpoint
    assert (found.size, b64encode(found.root).decode()) == (told["size"], told["root"])
    leaf, path = b64decode(proof["leaf"]), [b64decode(one) for one in proof["path"]]
    (event,) = _events(quiet, action="workspace.created", resource=made)
    assert proof["index"] == event["sequence"] - 1
    verify_inclusion(leaf=leaf, index=proof["index"], size=found.size, proof=path, root=found.root)
    folder = installation.home / quiet.region / "checkpoints"
    told_before = [json.loads(line)["note"] for file in folder.iterdir() for line in file.read_text().splitlines()]
    assert told["note"] in told_before
    newest = quiet.owner.get("/audit/checkpoint").json()
    assert newest["size"] >= told["size"]
    assert newest["keys"] == told["keys"]


def test_a_proof_is_of_ones_own_and_asked_for_by_an_auditor_of_the_tenant(
    quiet: Tenant, make_tenant: MakeTenant
) -> None:
    workspace = quiet.workspace("audited")
    (event,) = _events(quiet, action="workspace.created", resource=workspace)
    assert quiet.as_role("auditor", None).get("/audit/checkpoint").status_code == 200
    problem(quiet.as_role("auditor", workspace).get("/audit/checkpoint"), 403, "permission_missing")
    problem(quiet.as_role("auditor", workspace).get(f"/audit/proof/{event['id']}"), 403, "permission_missing")
    problem(make_tenant().owner.get(f"/audit/proof/{event['id']}"), 404, "not_found")
    problem(quiet.owner.get("/audit/proof/evt_nothing"), 422, "id_malformed")


def test_the_operator_sees_a_tenants_checkpoint_in_a_root_that_both_regions_have_signed(
    quiet: Tenant, installation: Installation
) -> None:
    made = quiet.workspace("rooted")
    (event,) = _events(quiet, action="workspace.created", resource=made)
    _proof(quiet, event["id"])
    path, deadline = f"/tenants/{quiet.id}/audit-root", time.monotonic() + 30
    while len((answer := installation.platform.get(path)).json().get("root", {}).get("signed_by", [])) < len(REGIONS):
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    anchor = answer.json()
    root, checkpoint = anchor["root"], anchor["checkpoint"]
    name = root["origin"].rpartition("/")[0]
    assert sorted(root["signed_by"]) == [f"{name}/{region}" for region in REGIONS]
    keys = [VerifierKey.parse(one["key"]) for one in root["keys"]]
    note = Note.parse(root["note"].encode())
    assert len(note.verify(keys=keys, at=None)) == len(REGIONS)
    told = Checkpoint.parse(note.text)
    leaf = leaf_hash(checkpoint["note"].partition("\n\n")[0].encode() + b"\n")
    verify_inclusion(
        leaf=leaf,
        index=anchor["index"],
        size=told.size,
        proof=[b64decode(one) for one in anchor["path"]],
        root=told.root,
    )
    listed = installation.platform.get("/platform/audit/roots").json()["items"]
    assert quiet.region in {one["region"] for one in listed}
    problem(quiet.owner.get(path), 403, "permission_missing")
    problem(quiet.owner.get("/platform/audit/roots"), 403, "permission_missing")
