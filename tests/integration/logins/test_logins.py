"""People come in by a real identity provider, and stay no longer than they should."""

import httpx
from tests.integration.api.conftest import problem
from tests.integration.logins.conftest import Ground, MakeGround
from tests.issuer import Issuer, query_of


def test_a_person_logs_in_at_the_console(ground: Ground) -> None:
    person = ground.person()
    answer = ground.log_in(person)
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"] == "/home"
    me = person.browser.get(f"{ground.api}/me").json()
    assert me["tenant"]["slug"] == ground.tenant.slug
    assert me["login"]["kind"] == "web"
    assert me["principal"]["type"] == "user"
    assert "audit:read" in me["permissions"]


def test_a_program_gets_tokens_of_its_own(ground: Ground) -> None:
    tokens = ground.tokens(ground.person())
    me = ground.me(tokens.access).json()
    assert me["login"] == {**me["login"], "kind": "program", "csrf_token": None}
    assert ground.refresh(tokens.refresh).status_code == 200


def test_a_rotated_key_of_the_provider_is_found(ground: Ground) -> None:
    assert ground.log_in(ground.person()).status_code == 302
    ground.issuer.rotate()
    assert ground.log_in(ground.person()).status_code == 302


def test_somebody_without_rule_and_invitation_is_refused_clearly(ground: Ground) -> None:
    problem(ground.log_in(ground.person(email="x@elsewhere.example")), 403, "no_membership")
    problem(ground.log_in(ground.person(email_verified=False)), 403, "no_membership")


def test_the_provider_is_asked_with_everything_that_ties_its_answer(ground: Ground) -> None:
    answer = httpx.get(ground.begin())
    query = query_of(answer.headers["location"])
    assert query["response_type"] == "code"
    assert query["code_challenge_method"] == "S256"
    assert len(query["state"]) > 40
    assert len(query["nonce"]) >= 43
    assert len(query["code_challenge"]) == 43
    assert query["scope"].split()[0] == "openid"
    assert answer.headers["referrer-policy"] == "no-referrer"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_another_provider_of_the_same_tenant_lets_in_as_well(make_ground: MakeGround, make_issuer: object) -> None:
    second: Issuer = make_issuer(secret=None, options={"conform": False})  # type: ignore[operator]
    ground = make_ground()
    body = {"slug": "second", "name": "Second", "issuer": second.url, "client_id": "tenantry-test"}
    rules = [{"claim": "groups", "contains": "admins", "role": "tenant-admin"}]
    made = ground.tenant.owner.post(ground.providers, json={**body, "scopes": ["groups"], "rules": rules})
    assert made.status_code == 201, made.text
    other = Ground(ground.tenant, second, made.json())
    person = other.person(groups=["staff", "admins"])
    assert other.log_in(person).status_code == 302
    assert "tenant:admin" in person.browser.get(f"{ground.api}/me").json()["permissions"]
    assert ground.log_in(ground.person()).status_code == 302
    # Which of two is meant has to be said.
    unnamed = httpx.get(f"{ground.api}/auth/login", params={"tenant": ground.tenant.slug})
    problem(unnamed, 404, "login_unavailable")
    other.close()
