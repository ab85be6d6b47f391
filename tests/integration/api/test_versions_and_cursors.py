"""ETag and If-Match against lost changes; cursors that open exactly the list they were made for."""

import base64
import secrets
from datetime import timedelta

import httpx
import pytest
from tests.conftest import Installation, Tenant
from tests.integration.api.conftest import Beside, problem

pytestmark = pytest.mark.xdist_group("api")


def _fresh(tenant: Tenant) -> tuple[str, str]:
    """A workspace and its ETag."""
    answer = tenant.owner.get(f"/workspaces/{tenant.workspace(secrets.token_hex(4))}")
    return str(answer.json()["id"]), answer.headers["etag"]


def test_an_unchanged_resource_is_304_without_a_body(acme: Tenant) -> None:
    workspace, etag = _fresh(acme)
    tenant = f"/tenants/{acme.id}"
    for path, tag in ((f"/workspaces/{workspace}", etag), (tenant, acme.owner.get(tenant).headers["etag"])):
        answer = acme.owner.get(path, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert acme.owner.get(path, headers={"If-None-Match": '"999"'}).status_code == 200


def test_another_tenants_etag_is_no_way_to_look(acme: Tenant, globex: Tenant) -> None:
    workspace, etag = _fresh(acme)
    problem(globex.owner.get(f"/workspaces/{workspace}", headers={"If-None-Match": etag}), 404, "not_found")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_change_on_a_stale_version_is_412_and_changes_nothing(method: str, acme: Tenant) -> None:
    workspace, stale = _fresh(acme)
    path = f"/workspaces/{workspace}"
    changed = acme.owner.patch(path, json={"name": "second"}, headers={"If-Match": stale})
    assert changed.headers["etag"] != stale
    body = {"name": "third"} if method == "PATCH" else None
    answer = acme.owner.request(method, path, json=body, headers={"If-Match": stale})
    assert problem(answer, 412, "version_mismatch")["current"] == changed.headers["etag"]
    now = acme.owner.get(path).json()
    assert (now["name"], now["status"]) == ("second", "active")
    fresh = acme.owner.request(method, path, json=body, headers={"If-Match": changed.headers["etag"]})
    assert fresh.status_code == 200


def test_a_tenants_stale_version_is_412(installation: Installation, acme: Tenant) -> None:
    path = f"/tenants/{acme.id}"
    stale = acme.owner.get(path).headers["etag"]
    assert acme.owner.patch(path, json={"name": secrets.token_hex(4)}, headers={"If-Match": stale}).status_code == 200
    problem(acme.owner.patch(path, json={"name": "lost"}, headers={"If-Match": stale}), 412, "version_mismatch")
    problem(installation.platform.delete(path, headers={"If-Match": stale}), 412, "version_mismatch")
    assert acme.owner.get(path).json()["status"] == "active"


@pytest.mark.parametrize("tag", ["x", '"x"', 'W/"1"', '"1", "2"', '"-1"', '"1e3"', f'"{"9" * 40}"', ""])
def test_what_is_no_version_matches_none(tag: str, acme: Tenant) -> None:
    workspace, _ = _fresh(acme)
    answer = acme.owner.patch(f"/workspaces/{workspace}", json={"name": "lost"}, headers={"If-Match": tag})
    problem(answer, 412, "version_mismatch")


def test_any_version_is_a_star(acme: Tenant) -> None:
    workspace, _ = _fresh(acme)
    assert (
        acme.owner.patch(f"/workspaces/{workspace}", json={"name": "any"}, headers={"If-Match": "*"}).status_code == 200
    )


# --- cursors ---------------------------------------------------------------------------------------------------------


def _paged(client: httpx.Client, path: str, **query: str) -> str:
    answer = client.get(path, params={"limit": "1", **query})
    assert answer.json()["next_cursor"], answer.text
    return str(answer.json()["next_cursor"])


def test_pages_give_every_item_once(acme: Tenant, dev: str) -> None:
    for number in range(5):
        acme.owner.post(f"/workspaces/{dev}/service-accounts", json={"name": f"paged {number} {secrets.token_hex(4)}"})
    path = f"/workspaces/{dev}/service-accounts"
    whole = [item["id"] for item in acme.owner.get(path, params={"limit": 200}).json()["items"]]
    found: list[str] = []
    cursor = None
    while True:
        page = acme.owner.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= 2
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == whole
    assert len(set(found)) == len(found) >= 5


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _tampered(cursor: str) -> list[str]:
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    later = raw[:16] + raw[16:].replace(raw[16:18], b"99", 1)
    return [
        _encode(bytes([raw[0] ^ 1]) + raw[1:]),
        _encode(raw[:-1] + bytes([raw[-1] ^ 1])),
        _encode(later),
        _encode(raw[16:]),
        _encode(b"\0" * 16 + raw[16:]),
        _encode(raw + b"\0"),
        cursor[:-4],
        cursor.swapcase(),
        "x",
        "=",
        "é",
        "%00",
        "../..",
        "A" * 400,
    ]


def test_a_tampered_cursor_opens_nothing(acme: Tenant) -> None:
    cursor = _paged(acme.owner, "/audit")
    assert acme.owner.get("/audit", params={"limit": 1, "cursor": cursor}).status_code == 200
    for other in _tampered(cursor):
        answer = acme.owner.get("/audit", params={"limit": 1, "cursor": other})
        problem(answer, 422, "cursor_invalid")
    problem(acme.owner.get("/audit", params={"cursor": "A" * 401}), 422, "invalid_request")


def test_a_cursor_opens_no_other_tenants_list(acme: Tenant, globex: Tenant) -> None:
    for path in ("/audit", "/workspaces"):
        for name in ("a", "b"):
            globex.workspace(f"{name}-{secrets.token_hex(4)}")
            acme.workspace(f"{name}-{secrets.token_hex(4)}")
        foreign = _paged(globex.owner, path)
        problem(acme.owner.get(path, params={"cursor": foreign}), 422, "cursor_invalid")
        assert globex.owner.get(path, params={"cursor": foreign}).status_code == 200


def test_a_cursor_opens_no_other_list_of_its_tenant(acme: Tenant, dev: str) -> None:
    acme.workspace(secrets.token_hex(4))
    cursor = _paged(acme.owner, "/workspaces")
    for path in ("/audit", f"/workspaces/{dev}/jobs", f"/tenants/{acme.id}/keys"):
        problem(acme.owner.get(path, params={"cursor": cursor}), 422, "cursor_invalid")
    by_slug = acme.owner.get(f"/tenants/{acme.slug}/keys", params={"cursor": _keys_cursor(acme)})
    problem(by_slug, 422, "cursor_invalid")


def _keys_cursor(tenant: Tenant) -> str:
    for _ in range(2):
        tenant.key(None, "viewer")
    return _paged(tenant.owner, f"/tenants/{tenant.id}/keys")


def test_a_cursor_of_one_workspace_opens_no_other(acme: Tenant, dev: str) -> None:
    other = acme.workspace(secrets.token_hex(4))
    for workspace in (dev, other):
        for _ in range(2):
            acme.key(workspace, "viewer")
    cursor = _paged(acme.owner, f"/workspaces/{dev}/keys")
    problem(acme.owner.get(f"/workspaces/{other}/keys", params={"cursor": cursor}), 422, "cursor_invalid")
    narrowed = acme.owner.get("/audit", params={"limit": 1}, headers={"X-Workspace-Id": dev}).json()["next_cursor"]
    problem(acme.owner.get("/audit", params={"cursor": narrowed}), 422, "cursor_invalid")


@pytest.mark.parametrize(
    "changed", [{"action": "job."}, {"outcome": "denied"}, {"since": "2020-01-01T00:00:00Z"}, {"actor": "x"}], ids=str
)
def test_a_cursor_with_other_filters_opens_nothing(changed: dict[str, str], acme: Tenant) -> None:
    cursor = _paged(acme.owner, "/audit", action="workspace.")
    problem(acme.owner.get("/audit", params={"cursor": cursor, **changed}), 422, "cursor_invalid")
    assert acme.owner.get("/audit", params={"cursor": cursor, "action": "workspace."}).status_code == 200


async def test_a_cursor_ends_after_a_day(beside: Beside, acme: Tenant) -> None:
    long_lived = acme.as_key(acme.key(None, "auditor"))
    cursor = _paged(long_lived, "/audit")
    key = long_lived.headers["authorization"].removeprefix("Bearer ")
    async with beside.client(key) as client:
        try:
            beside.clock.ahead = timedelta(hours=23, minutes=59)
            assert (await client.get("/audit", params={"cursor": cursor})).status_code == 200
            beside.clock.ahead = timedelta(hours=24, seconds=2)
            problem(await client.get("/audit", params={"cursor": cursor}), 422, "cursor_invalid")
        finally:
            beside.clock.ahead = timedelta()
