"""The matrix covers the registry: what it cannot make a case for fails here, by name."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.isolation.bodies import UnknownToTheGeneratorError, body_models, body_of, example_of
from tests.isolation.grounds import WORDS, World
from tests.isolation.matrix import cases_of, own_values, target_of

from tenantry.capabilities.access.types import BUILT_IN_ROLES, Permission
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import Mark, Reach, RouteRegistry, RouteSpec

pytestmark = pytest.mark.xdist_group("isolation")

# The only doors without a credential, and those that ask for nothing but one: another needs a line here, and a reason.
_LOGIN = {"/auth/login", "/auth/callback", "/auth/token", "/auth/refresh"}
_PUBLIC = {"/health", "/readiness", "/readyz", "/metrics"} | _LOGIN
_AUTHENTICATED = {"/me", "/explain", "/auth/logout"}
# Lists that show what the caller may see, instead of asking for one place.
_NARROWED = {"/workspaces": Reach.ANYWHERE, "/audit": Reach.EITHER}

# What is asked with a body, and changes nothing.
_QUESTIONS = {
    "/workspaces/{ws}/labels/check",
    "/workspaces/{ws}/policies/test",
    "/workspaces/{ws}/policies/proof",
    "/tenants/{tenant}/policies/proof",
}
# What is read by its tenant's administrators alone: everything the tenant has.
_GUARDED_READS = {"/tenants/{tenant}/exports/{export}", "/tenants/{tenant}/exports/{export}/content"}


async def _parcel(parcel: str) -> None: ...


def test_every_route_has_a_case_for_every_actor_and_parameter(world: World) -> None:
    for spec in ALL_ROUTES:
        cases = list(cases_of(spec, world.us, {"neighbour": world.neighbour, "abroad": world.eu}))
        assert {case.actor.name for case in cases} == {actor.name for actor in world.us.actors}, spec.path
        assert {case.varied for case in cases} == {"", *spec.parameters}, spec.path
        for name in spec.parameters:
            variants = {case.variant for case in cases if case.varied == name}
            others = set() if name in WORDS else {"neighbour", "abroad"}
            assert variants >= {"never", "malformed"} | others, f"{spec.path} {name}"
        assert body_of(spec, world.us) is None or isinstance(json.loads(body_of(spec, world.us) or b""), dict)


def test_every_role_acts(world: World) -> None:
    roles = {actor.name.partition("/")[2] for actor in world.us.actors}
    assert roles | {"platform-admin"} == set(BUILT_IN_ROLES)


def test_one_role_of_each_kind_leaves_out_no_role_no_id_and_no_verdict(world: World) -> None:
    others, acting = {"neighbour": world.neighbour, "abroad": world.eu}, set()
    for spec in ALL_ROUTES:
        every, chosen = [
            [
                (case.actor.name, (case.varied, case.variant, case.verdict, case.actor.narrow))
                for case in cases_of(spec, world.us, others, every_role=of_all)
            ]
            for of_all in (True, False)
        ]
        assert {told for _, told in chosen} == {told for _, told in every}, spec.path
        acting |= {name for name, _ in chosen}
    assert acting == {actor.name for actor in world.us.actors}


def test_a_route_with_an_unknown_parameter_fails_the_generator(world: World) -> None:
    spec = RouteSpec(
        method="GET", path="/workspaces/{ws}/parcels/{parcel}", endpoint=_parcel, needs=Permission.JOB_READ
    )
    with pytest.raises(UnknownToTheGeneratorError, match="parcel"):
        list(cases_of(spec, world.us, {}))


def test_a_body_without_an_example_fails_the_generator(world: World) -> None:
    model = next(iter(body_models().values()))
    stranger = type("ParcelBody", (model,), {})
    with pytest.raises(UnknownToTheGeneratorError, match="ParcelBody"):
        example_of(stranger, world.us)


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "post"])
@pytest.mark.parametrize("needs", [None, "", "job:read", True, []])
def test_a_route_cannot_be_registered_without_a_permission(method: str, needs: object) -> None:
    registry = RouteRegistry()
    register: Callable[..., Any] = getattr(registry, method)
    options = {"replay": None} if method == "post" else {}
    with pytest.raises(TypeError, match="permission"):
        register("/things", needs=needs, **options)
    with pytest.raises(TypeError):
        register("/things", **options)
    assert not list(registry)


def test_a_post_cannot_be_registered_without_its_replay() -> None:
    registry = RouteRegistry()
    register: Callable[..., Any] = registry.post
    with pytest.raises(TypeError, match="replay"):
        register("/things", needs=Permission.JOB_CREATE)


def test_routes_without_a_permission_are_the_known_ones() -> None:
    assert {spec.path for spec in ALL_ROUTES if spec.needs is Mark.PUBLIC} == _PUBLIC
    assert {spec.path for spec in ALL_ROUTES if spec.needs is Mark.AUTHENTICATED} == _AUTHENTICATED


def test_routes_that_are_narrowed_otherwise_than_by_their_path_are_the_known_ones() -> None:
    assert {spec.path: spec.narrowed for spec in ALL_ROUTES if spec.narrowed is not None} == _NARROWED


def test_what_changes_something_is_no_get_and_asks_for_more_than_reading() -> None:
    for spec in ALL_ROUTES:
        if isinstance(spec.needs, Permission) and not (
            spec.socket or spec.rest
        ):  # what goes through is the tenant's own
            reads = spec.needs.endswith(":read") or spec.needs is Permission.PLATFORM_ADMIN
            reads = reads or spec.path in _GUARDED_READS
            asks = spec.method == "GET" or spec.path in _QUESTIONS
            assert reads == asks or spec.needs is Permission.PLATFORM_ADMIN, spec.path


def test_every_route_is_served_and_nothing_else_is(world: World) -> None:
    document = world.installation.platform.get("/openapi.json").json()
    served = {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    registered = {(spec.method, _template(spec)): spec for spec in ALL_ROUTES}
    assert set(served) == set(registered)
    for place, spec in registered.items():
        assert served[place]["x-permission"] == spec.needs.value


def test_each_path_and_method_is_registered_once() -> None:
    places = [(spec.method, spec.path) for spec in ALL_ROUTES]
    assert len(places) == len(set(places))


def test_own_ids_fill_every_path(world: World) -> None:
    for spec in ALL_ROUTES:
        assert "{" not in target_of(spec, own_values(spec, world.us))


def _template(spec: RouteSpec) -> str:
    return target_of(spec, {name: f"{{{name}}}" for name in spec.parameters}).partition("?")[0]
