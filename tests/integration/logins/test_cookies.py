"""The console's cookie: of no use to another site, and never one that the browser brought along."""

from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import OpenBeside, problem
from tests.integration.logins.conftest import Ground
from tests.issuer import Person

from tenantry.foundation.ids import Prefix, format_id, new_id

BODY = {"name": "mine", "owner": {"type": "team", "id": "core"}}


@pytest.fixture
def person(ground: Ground) -> Person:
    """Somebody who is in."""
    inside = ground.person()
    assert ground.log_in(inside).status_code == 302
    return inside


def _token(ground: Ground, person: Person) -> str:
    return str(person.browser.get(f"{ground.api}/me").json()["login"]["csrf_token"])


def _leave(ground: Ground, person: Person, **headers: str) -> httpx.Response:
    return person.browser.post(f"{ground.api}/auth/logout", json={}, headers=headers)


def test_a_change_needs_origin_and_token(ground: Ground, person: Person) -> None:
    origin, token = ground.tenant.installation.url, _token(ground, person)
    refused: list[dict[str, str]] = [
        {},
        {"Origin": origin},
        {"X-CSRF-Token": token},
        {"Origin": origin, "X-CSRF-Token": ""},
        {"Origin": origin, "X-CSRF-Token": token[:-1]},
        {"Origin": origin, "X-CSRF-Token": token + "x"},
        {"Origin": "null", "X-CSRF-Token": token},
        {"Origin": "https://evil.example", "X-CSRF-Token": token},
        {"Origin": f"{origin}.evil.example", "X-CSRF-Token": token},
        {"Origin": origin.replace("http:", "https:"), "X-CSRF-Token": token},
        {"Origin": f"{origin}/path", "X-CSRF-Token": token},
        {"Referer": origin, "X-CSRF-Token": token},
    ]
    for headers in refused:
        problem(_leave(ground, person, **headers), 403, "csrf_refused")
    assert _leave(ground, person, Origin=origin, **{"X-CSRF-Token": token}).status_code == 200


def test_the_token_of_another_login_does_not_count(ground: Ground, person: Person) -> None:
    other = ground.person()
    ground.log_in(other)
    headers = {"Origin": ground.tenant.installation.url, "X-CSRF-Token": _token(ground, other)}
    problem(_leave(ground, person, **headers), 403, "csrf_refused")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_unsafe_method_is_guarded_so(ground: Ground, person: Person, method: str) -> None:
    path = {"POST": "/workspaces", "PUT": f"/tenants/{ground.tenant.id}/labels"}.get(
        method, f"/tenants/{ground.tenant.id}/identity-providers/{ground.provider['id']}"
    )
    answer = person.browser.request(method, f"{ground.api}{path}", json={})
    problem(answer, 403, "csrf_refused")


def test_a_form_of_another_site_changes_nothing(ground: Ground, person: Person) -> None:
    """What a browser would send: the cookie, if it were let, a foreign origin, and no header of ours."""
    headers = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    answer = person.browser.post(f"{ground.api}/auth/logout", content=b"{}", headers=headers)
    problem(answer, 403, "csrf_refused")
    assert person.browser.get(f"{ground.api}/me").status_code == 200


def test_logging_in_gives_a_new_cookie_and_what_was_planted_is_none(ground: Ground) -> None:
    victim, attacker = ground.person(), ground.person()
    ground.log_in(attacker)
    planted = attacker.browser.cookies["tenantry"]
    victim.browser.cookies.set("tenantry", planted, domain="127.0.0.1", path="/")
    ground.log_in(victim)
    own = victim.browser.cookies["tenantry"]
    assert own != planted
    first = victim.browser.get(f"{ground.api}/me").json()["principal"]["id"]
    assert first != attacker.browser.get(f"{ground.api}/me").json()["principal"]["id"]
    ground.log_in(victim)
    assert victim.browser.cookies["tenantry"] != own


def test_two_credentials_are_one_too_many(ground: Ground, person: Person) -> None:
    key = {"Authorization": f"Bearer {ground.tenant.bootstrap_key}"}
    problem(person.browser.get(f"{ground.api}/me", headers=key), 400, "credentials_disagree")
    cookie = person.browser.cookies["tenantry"]
    twice = {"Cookie": f"tenantry={cookie}; tenantry={cookie}"}
    problem(httpx.get(f"{ground.api}/me", headers=twice), 400, "header_ambiguous")


@pytest.mark.parametrize("value", ["x", "tenantry_us_lgn_x", "a" * 5000, '"quoted"', "%00"])
def test_a_cookie_that_is_none_opens_nothing(ground: Ground, value: str) -> None:
    problem(httpx.get(f"{ground.api}/me", headers={"Cookie": f"tenantry={value}"}), 401, "credential_refused")


def test_a_cookie_whose_secret_is_wrong_is_refused_alike(ground: Ground, person: Person) -> None:
    from tenantry.capabilities.identity.types import Secret, make_secret, read_secret

    cookie = read_secret(person.browser.cookies["tenantry"], Secret.COOKIE)
    assert cookie is not None
    made: Any = make_secret(Secret.COOKIE, region=cookie.region, tenant_id=cookie.tenant_id).text
    problem(httpx.get(f"{ground.api}/me", headers={"Cookie": f"tenantry={made}"}), 401, "credential_refused")


async def test_over_https_the_cookies_name_and_attributes_keep_it_here(ground: Ground, open_https: OpenBeside) -> None:
    async with open_https() as secure, secure.client("") as client:
        query = {"tenant": ground.tenant.slug, "provider": "corp", "redirect": "/"}
        answer = await client.get("/auth/login", params=query)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-tenantry-flow=")
        for attribute in ("Secure", "HttpOnly", "Path=/", "SameSite=lax"):
            assert attribute in cookie
        assert "Domain" not in cookie
        assert "redirect_uri=https%3A%2F%2Ftenantry.example%2Fapi%2Fv1%2Fauth%2Fcallback" in answer.headers["location"]
        # The name without the prefix, which anybody could plant, is not looked at there.
        plain = await client.get("/me", headers={"Cookie": "tenantry=x"})
        assert plain.json()["code"] == "credential_missing"


_HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def test_another_sites_page_opens_no_websocket(ground: Ground, person: Person) -> None:
    """A browser sends the cookie with any handshake and lets any page read what comes: `Origin` tells them apart."""
    workspace = ground.tenant.workspace("sockets")
    sandbox = format_id(Prefix.SANDBOX, new_id())
    origin = ground.tenant.installation.url
    for path in (
        f"/workspaces/{workspace}/sandboxes/{sandbox}/terminal",
        f"/workspaces/{workspace}/sandboxes/{sandbox}/tunnels/80",
    ):
        for found in ("https://evil.example", "null", f"{origin}.evil.example", f"{origin}/path", "", None):
            shown = {} if found is None else {"Origin": found}
            answer = person.browser.get(f"{ground.api}{path}", headers={**_HANDSHAKE, **shown})
            problem(answer, 403, "csrf_refused")
        twice = [*_HANDSHAKE.items(), ("Origin", origin), ("Origin", "https://evil.example")]
        assert person.browser.get(f"{ground.api}{path}", headers=twice).status_code == 400  # two are no handshake
        own = person.browser.get(f"{ground.api}{path}", headers={**_HANDSHAKE, "Origin": origin})
        problem(own, 403, "permission_missing")  # let in as who it is, and judged
