"""The way to the provider and back: nobody can begin it for another, end it twice, or bend where it leads."""

import asyncio
import secrets
from datetime import timedelta

import asyncpg
import httpx
import pytest
from tests.integration.api.conftest import Beside, problem
from tests.integration.logins.conftest import PROGRAM, Ground, MakeGround, challenge
from tests.issuer import CLIENT_ID, Person, query_of, target_of

from tenantry.capabilities.identity.service.flows import OPEN_FLOWS_OF_ADDRESS


def _back(ground: Ground, person: Person) -> str:
    """Log in at the provider; gives the address it sends the browser back to, not yet opened."""
    answer = person.go(ground.begin(), until=f"{ground.api}/auth/callback")
    return target_of(answer)


def _flow_cookie(person: Person) -> dict[str, str]:
    return {"Cookie": f"tenantry-flow={person.browser.cookies['tenantry-flow']}"}


def _with(url: str, **changes: str | None) -> str:
    query = {name: value for name, value in {**query_of(url), **changes}.items() if value is not None}
    return str(httpx.URL(url.partition("?")[0], params=query))


def test_what_comes_back_counts_once(ground: Ground) -> None:
    person = ground.person()
    url = _back(ground, person)
    kept = _flow_cookie(person)
    assert person.browser.get(url).status_code == 302
    for headers in ({}, kept):
        answer = httpx.get(url, headers=headers)
        problem(answer, 401, "login_refused")
        assert "set-cookie" not in answer.headers


def test_another_browser_cannot_end_it(ground: Ground) -> None:
    """Login CSRF: the attacker's own login, in the victim's browser."""
    attacker, victim = ground.person(), ground.person()
    url = _back(ground, attacker)
    victim.browser.get(ground.begin())  # the victim has begun one of its own, and has that one's cookie
    problem(victim.browser.get(url), 401, "login_refused")
    assert "tenantry" not in victim.browser.cookies
    # It is used up: whoever saw the address has nothing of it.
    problem(attacker.browser.get(url), 401, "login_refused")
    assert ground.events("login.refused")[0]["reason"] == "another_browser"


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "x"},
        {"state": ""},
        {"state": None},
        {"state": "tenantry_us_flw00000000000000000000000000_" + "0" * 32 + "_000000"},
        {"code": None},
        {"code": "stolen"},
        {"iss": "https://evil.example"},
        {"iss": None},
    ],
    ids=str,
)
def test_a_bent_answer_is_refused(ground: Ground, changes: dict[str, str | None]) -> None:
    person = ground.person()
    answer = person.browser.get(_with(_back(ground, person), **changes))
    assert answer.status_code in (401, 403, 422), answer.text
    assert answer.json()["code"] in ("login_refused", "issuer_unusable", "invalid_request")
    assert "tenantry" not in person.browser.cookies


def test_parameters_that_stand_twice_are_refused(ground: Ground) -> None:
    person = ground.person()
    url = _back(ground, person)
    problem(person.browser.get(f"{url}&code=other"), 401, "login_refused")
    problem(person.browser.get(f"{url}&state=other"), 401, "login_refused")


def test_the_state_of_one_tenant_is_nothing_in_another(ground: Ground, make_ground: MakeGround) -> None:
    other = make_ground()
    person = other.person()
    mine = query_of(_back(ground, person))
    theirs = _back(other, person)
    problem(person.browser.get(_with(theirs, code=mine["code"])), 403, "issuer_unusable")


def test_a_code_put_into_another_flow_is_refused_by_the_provider(ground: Ground) -> None:
    """PKCE and nonce: the attacker has the victim's code and a flow of their own."""
    victim, attacker = ground.person(), ground.person()
    stolen = query_of(_back(ground, victim))["code"]
    answer = attacker.browser.get(_with(_back(ground, attacker), code=stolen))
    problem(answer, 403, "issuer_unusable")
    assert ground.events("login.refused")[0]["reason"] == "issuer_unusable"


def test_what_the_provider_declines_is_told_as_its_word_alone(ground: Ground) -> None:
    person = ground.person()
    url = _with(_back(ground, person), code=None, error="access_denied")
    assert problem(person.browser.get(url), 403, "provider_declined")["reason"] == "access_denied"
    url = _with(_back(ground, person), code=None, error="<script>")
    assert "script" not in person.browser.get(url).text


def test_a_program_hears_of_a_refusal_at_its_own_address(ground: Ground) -> None:
    person = ground.person(email="x@elsewhere.example")
    told = ground.code(person)[0]
    assert told == "no_membership"


@pytest.mark.parametrize(
    "redirect",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\tevil",
        "/x\\y",
        "https://evil.example",
        "http://evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "evil.example",
        "http://localhost:7777/done",
        "http://127.0.0.1/done",
        "http://127.0.0.1:7777@evil.example/",
        "http://127.0.0.1:7777.evil.example/",
        "http://127.0.0.2:7777/",
        "http://0.0.0.0:7777/",
        "http://user@127.0.0.1:7777/",
        "http://127.0.0.1:7777/x#y",
        "https://127.0.0.1:7777/",
        "/" + "x" * 600,
        "/é",
        "",
    ],
)
def test_it_leads_nowhere_else(ground: Ground, redirect: str) -> None:
    query = challenge(secrets.token_urlsafe(48))
    answer = httpx.get(ground.begin(redirect=redirect, **query))
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in ("redirect_refused", "invalid_request")


@pytest.mark.parametrize("redirect", ["/", "/a/b?c=d#e", "/%2F%2Fevil.example", PROGRAM, "http://[::1]:1/x"])
def test_it_leads_where_it_may(ground: Ground, redirect: str) -> None:
    assert httpx.get(ground.begin(redirect=redirect, **challenge("v" * 43))).status_code == 302


def test_an_address_that_the_provider_names_is_one_to_the_letter(make_ground: MakeGround) -> None:
    ground = make_ground(redirects=["com.example.app:/done", "https://app.example/done"])
    query = challenge("v" * 43)
    for redirect, status in (
        ("com.example.app:/done", 302),
        ("https://app.example/done", 302),
        ("https://app.example/done/", 422),
        ("https://app.example/done?x=y", 422),
        ("com.example.app:/", 422),
    ):
        assert httpx.get(ground.begin(redirect=redirect, **query)).status_code == status, redirect


def test_unknown_tenants_and_providers_read_the_same(ground: Ground, make_ground: MakeGround) -> None:
    disabled = make_ground()
    path = f"{disabled.providers}/{disabled.provider['id']}"
    assert disabled.tenant.owner.patch(path, json={"status": "disabled"}).status_code == 200
    queries: list[dict[str, str]] = [
        {"tenant": "nobody-here", "provider": "corp"},
        {"tenant": "nobody-here"},
        {"tenant": ground.tenant.slug, "provider": "nobody"},
        {"tenant": disabled.tenant.slug, "provider": "corp"},
        {"tenant": disabled.tenant.slug},
        {"tenant": "platform"},
    ]
    told = set()
    for query in queries:
        answer = httpx.get(f"{ground.api}/auth/login", params=query)
        found = problem(answer, 404, "login_unavailable")
        told.add(found["detail"])
        assert "set-cookie" not in answer.headers
    assert len(told) == 1


@pytest.mark.parametrize("tenant", ["A", "x" * 41, "a/b", "a%00b", "ä", "a b", ""])
def test_names_that_can_be_none_are_refused_unread(ground: Ground, tenant: str) -> None:
    answer = httpx.get(f"{ground.api}/auth/login?tenant={tenant}")
    assert answer.status_code in (400, 422), answer.text


def test_logins_under_way_are_bounded(make_ground: MakeGround) -> None:
    ground = make_ground()
    with httpx.Client() as client:
        for _ in range(OPEN_FLOWS_OF_ADDRESS):
            assert client.get(ground.begin()).status_code == 302
        answer = client.get(ground.begin())
    problem(answer, 429, "logins_under_way")
    assert answer.headers["retry-after"] == "60"


async def test_what_is_stored_of_a_login_under_way_opens_nothing(ground: Ground) -> None:
    """A dump of the tables holds neither state nor nonce, verifier, code, cookie or token; nor the client's secret."""
    person = ground.person()
    seen = await asyncio.to_thread(_everything_secret, ground, person)
    dsn = ground.tenant.installation.addresses.cells["us"].owner
    connection = await asyncpg.connect(dsn)
    try:
        for table in ("identity_providers", "login_flows", "logins", "refresh_tokens", "audit_events"):
            await connection.execute(f"alter table tenantry.{table} no force row level security")
            try:
                rows = await connection.fetch(f"select t::text as row from tenantry.{table} t")
            finally:
                await connection.execute(f"alter table tenantry.{table} force row level security")
            text = "\n".join(row["row"] for row in rows)
            assert rows, table
            for secret in seen:
                assert secret not in text, table
                assert secret.encode().hex() not in text, table
    finally:
        await connection.close()


def _everything_secret(ground: Ground, person: Person) -> list[str]:
    ground.log_in(person)
    tokens = ground.tokens(person)
    begun = query_of(httpx.get(ground.begin()).headers["location"])
    secret = "a secret: with / signs & spaces"
    return [person.browser.cookies["tenantry"], tokens.access, tokens.refresh, begun["state"], begun["nonce"], secret]


async def test_a_flow_waits_for_ten_minutes(ground: Ground, beside: Beside) -> None:
    person = ground.person()
    async with beside.client("") as client:
        url = await asyncio.to_thread(_back, ground, person)
        beside.clock.ahead = timedelta(minutes=10, seconds=5)
        answer = await client.get("/auth/callback", params=query_of(url), headers=_flow_cookie(person))
        problem(answer, 401, "login_refused")


def test_where_nobody_said_its_address_a_server_begins_nothing_for_others(ground: Ground) -> None:
    answer = httpx.get(ground.begin(), headers={"Host": "evil.example"})
    problem(answer, 503, "public_url_missing")
    answer = httpx.get(ground.begin(), headers={"Host": "127.0.0.1.evil.example"})
    problem(answer, 503, "public_url_missing")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"code": 1}', b'{"code": "x", "code": "y", "code_verifier": "z"}', b"null", b'"x"'],
)
def test_bodies_of_the_token_routes_are_strict(ground: Ground, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("token", "refresh"):
        answer = httpx.post(f"{ground.api}/auth/{path}", content=body, headers=headers)
        assert answer.status_code in (400, 422), answer.text
    large = httpx.post(f"{ground.api}/auth/token", content=b" " * (2 << 20), headers=headers)
    problem(large, 413, "body_too_large")
    form = httpx.post(f"{ground.api}/auth/token", data={"client_id": CLIENT_ID})
    problem(form, 415, "content_type_unsupported")
