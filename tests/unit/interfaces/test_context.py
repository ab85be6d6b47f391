"""The names a request gives for tenant and workspace: all are collected, none is guessed."""

from uuid import UUID

import pytest
from starlette.requests import Request

from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.context import _single_header, _tenant_names, named_workspace

WORKSPACE = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
OTHER = UUID("01890a5d-ac96-774b-bcce-b302099a8058")
WS, OTHER_WS = format_id(Prefix.WORKSPACE, WORKSPACE), format_id(Prefix.WORKSPACE, OTHER)


def request(*headers: tuple[str, str], query: str = "", **path: str) -> Request:
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
            "path_params": path,
        }
    )


def names(*headers: tuple[str, str], query: str = "", base_domain: str | None = None, **path: str) -> set[str]:
    return _tenant_names(request(*headers, query=query, **path), base_domain=base_domain)


def test_every_name_of_a_tenant_counts() -> None:
    headers = (("X-Tenant-Id", "header"), ("Host", "host.tenants.example.com:8000"))
    found = names(*headers, query="tenant=one&tenant=two", base_domain="tenants.example.com", tenant="path")
    assert found == {"header", "host", "one", "two", "path"}
    assert names() == set()


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("acme.tenants.example.com", {"acme"}),
        ("ACME.Tenants.Example.com:443", {"acme"}),
        ("acme.tenants.example.com.", {"acme"}),
        ("acme.tenants.example.com.:443", {"acme"}),
        ("a.b.tenants.example.com", {"a.b"}),
        ("tenants.example.com", set()),
        ("eviltenants.example.com", set()),
        ("acme.tenants.example.com.evil.com", set()),
        ("127.0.0.1:8000", set()),
    ],
)
def test_a_host_names_a_tenant_only_below_the_base_domain(host: str, found: set[str]) -> None:
    assert names(("Host", host), base_domain="tenants.example.com") == found
    assert names(("Host", host)) == set()


def test_a_host_that_stands_twice_is_refused() -> None:
    for other in ("acme.tenants.example.com", "globex.tenants.example.com"):
        with pytest.raises(Invalid) as refused:
            names(("Host", "acme.tenants.example.com"), ("Host", other), base_domain="tenants.example.com")
        assert refused.value.code == "header_ambiguous"


@pytest.mark.parametrize("name", ["X-Tenant-Id", "X-Workspace-Id"])
@pytest.mark.parametrize("values", [["a", "a"], ["a", "b"], ["a,b"], [""], ["a,"], ["", "a"]])
def test_a_header_that_does_not_stand_once_is_refused(name: str, values: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        _single_header(request(*((name, value) for value in values)), name.lower())
    assert refused.value.code == "header_ambiguous"


def test_a_workspace_is_named_by_path_or_header_or_both_alike() -> None:
    assert named_workspace(request()) is None
    assert named_workspace(request(ws=WS)) == WORKSPACE
    assert named_workspace(request(("X-Workspace-Id", WS))) == WORKSPACE
    assert named_workspace(request(("X-Workspace-Id", WS), ws=WS)) == WORKSPACE


def test_two_workspaces_are_refused() -> None:
    with pytest.raises(Invalid) as refused:
        named_workspace(request(("X-Workspace-Id", OTHER_WS), ws=WS))
    assert refused.value.code == "header_ambiguous"


@pytest.mark.parametrize("name", [WS.upper(), WS[3:], "ws_1", f"ten_{WS[3:]}", f"{WS}0", "*"])
def test_what_is_no_workspace_is_refused(name: str) -> None:
    for asked in (request(ws=name), request(("X-Workspace-Id", name))):
        with pytest.raises(Invalid) as refused:
            named_workspace(asked)
        assert refused.value.code == "id_malformed"
