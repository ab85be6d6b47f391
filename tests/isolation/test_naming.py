"""A tenant or workspace that is named beside the path never bends a request: it agrees, or the request is refused."""

import pytest
from tests.isolation.bodies import JSON, UNREADABLE, body_of
from tests.isolation.grounds import World
from tests.isolation.matrix import grows, own_values, target_of
from tests.isolation.wire import Answer, Headers, Wire

from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import Mark, Reach, RouteSpec

pytestmark = [pytest.mark.xdist_group("isolation"), pytest.mark.one_strategy]

_CLOSED = [spec for spec in ALL_ROUTES if spec.needs is not Mark.PUBLIC]


def _send(
    spec: RouteSpec, world: World, wire: Wire, *, headers: Headers = (), query: str = "", harmless: bool = False
) -> Answer:
    target = target_of(spec, own_values(spec, world.us))
    target += ("&" if "?" in target else "?") + query if query else ""
    body = UNREADABLE if harmless else body_of(spec, world.us) or b"{}"
    get = spec.method == "GET"
    sent = headers if get else (JSON, *headers)
    return wire.send(spec.method, target, key=world.us.admin.key, headers=sent, body=None if get else body)


@pytest.mark.parametrize("where", ["header", "query"])
def test_another_tenant_named_beside_the_path_is_refused_like_one_that_never_was(
    where: str, world: World, wire: Wire
) -> None:
    names = [
        world.neighbour.tenant.id,
        world.neighbour.tenant.slug,
        world.eu.tenant.id,
        world.eu.tenant.slug,
        format_id(Prefix.TENANT, new_id()),
        "nobody-here",
        world.us.tenant.id.upper(),
        "platform",
        "%20" if where == "query" else '"',
    ]
    faults = []
    for spec in _CLOSED:
        if spec.rest and where == "query":  # which is read by the tenant's own program
            continue
        answers = [
            _send(spec, world, wire, headers=(("X-Tenant-Id", name),))
            if where == "header"
            else _send(spec, world, wire, query=f"tenant={name}")
            for name in names
        ]
        wrong = [str(answer) for answer in answers if (answer.status, answer.code) != (403, "tenant_mismatch")]
        if wrong or len({answer.essence for answer in answers}) != 1:
            faults.append(f"{spec.method} {spec.path}: {wrong}")
    assert not faults, "\n".join(faults)


def test_the_own_tenant_may_be_named_everywhere(world: World, wire: Wire) -> None:
    """The control: the same names that are refused when foreign change nothing when they are the caller's."""
    for spec in _CLOSED:
        plain = _send(spec, world, wire, harmless=True)
        for name in (world.us.tenant.id, world.us.tenant.slug):
            header = _send(spec, world, wire, headers=(("X-Tenant-Id", name),), harmless=True)
            query = _send(spec, world, wire, query=f"tenant={name}&tenant={name}", harmless=True)
            assert {header.status, query.status} == {plain.status}, f"{spec.method} {spec.path}"


@pytest.mark.parametrize("first", ["own", "foreign"])
def test_two_names_that_disagree_are_refused(first: str, world: World, wire: Wire) -> None:
    own, foreign = world.us.tenant.slug, world.neighbour.tenant.slug
    pair = (own, foreign) if first == "own" else (foreign, own)
    for spec in _CLOSED:
        twice = _send(spec, world, wire, headers=tuple(("X-Tenant-Id", name) for name in pair))
        assert (twice.status, twice.code) == (400, "header_ambiguous"), f"{spec.path}: {twice}"
        listed = _send(spec, world, wire, headers=(("X-Tenant-Id", ", ".join(pair)),))
        assert (listed.status, listed.code) == (400, "header_ambiguous"), f"{spec.path}: {listed}"
        if spec.rest:
            continue
        mixed = _send(spec, world, wire, headers=(("X-Tenant-Id", pair[0]),), query=f"tenant={pair[1]}")
        assert (mixed.status, mixed.code) == (403, "tenant_mismatch"), f"{spec.path}: {mixed}"


def test_headers_of_proxies_name_nothing(world: World, wire: Wire) -> None:
    foreign = world.neighbour.tenant.slug
    spoofed = (
        ("X-Forwarded-Host", f"{foreign}.tenants.example.com"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Prefix", f"/{foreign}"),
        ("Forwarded", f"host={foreign}.tenants.example.com;for=10.0.0.1"),
        ("X-Original-URL", f"/api/v1/tenants/{foreign}"),
        ("X-Rewrite-URL", f"/api/v1/tenants/{foreign}"),
        ("X-Tenant", foreign),
        ("Tenant-Id", foreign),
        ("X-User-Id", "usr_1"),
        ("X-Role", "platform-admin"),
    )
    for spec in _CLOSED:
        if spec.method == "GET" and not grows(spec):
            answer, plain = _send(spec, world, wire, headers=spoofed), _send(spec, world, wire)
            assert not answer.differences(plain), f"{spec.path}: {answer.differences(plain)}"


def test_another_workspace_named_in_the_header_is_refused(world: World, wire: Wire) -> None:
    foreign = [world.neighbour.own, world.eu.own, format_id(Prefix.WORKSPACE, new_id())]
    for spec in _CLOSED:
        answers = [_send(spec, world, wire, headers=(("X-Workspace-Id", name),), harmless=True) for name in foreign]
        alike = answers if spec.needs is not Mark.AUTHENTICATED and not grows(spec) else []
        assert len({answer.essence for answer in alike}) <= 1, spec.path
        if spec.reach is Reach.WORKSPACE:
            assert {answer.code for answer in answers} == {"header_ambiguous"}, spec.path
        elif spec.reach is not Reach.TENANT:
            assert {(answer.status, answer.code) for answer in answers} == {(404, "not_found")}, spec.path


def test_the_header_narrows_a_tenants_key_to_one_workspace(world: World, wire: Wire) -> None:
    """The control: with it the trail shows one workspace, without it all."""
    owner = world.us.tenant.owner
    narrowed = owner.get("/audit", headers={"X-Workspace-Id": world.us.own}).json()["items"]
    assert {event["workspace"] for event in narrowed} == {world.us.own}
    seen: set[str | None] = set()
    cursor = None
    while len(seen) < 2:
        query = {"limit": "200", **({"cursor": cursor} if cursor else {})}
        page = owner.get("/audit", params=query).json()
        seen |= {event["workspace"] for event in page["items"]}
        cursor = page["next_cursor"]
        assert len(seen) > 1 or cursor, seen
