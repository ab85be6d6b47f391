"""The control beside all refusals: who may, can. Every route does its work once, for real, on things made for it."""

import asyncio
import io
import json
import re
import secrets
import tarfile
import time
from base64 import b64decode
from typing import Any, Final

import asyncpg
import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.tenancy.ground import databases, superuser_dsn
from tests.isolation.bodies import JSON, body_of, provider_example
from tests.isolation.grounds import WHOLE_TENANT, World, locked_evidence, make_world
from tests.isolation.matrix import own_values, target_of
from tests.isolation.wire import Answer, Wire

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.audit.service.receipts import Receipt
from tenantry.engines.merkle.notes import Note
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import RouteSpec

pytestmark = pytest.mark.xdist_group("isolation")

# An import takes a tenant of another installation: tests/integration/tenancy has both. Tokens and logout take a login:
# tests/integration/logins. A pull takes a registry: tests/integration/images.
# What speaks with a running sandbox, or asks for what one has kept, takes one: tests/integration/sandboxes.
_ELSEWHERE = (
    *("/tenants/import", "/auth/token", "/auth/refresh", "/auth/logout"),
    "/workspaces/{ws}/images/pull",
)
_LIVE = re.compile(r".*/{sandbox}/(exec|files|ports|extend|snapshot|fork)(/.*)?")
_OWN_DATABASE = re.compile(r"_[0-9a-f]{32}$")
_UNDONE: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "environment": ("environments", "slug", {"kind": "dev"}),
    "sandbox": ("sandboxes", "name", {"start": False}),
}
_CHANGING = [
    spec
    for spec in ALL_ROUTES
    if spec.method != "GET" and spec.path not in _ELSEWHERE and not _LIVE.fullmatch(spec.path)
]


@pytest.fixture(scope="session")
async def earlier(installation: Installation) -> frozenset[str]:
    """Databases of tenants that other tests have made for themselves: nothing of what follows is told there."""
    return frozenset(name for name in await databases(installation) if _OWN_DATABASE.search(name))


@pytest.fixture(scope="session")
async def world(installation: Installation, make_tenant: MakeTenant, earlier: frozenset[str]) -> World:
    """A world of these tests' own, made after `earlier`: they change what the others find as it was furnished."""
    return await make_world(installation, make_tenant)


def _fresh(spec: RouteSpec, world: World, make_tenant: MakeTenant) -> tuple[dict[str, str], str | None]:
    """Own ids, but of the innermost thing a fresh one, so that what a route ends is nobody else's; and whose key."""
    if spec.parameters == ("tenant", "operation"):
        return _asked_for(make_tenant(plan="free"))
    if spec.path == "/audit/forgettings":  # refused where something is held
        return {}, make_tenant(plan="free").bootstrap_key
    return _fresh_thing(spec, world, make_tenant), None


def _asked_for(tenant: Tenant) -> tuple[dict[str, str], str]:
    """A tenant whose move to another region waits for its owner's word."""
    asked = tenant.installation.platform.post(f"/tenants/{tenant.id}/move", json={"region": "eu"})
    return {"tenant": tenant.id, "operation": asked.json()["id"]}, tenant.bootstrap_key


def _fresh_thing(spec: RouteSpec, world: World, make_tenant: MakeTenant) -> dict[str, str]:
    values = own_values(spec, world.us)
    grounds, last = world.us, (spec.parameters or ("",))[-1]
    if last == "tenant" and spec.needs is Permission.PLATFORM_ADMIN:
        values["tenant"] = make_tenant(plan="free").id
    elif last == "ws" and spec.needs.startswith("workspace:"):
        values["ws"] = grounds.tenant.workspace("fresh")
    elif last in ("key", "binding"):
        path = f"/workspaces/{grounds.own}" if "ws" in spec.parameters else f"/tenants/{grounds.tenant.id}"
        account = grounds.post(f"/workspaces/{grounds.own}/service-accounts", {"name": f"for {spec.path}"})["id"]
        body = {"name": "x", "roles": ["ci"]} if last == "key" else {"principal": account, "role": "ci"}
        values[last] = grounds.post(f"{path}/{last}s", body)["id"]
    elif last in ("role", "group", "principal"):
        values |= _fresh_shared(spec, world, last)
    elif last in ("grant", "approval"):
        values |= _fresh_grant(world, active=spec.path.endswith("/extend"))
    elif last == "channel":
        path = f"/workspaces/{grounds.own}" if "ws" in spec.parameters else f"/tenants/{grounds.tenant.id}"
        wanted = {"name": secrets.token_hex(8), "kind": "webhook", "address": "https://hooks.invalid/", "topics": ["*"]}
        values[last] = grounds.post(f"{path}/notification-channels", wanted)["id"]
    elif last in ("stream", "provider"):
        path = "/audit/streams" if last == "stream" else f"/tenants/{grounds.tenant.id}/identity-providers"
        wanted = {"name": secrets.token_hex(8), "kind": "object"} if last == "stream" else provider_example()
        values[last] = grounds.post(path, wanted)["id"]
    elif last in ("environment", "sandbox"):
        noun, naming, rest = _UNDONE[last]
        made = grounds.post(f"/workspaces/{grounds.own}/{noun}", {naming: f"x-{secrets.token_hex(4)}", **rest})
        values[last] = made["slug" if naming == "slug" else "id"]
    elif last in ("evidence", "hold", "image"):
        values[last] = _fresh_kept(world, last)
    return values


def _fresh_kept(world: World, last: str) -> str:
    """Evidence that has just locked itself, a hold, or an image."""
    grounds, path = world.us, f"/workspaces/{world.us.own}"
    if last == "evidence":
        return locked_evidence(grounds, grounds.own, grounds.post(f"{path}/jobs", {"command": ["true"]})["id"])
    if last == "image":
        target, headers = f"{path}/images?name=fresh-to-remove&format=directory", {"Content-Type": "application/x-tar"}
        return str(grounds.tenant.owner.post(target, content=_tar(), headers=headers).json()["id"])
    body = {"case_id": "case", "reason": "because", "label": {"none": "none"}}
    return str(grounds.post(f"{path}/evidence/holds", body)["id"])


def _fresh_shared(spec: RouteSpec, world: World, last: str) -> dict[str, str]:
    """A role that nobody has, a group, or one with somebody in it; and who could come into one."""
    grounds = world.us
    path = f"/workspaces/{grounds.own}" if "ws" in spec.parameters else f"/tenants/{grounds.tenant.id}"
    if last == "role":
        slug = f"r-{secrets.token_hex(5)}"
        return {"role": grounds.post(f"{path}/roles", {"slug": slug, "permissions": ["job:read"]})["slug"]}
    group = str(grounds.post(f"{path}/groups", {"name": f"g-{secrets.token_hex(5)}"})["id"])
    if last == "group":
        return {"group": group}
    account = grounds.things[grounds.own, "account"]
    grounds.post(f"{path}/groups/{group}/members", {"principal": account})
    return {"group": group, "principal": account}


def _fresh_grant(world: World, *, active: bool) -> dict[str, str]:
    """A grant that somebody else asks for and that waits for its approval; or one that an administrator gave."""
    grounds, path = world.us, f"/workspaces/{world.us.own}"
    account = grounds.things[grounds.own, "account"]
    body = {"role": "viewer", "minutes": 5, "reason": "because"}
    if active:
        return {"grant": grounds.post(f"{path}/grants", {**body, "principal": account})["id"]}
    key = grounds.tenant.key(grounds.own, "viewer", service_account=account)
    asked = grounds.tenant.as_key(key).post(f"{path}/grants", json=body).json()
    return {"grant": asked["id"], "approval": asked["approval"]}


def _tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("etc/name")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"base"))
    return content.getvalue()


def _do(spec: RouteSpec, values: dict[str, str], world: World, wire: Wire, *, owner: str | None) -> Answer:
    platform = spec.needs is Permission.PLATFORM_ADMIN
    key = owner or (world.installation.platform_key if platform else world.us.admin.key)
    if spec.raw_body:
        target = f"{target_of(spec, values)}?name=fresh&format=directory"
        return wire.send(spec.method, target, key=key, headers=(("Content-Type", "application/x-tar"),), body=_tar())
    if spec.path == "/tenants/{tenant}/restore":
        wire.send("DELETE", target_of(spec, values).removesuffix("/restore"), key=key)
    body = body_of(spec, world.us)
    if spec.path.endswith("/bindings"):
        account = world.us.post(f"/workspaces/{world.us.own}/service-accounts", {"name": f"bound by {spec.path}"})["id"]
        body = json.dumps({"principal": account, "role": "approver"}).encode()
    return wire.send(spec.method, target_of(spec, values), key=key, headers=(JSON,), body=body)


def _acknowledged(answer: Answer) -> set[tuple[str, bytes]]:
    """The events that the answer's receipts tell of, by their id and leaf."""
    notes = [b64decode(value) for name, value in answer.headers if name == "audit-receipt"]
    return {event for note in notes for event in Receipt.parse(Note.parse(note).text).events}


def _eventually(trace_id: str, installation: Installation, but: frozenset[str]) -> dict[tuple[str, bytes], bytes]:
    """Look for a request's events in the trails of all tenants, by id and leaf; of some the platform's is told."""
    deadline = time.monotonic() + 20
    while not (found := asyncio.run(_recorded(trace_id, installation, but))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


async def _recorded(trace_id: str, installation: Installation, but: frozenset[str]) -> dict[tuple[str, bytes], bytes]:
    found = {}
    for database in sorted({*await databases(installation)} - but):
        connection = await asyncpg.connect(superuser_dsn(installation, database))
        try:
            rows = await connection.fetch(
                "select schemaname::text as schema from pg_tables where tablename = 'audit_events'"
            )
            for row in rows:
                asked = f"select event_id, leaf, canonical from {row['schema']}.audit_events where canonical like $1"
                for event in await connection.fetch(asked, f'%"trace_id":"{trace_id}"%'.encode()):
                    found[format_id(Prefix.AUDIT_EVENT, event["event_id"]), event["leaf"]] = event["canonical"]
        finally:
            await connection.close()
    return found


@pytest.mark.parametrize("spec", _CHANGING, ids=[f"{spec.method} {spec.path}" for spec in _CHANGING])
def test_whoever_may_can(
    spec: RouteSpec, world: World, wire: Wire, make_tenant: MakeTenant, earlier: frozenset[str]
) -> None:
    values, owner = _fresh(spec, world, make_tenant)
    answer = _do(spec, values, world, wire, owner=owner)
    assert answer.status == spec.status, f"{answer} {answer.body[:300]!r}"
    events, acknowledged = _eventually(answer.trace_id, world.installation, earlier), _acknowledged(answer)
    assert events, "no event tells of it, in the trail of whomever"
    assert acknowledged <= events.keys(), "a receipt tells of an event that is not there"
    assert acknowledged or all(b'"method":' in event for event in events.values()), "an effect without a receipt"
    if answer.body and spec.status == 201:
        made = json.loads(answer.body)
        assert made.get("id") or made.get("slug") or made["principal"]["id"]


def test_every_kind_of_thing_lies_where_the_matrix_looks_for_it(world: World) -> None:
    for grounds in (world.us, world.eu, world.neighbour):
        kinds = {"key", "binding", "account", "job", "artifact", "image", "environment", "role", "group", "principal"}
        kinds |= {"channel", "invitation", "input", "grant", "approval", "certificate", "signing_key", "exemption"}
        kinds |= {"secret", "sandbox", "snapshot", "evidence", "hold"}
        assert {kind for place, kind in grounds.things if place == grounds.own} == kinds
        kinds = {"key", "binding", "operation", "export", "role", "group", "principal", "member", "channel"}
        kinds |= {"invitation", "provider", "login", "exemption", "event", "stream", "forgetting"}
        assert {kind for place, kind in grounds.things if place == WHOLE_TENANT} == kinds
