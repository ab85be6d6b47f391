"""What cannot be read is refused with a problem that says which rule it breaks, and nothing of it is done."""

import contextlib
import json
from typing import Any

import httpx
import pytest
from tests.conftest import Installation, Tenant
from tests.integration.api.conftest import problem

pytestmark = pytest.mark.xdist_group("api")

GOOD = {"name": "good", "owner": {"type": "team", "id": "core"}}


def _count(tenant: Tenant) -> int:
    return len(tenant.owner.get("/workspaces", params={"limit": 200}).json()["items"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("", "body"),
        ("[]", "body"),
        ('"text"', "body"),
        ("null", "body"),
        ('{"name": "a", "name": "b"}', "stands twice"),
        ('{"name": "a", "owner": {"type": "team", "id": "x", "id": "y"}}', "stands twice"),
        ('{"name": NaN}', "NaN"),
        ('{"name": Infinity}', "Infinity"),
        ('{"name": 1e999}', "too large"),
        ('{"name": ' + "1" * 5000 + "}", "not JSON"),
        ('{"name": "a\\u0000b"}', "NUL"),
        ('{"a\\u0000b": 1}', "NUL"),
        ('{"name": "\\ud800"}', "surrogate"),
        ("[" * 100 + "]" * 100, "nested deeper"),
        ("[" * 200_000 + "]" * 200_000, "nested deeper"),
        ('{"a":' * 50 + "1" + "}" * 50, "nested deeper"),
        ('{"name": "a",}', "not JSON"),
        ("{'name': 'a'}", "not JSON"),
        ('{"name": "a"} {"name": "b"}', "not JSON"),
        ("\ufeff{}", "BOM"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_that_is_not_strict_json_makes_nothing(text: str, told: str, acme: Tenant) -> None:
    before = _count(acme)
    answer = acme.owner.post("/workspaces", content=text.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    found = problem(answer, answer.status_code, "body_unreadable" if answer.status_code == 400 else "invalid_request")
    assert told in found["detail"]
    assert _count(acme) == before


def test_a_body_that_is_not_utf8_is_refused(acme: Tenant) -> None:
    good = json.dumps(GOOD)
    for content in (good.replace("good", "é").encode("latin-1"), good.encode("utf-16"), good.encode("utf-32-be")):
        answer = acme.owner.post("/workspaces", content=content, headers={"Content-Type": "application/json"})
        problem(answer, 400, "body_unreadable")


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"name": 1},
        {"name": None},
        {"name": ""},
        {"name": "x" * 121},
        {"name": " padded "},
        {"name": "two\nlines"},
        {"name": "bell\u0007"},
        {"name": "\u202eright to left"},
        {"owner": "core"},
        {"owner": {"type": "team", "id": "core", "role": "admin"}},
        {"owner": {"type": "robot", "id": "core"}},
        {"owner": {"type": "team", "id": "../core"}},
        {"path": "/etc/passwd"},
        {"path": "teams/../x"},
        {"path": "teams/UPPER"},
        {"path": "teams/a/b/c"},
        {"path": "teams/a\n"},
        {"settings": {"max_job_timeout_seconds": "60"}},
        {"settings": {"max_job_timeout_seconds": True}},
        {"settings": {"max_job_timeout_seconds": -1}},
        {"settings": {"max_job_timeout_seconds": 1e308}},
        {"settings": {"retention_days": 0}},
        {"settings": {"persistence_mode": "everything"}},
        {"settings": {"unknown": 1}},
    ],
    ids=repr,
)
def test_a_field_that_breaks_its_rule_is_named_and_makes_nothing(changes: dict[str, Any], acme: Tenant) -> None:
    before = _count(acme)
    found = problem(acme.owner.post("/workspaces", json={**GOOD, **changes}), 422, "invalid_request")
    assert next(iter(changes)) in found["errors"][0]["field"]
    assert _count(acme) == before


def test_what_was_sent_is_not_echoed(acme: Tenant, dev: str) -> None:
    """It may be a secret in the wrong field."""
    body = {"name": 7, "roles": ["viewer"], "password": "hunter2-canary"}
    answer = acme.owner.post(f"/workspaces/{dev}/keys", json=body)
    problem(answer, 422, "invalid_request")
    assert "canary" not in answer.text


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_a_body_of_another_type_is_415(kind: str, acme: Tenant) -> None:
    answer = acme.owner.post("/workspaces", content=json.dumps(GOOD).encode(), headers={"Content-Type": kind})
    problem(answer, 415, "content_type_unsupported")


def test_a_giant_body_is_413_announced_or_not(installation: Installation, acme: Tenant) -> None:
    limit = installation.settings.server.max_body_bytes
    headers = {"Content-Type": "application/json"}
    giant = b'{"name": "' + b"x" * limit + b'"}'
    found = problem(acme.owner.post("/workspaces", content=giant, headers=headers), 413, "body_too_large")
    assert found["limit"] == limit
    pieces = (giant[start : start + 65536] for start in range(0, len(giant), 65536))
    # Refused while it is still being sent is as good.
    with contextlib.suppress(httpx.WriteError):
        problem(acme.owner.post("/workspaces", content=pieces, headers=headers), 413, "body_too_large")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "x",
            "ws_",
            "ws_0",
            "job_01m00000000000000000000000",
            "ws_" + "8" * 26,
            "ws_" + "i" * 26,
            "ws_" + "A" * 26,
        ),
        *("ws_" + "0" * 25, "ws_" + "0" * 27, "ws_" + "0" * 10_000, "WS_" + "0" * 26, " ws_" + "0" * 26),
        *("ws_" + "0" * 25 + "é", "' or 1=1 --", "${jndi:ldap://x}", "../../etc/passwd", "*", "null", "-1", "%s%s%n"),
    ],
)
def test_what_is_no_id_is_422_or_nowhere(name: str, acme: Tenant) -> None:
    answer = acme.owner.get(f"/workspaces/{name}" if name else "/workspaces/")
    assert (answer.status_code, answer.json()["code"]) in ((422, "id_malformed"), (404, "not_found"))
    assert name not in answer.text or len(name) < 8


@pytest.mark.parametrize("address", ["/workspaces/%00", "/audit?actor=%00", "/audit?resource=a%00b", "/tenants/%00"])
def test_nul_in_an_address_is_400_for_everybody(address: str, acme: Tenant, installation: Installation) -> None:
    for client in (acme.owner, installation.platform):
        problem(client.get(address), 400, "address_unreadable")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "-1"},
        {"limit": "x"},
        {"limit": "1e3"},
        {"since": "yesterday"},
        {"since": "2030-01-01T00:00:00"},
        {"since": "0001-01-01T00:00:00+12:00"},
        {"until": "9999-12-31T23:59:59-12:00"},
        {"until": "10000-01-01T00:00:00Z"},
        {"outcome": "maybe"},
        {"actor": "x" * 61},
        {"workspace": "dev"},
    ],
    ids=str,
)
def test_a_query_that_breaks_its_rule_is_422(query: dict[str, str], acme: Tenant) -> None:
    answer = acme.owner.get("/audit", params=query)
    problem(answer, 422, "id_malformed" if "workspace" in query else "invalid_request")


@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "soon", 4e9, "1700000000"]
)
def test_a_moment_outside_of_the_calendar_makes_no_key(moment: object, acme: Tenant, dev: str) -> None:
    body = {"name": "x", "roles": ["viewer"], "expires_at": moment}
    problem(acme.owner.post(f"/workspaces/{dev}/keys", json=body), 422, "invalid_request")


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/workspaces/", 404), ("/me/", 404)])
def test_an_address_that_is_none_is_a_problem_too(path: str, status: int, acme: Tenant) -> None:
    problem(acme.owner.get(path), status, "not_found")


def test_a_verb_that_an_address_does_not_know_is_a_problem_too(acme: Tenant) -> None:
    answer = acme.owner.put("/me", json={})
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"
