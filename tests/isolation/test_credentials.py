"""Who gets in at all: nobody without a credential, and the operator of the installation into no tenant's content."""

import pytest
from tests.isolation.bodies import JSON, UNREADABLE, body_of
from tests.isolation.grounds import World
from tests.isolation.matrix import own_values, target_of
from tests.isolation.wire import Answer, Wire

from tenantry.capabilities.access.types import BUILT_IN_ROLES, Permission
from tenantry.capabilities.identity.types import ScopeKind, make_credential
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import Mark, RouteSpec

pytestmark = [pytest.mark.xdist_group("isolation"), pytest.mark.one_strategy]

_CLOSED = [spec for spec in ALL_ROUTES if spec.needs is not Mark.PUBLIC]


def _challenge(answer: Answer) -> str:
    return dict(answer.headers).get("www-authenticate", "")


def test_without_a_credential_everything_but_the_public_doors_is_401(world: World, wire: Wire) -> None:
    faults = []
    for spec in _CLOSED:
        target = target_of(spec, own_values(spec, world.us))
        answer = wire.send(spec.method, target, headers=(JSON,), body=body_of(spec, world.us) or b"{}")
        if (answer.status, answer.code, _challenge(answer)) != (401, "credential_missing", "Bearer"):
            faults.append(f"{spec.method} {spec.path}: {answer}")
    assert not faults


@pytest.mark.parametrize("authorization", ["", "Basic dXNlcjpwYXNz", "Bearer", "Bearer  ", "Token x", "tenantry_us_x"])
def test_anything_but_a_bearer_credential_is_none(authorization: str, wire: Wire) -> None:
    answer = wire.send("GET", "/api/v1/me", headers=(("Authorization", authorization),))
    assert (answer.status, answer.code) == (401, "credential_missing")


def test_a_key_that_nobody_made_opens_nothing_and_learns_nothing(world: World, wire: Wire) -> None:
    """Drawn for an own tenant, another region's, a workspace and one that never was: all answers are one."""
    scopes = [
        ("us", ScopeKind.TENANT, parse_id(Prefix.TENANT, world.us.tenant.id)),
        ("eu", ScopeKind.TENANT, parse_id(Prefix.TENANT, world.us.tenant.id)),
        ("us", ScopeKind.WORKSPACE, parse_id(Prefix.WORKSPACE, world.us.own)),
        ("eu", ScopeKind.WORKSPACE, parse_id(Prefix.WORKSPACE, world.eu.own)),
        ("us", ScopeKind.WORKSPACE, new_id()),
        ("eu", ScopeKind.TENANT, new_id()),
        ("us", ScopeKind.PLATFORM, None),
    ]
    for spec in _CLOSED:
        target = target_of(spec, own_values(spec, world.us))
        essences = set()
        for region, kind, scope_id in scopes:
            key = make_credential(region=region, kind=kind, scope_id=scope_id).text
            answer = wire.send(spec.method, target, key=key, headers=(JSON,), body=body_of(spec, world.us) or b"{}")
            assert (answer.status, answer.code) == (401, "credential_refused"), f"{spec.path}: {answer}"
            essences.add(answer.essence)
        assert len(essences) == 1, spec.path


def test_the_platform_key_opens_no_content_of_a_tenant(world: World, wire: Wire) -> None:
    """400 where a route needs a tenant and none is named, 403 for every one that is, also for one that never was."""
    key, faults = world.installation.platform_key, []
    held = BUILT_IN_ROLES["platform-admin"]
    for spec in _CLOSED:
        if spec.needs in held or spec.platform or spec.visited or not isinstance(spec.needs, Permission):
            continue
        named = "tenant" in spec.parameters
        for name in (None, world.us.tenant.id, world.eu.tenant.slug, format_id(Prefix.TENANT, new_id()), "nobody-here"):
            values = own_values(spec, world.us) | ({"tenant": name} if named and name else {})
            headers = (JSON,) if named or name is None else (JSON, ("X-Tenant-Id", name))
            body = body_of(spec, world.us) or b"{}"
            answer = wire.send(spec.method, target_of(spec, values), key=key, headers=headers, body=body)
            expected = (400, "tenant_required") if name is None and not named else (403, "platform_no_content")
            if (answer.status, answer.code) != expected:
                faults.append(f"{spec.method} {spec.path} naming {name}: {answer}")
    assert not faults, "\n".join(faults)


def test_the_platform_key_finds_no_workspace_in_the_installations_own_tenant(world: World, wire: Wire) -> None:
    for spec in _CLOSED:
        if "ws" in spec.parameters:
            target = target_of(spec, own_values(spec, world.us))
            headers = (JSON, ("X-Tenant-Id", "platform"))
            answer = wire.send(spec.method, target, key=world.installation.platform_key, headers=headers, body=b"{}")
            assert (answer.status, answer.code) == (404, "not_found"), f"{spec.method} {spec.path}: {answer}"


_NOT_YET = {"/tenants/{tenant}/certificate": 404, "/imports/{operation}": 404, "/platform/policies/{kind}": 404}
"""What there is of an erased or imported tenant only, or where the operator has put a file."""


def test_the_platform_key_opens_what_is_the_operators(world: World, wire: Wire) -> None:
    """The control beside the refusals: each route of the operator lets it through, for tenants of every region."""
    for spec in _CLOSED:
        if spec.needs is Permission.PLATFORM_ADMIN or spec.platform:
            for grounds in (world.us, world.eu):
                answer = _through(spec, own_values(spec, grounds), world, wire)
                unread = 422 if spec.raw_body else 400  # a body that is streamed is not read before its query
                expected = _NOT_YET.get(spec.path, 200) if spec.method == "GET" else unread
                assert answer.status == expected, f"{spec.method} {spec.path}: {answer}"


def _through(spec: RouteSpec, values: dict[str, str], world: World, wire: Wire) -> Answer:
    body = None if spec.method == "GET" else UNREADABLE
    headers = () if body is None else (JSON,)
    return wire.send(
        spec.method, target_of(spec, values), key=world.installation.platform_key, headers=headers, body=body
    )


def test_what_the_operator_names_must_be_what_the_path_names(world: World, wire: Wire) -> None:
    """Another tenant's name in header, query or both does not bend an operator's request to that tenant."""
    slug = world.eu.tenant.slug
    for spec in _CLOSED:
        if spec.needs is Permission.PLATFORM_ADMIN or spec.platform:
            target = target_of(spec, own_values(spec, world.us))
            for place, headers in ((target, (JSON, ("X-Tenant-Id", slug))), (f"{target}?tenant={slug}", (JSON,))):
                body = None if spec.method == "GET" else UNREADABLE
                answer = wire.send(spec.method, place, key=world.installation.platform_key, headers=headers, body=body)
                assert (answer.status, answer.code) == (403, "tenant_mismatch"), f"{spec.method} {spec.path}: {answer}"
