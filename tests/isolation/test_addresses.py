"""Other verbs, overrides of the verb, and other spellings of an address open nothing that the plain one does not."""

import pytest
from tests.isolation.bodies import JSON, UNREADABLE
from tests.isolation.grounds import Actor, World, snapshot
from tests.isolation.matrix import grows, own_values, target_of
from tests.isolation.wire import Wire

from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import PREFIX, Mark, Reach

pytestmark = [pytest.mark.xdist_group("isolation"), pytest.mark.one_strategy]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "LOCK", "CONNECTX")
_OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
_PORT = "/workspaces/{ws}/sandboxes/{sandbox}/ports/{port}"

_FIXED = (
    ("/tenants/{tenant}", "/tenants/import"),
    ("/workspaces/{ws}/grants/{grant}", "/workspaces/{ws}/grants/revoke-all"),
    ("/workspaces/{ws}/images/{image}", "/workspaces/{ws}/images/pull"),
    *(
        ("/workspaces/{ws}/evidence/{evidence}", f"/workspaces/{{ws}}/evidence/{name}")
        for name in ("gc", "index", "holds")
    ),
    (f"{_PORT}/{{path}}", f"{_PORT}/token"),
    *(("/tenants/{tenant}/policies/{kind}", f"/tenants/{{tenant}}/policies/{name}") for name in ("versions", "proof")),
    *(
        ("/workspaces/{ws}/policies/{kind}", f"/workspaces/{{ws}}/policies/{name}")
        for name in ("versions", "proof", "test", "shadow-diff")
    ),
)


def _viewer(world: World) -> Actor:
    return next(actor for actor in world.us.actors if actor.name == "workspace/viewer")


def test_verbs_that_a_path_does_not_list_are_405_for_everybody(world: World, wire: Wire) -> None:
    known = {(spec.method, spec.path) for spec in ALL_ROUTES}
    known |= {("HEAD", spec.path) for spec in ALL_ROUTES if spec.rest}  # as GET, of what is handed on
    # What is listed for any tenant, grant or image, is listed for one that were called so.
    for named, fixed in _FIXED:
        known |= {(method, fixed) for method, path in known if path == named}
    faults = []
    for spec in {spec.path: spec for spec in ALL_ROUTES}.values():
        target = target_of(spec, own_values(spec, world.us))
        for method in _METHODS:
            if (method, spec.path) in known:
                continue
            for key in (None, world.us.admin.key, world.installation.platform_key):
                answer = wire.send(method, target, key=key, headers=(JSON,), body=b"{}")
                # The parser of the transport refuses names that are no methods of HTTP, before any route.
                if answer.status not in ((400, 405) if method == "CONNECTX" else (405,)):
                    faults.append(f"{method} {spec.path}: {answer}")
                if answer.status == 400:
                    wire.close()
    assert not faults, "\n".join(faults)


def test_a_header_cannot_turn_reading_into_changing(world: World, wire: Wire) -> None:
    key = world.us.admin.key
    before = snapshot(world.us)
    for spec in ALL_ROUTES:
        if spec.method != "GET" or spec.needs is Mark.PUBLIC or grows(spec):
            continue
        target = target_of(spec, own_values(spec, world.us))
        plain = wire.send("GET", target, key=key)
        for name in _OVERRIDES:
            for method in ("DELETE", "POST", "PATCH"):
                answer = wire.send("GET", target, key=key, headers=((name, method),))
                assert not answer.differences(plain), f"{spec.path} {name}: {method}: {answer.differences(plain)}"
        query = f"{target}{'&' if '?' in target else '?'}_method=DELETE"
        answer = wire.send("GET", query, key=key)
        assert not answer.differences(plain), f"{spec.path} _method: {answer.differences(plain)}"
    assert snapshot(world.us) == before


def test_a_header_cannot_turn_what_is_refused_into_what_is_allowed(world: World, wire: Wire) -> None:
    """A viewer's POST, PATCH and DELETE stay refused, whatever verb a header says they are."""
    viewer = _viewer(world)
    for spec in ALL_ROUTES:
        if spec.method == "GET" or spec.needs in viewer.in_own or isinstance(spec.needs, Mark):
            continue
        target = target_of(spec, own_values(spec, world.us))
        for name in _OVERRIDES:
            answer = wire.send(spec.method, target, key=viewer.key, headers=(JSON, (name, "GET")), body=b"{}")
            assert (answer.status, answer.code) == (403, "permission_missing"), f"{spec.path} {name}: {answer}"


def _spellings(target: str) -> list[str]:
    """Other ways to write an address, which some servers take for the same."""
    path, _, query = target.partition("?")
    rest = f"?{query}" if query else ""
    inner = path.removeprefix(PREFIX)
    spelt = [
        f"{path}/",
        f"{path}//",
        f"/{path}",
        f"{PREFIX}/{inner}",
        f"{PREFIX}/.{inner}",
        f"{PREFIX}/x/..{inner}",
        f"{PREFIX}/%2e{inner}",
        f"{PREFIX}/x/%2e%2e{inner}",
        f"{path};.json",
        f"{path}.json",
        f"{path}%20",
        f"{path}%09",
        f"{path}%2f",
        f"{path}%5c",
        f"{path}%23",
        f"{path}%3f",
        path.upper(),
        path.replace("/api/v1", "/api/V1"),
        PREFIX + inner.replace("/", "%2f"),
        PREFIX + inner.replace("/", "%5c"),
    ]
    if inner.count("/") > 1:
        head, _, tail = inner.rpartition("/")
        spelt += [f"{PREFIX}{head}%2F{tail}", f"{PREFIX}{head}%252F{tail}", f"{PREFIX}{head}/%2F{tail}"]
    return [f"{other}{rest}" for other in spelt if other != path]


def test_other_spellings_of_an_address_open_nothing_more(world: World, wire: Wire) -> None:
    """For a viewer and for somebody else's administrator: what is not 404 or 405 is what the plain address says."""
    viewer, stranger = _viewer(world), world.neighbour.admin
    faults = []
    for spec in ALL_ROUTES:
        if spec.needs is Mark.PUBLIC:
            continue
        target = target_of(spec, own_values(spec, world.us))
        body = None if spec.method == "GET" else UNREADABLE
        for actor in (viewer, stranger):
            plain = wire.send(spec.method, target, key=actor.key, headers=(JSON,), body=body)
            for other in _spellings(target):
                answer = wire.send(spec.method, other, key=actor.key, headers=(JSON,), body=body)
                if answer.status not in (404, 405, 422, 403) and answer.status != plain.status:
                    faults.append(f"{actor.name} {spec.method} {other}: {answer}, plain {plain}")
    assert not faults, "\n".join(faults)


def test_other_spellings_ask_for_a_credential_or_are_nothing(world: World, wire: Wire) -> None:
    for spec in ALL_ROUTES:
        if spec.needs is Mark.PUBLIC:
            continue
        for other in _spellings(target_of(spec, own_values(spec, world.us))):
            answer = wire.send(spec.method, other, headers=(JSON,), body=None if spec.method == "GET" else b"{}")
            assert answer.status in (401, 404, 405), f"{spec.method} {other}: {answer}"


def test_an_encoded_slash_is_a_slash_to_the_guard_too(world: World, wire: Wire) -> None:
    """It cannot hide another workspace's id behind an own one: the route that is matched is the one that is judged."""
    own, foreign = world.us.own, world.neighbour.own
    viewer = _viewer(world)
    for spec in ALL_ROUTES:
        if spec.reach is not Reach.WORKSPACE or spec.method != "GET":
            continue
        path = target_of(spec, own_values(spec, world.neighbour))
        for hidden in (
            path.replace(f"/workspaces/{foreign}", f"/workspaces/{own}%2F..%2F{foreign}"),
            path.replace(f"/workspaces/{foreign}", f"/workspaces/{own}/../{foreign}"),
            path.replace(f"/workspaces/{foreign}", f"/workspaces/{foreign}%00{own}"),
            path.replace(f"/workspaces/{foreign}", f"/workspaces/{foreign},{own}"),
            path.replace(f"/workspaces/{foreign}", f"/workspaces/{own}%0a{foreign}"),
        ):
            answer = wire.send("GET", hidden, key=viewer.key)
            assert answer.status in (400, 404, 422), f"{hidden}: {answer}"
