"""A route says what it needs, or it cannot be registered; its path tells where that must be held."""

from typing import Any

import pytest

from tenantry.capabilities.access.types import Permission
from tenantry.interfaces.api.routing import Mark, Reach, RouteRegistry, RouteSpec

METHODS = ["get", "put", "patch", "delete", "post"]


async def endpoint() -> None:
    return None


def options(method: str) -> dict[str, Any]:
    return {"replay": None} if method == "post" else {}


@pytest.mark.parametrize("method", METHODS)
def test_a_route_without_a_permission_cannot_be_registered(method: str) -> None:
    routes = RouteRegistry()
    with pytest.raises(TypeError, match="needs"):
        getattr(routes, method)("/jobs", **options(method))
    assert list(routes) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("needs", [None, "", "job:read", "public", True, 0, (), [Permission.JOB_READ]])
def test_a_route_whose_need_is_no_permission_cannot_be_registered(method: str, needs: Any) -> None:
    routes = RouteRegistry()
    with pytest.raises(TypeError, match="needs a permission"):
        getattr(routes, method)("/jobs", needs=needs, **options(method))
    assert list(routes) == []


def test_a_post_without_a_word_on_repeats_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match="replay"):
        RouteRegistry().post("/jobs", needs=Permission.JOB_CREATE)  # type: ignore[call-arg]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("needs", [Permission.JOB_READ, Mark.PUBLIC, Mark.AUTHENTICATED])
def test_a_registered_route_is_what_was_said(method: str, needs: Permission | Mark) -> None:
    routes = RouteRegistry()
    assert getattr(routes, method)("/jobs/{job}", needs=needs, status=202, **options(method))(endpoint) is endpoint
    (spec,) = routes
    assert (spec.method, spec.path, spec.needs, spec.status) == (method.upper(), "/jobs/{job}", needs, 202)
    assert spec.endpoint is endpoint
    assert [spec.platform, spec.closed_too, spec.raw_body] == [False] * 3


@pytest.mark.parametrize(
    ("path", "narrowed", "reach"),
    [
        ("/workspaces/{ws}/jobs", None, Reach.WORKSPACE),
        ("/workspaces/{ws}/jobs/{job}", None, Reach.WORKSPACE),
        ("/tenants/{tenant}", None, Reach.TENANT),
        ("/keys", None, Reach.TENANT),
        ("/news", None, Reach.TENANT),
        ("/workspaces/{wsx}", None, Reach.TENANT),
        ("/workspaces", Reach.ANYWHERE, Reach.ANYWHERE),
        ("/audit", Reach.EITHER, Reach.EITHER),
    ],
)
def test_the_path_tells_where_the_permission_must_be_held(path: str, narrowed: Reach | None, reach: Reach) -> None:
    spec = RouteSpec(method="GET", path=path, endpoint=endpoint, needs=Permission.JOB_READ, narrowed=narrowed)
    assert spec.reach is reach
