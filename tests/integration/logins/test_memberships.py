"""What people get: what rules and invitations give, at each login anew, and never more than who wrote them holds."""

from typing import Any

import httpx
import pytest
from tests.conftest import MakeTenant
from tests.integration.api.conftest import OpenBeside, problem
from tests.integration.logins.conftest import Ground, MakeGround, provider_body
from tests.issuer import Issuer, Person

ADMINS = [{"claim": "groups", "contains": "admins", "role": "tenant-admin"}]


def _permissions(ground: Ground, person: Person) -> list[str]:
    found: list[str] = person.browser.get(f"{ground.api}/me").json()["permissions"]
    return found


def _member(ground: Ground, person: Person) -> str:
    return str(person.browser.get(f"{ground.api}/me").json()["principal"]["id"])


def test_roles_follow_the_claims_at_each_login(make_ground: MakeGround) -> None:
    ground = make_ground(rules=[*ADMINS, {"claim": "groups", "contains": "staff", "role": "viewer"}])
    person = ground.person(groups=["admins", "staff"])
    ground.log_in(person)
    assert "tenant:admin" in _permissions(ground, person)
    earlier = ground.tokens(person)
    ground.issuer.account(person.login, groups=["staff"])
    ground.log_in(person)
    assert "tenant:admin" not in _permissions(ground, person)
    # The logins from before have no more: permissions are not in them.
    assert "tenant:admin" not in ground.me(earlier.access).json()["permissions"]
    ground.issuer.account(person.login, groups=[])
    problem(ground.log_in(person), 403, "no_membership")
    assert ground.me(earlier.access).json()["permissions"] == []


def test_no_claim_takes_the_last_administrator_away(make_ground: MakeGround) -> None:
    ground = make_ground(rules=ADMINS)
    person = ground.person(groups=["admins"])
    ground.log_in(person)
    headers = {"Authorization": f"Bearer {ground.tokens(person).access}"}
    members = f"{ground.api}/tenants/{ground.tenant.id}/members"
    owner = next(
        each["id"]
        for each in httpx.get(members, headers=headers).json()["items"]
        if each["id"] != _member(ground, person)
    )
    disabled = httpx.patch(f"{members}/{owner}", headers=headers, json={"status": "disabled"})
    assert disabled.status_code == 200, disabled.text
    ground.issuer.account(person.login, groups=[])
    assert ground.log_in(person).status_code == 302
    assert "tenant:admin" in _permissions(ground, person)
    events = httpx.get(f"{ground.api}/audit", headers=headers, params={"action": "binding.kept"}).json()["items"]
    assert [event["reason"] for event in events] == ["last_admin"]


def test_what_somebody_gave_by_hand_no_claim_takes_away(make_ground: MakeGround) -> None:
    ground = make_ground(rules=[{"claim": "groups", "contains": "staff", "role": "viewer"}])
    person = ground.person(groups=["staff"])
    ground.log_in(person)
    body = {"principal": _member(ground, person), "role": "viewer"}
    assert ground.tenant.owner.post(f"/tenants/{ground.tenant.id}/bindings", json=body).status_code == 201
    ground.issuer.account(person.login, groups=[])
    assert ground.log_in(person).status_code == 302
    assert "job:read" in _permissions(ground, person)


def test_a_role_in_a_workspace_is_one_there(make_ground: MakeGround) -> None:
    ground = make_ground(rules=[])
    workspace = ground.tenant.workspace()
    rules = [{"claim": "groups", "contains": "ci", "role": "ci", "workspace": workspace}]
    path = f"{ground.providers}/{ground.provider['id']}"
    assert ground.tenant.owner.patch(path, json={"rules": rules}).json()["rules"][0]["workspace"] == workspace
    person = ground.person(groups=["ci"])
    ground.log_in(person)
    me = person.browser.get(f"{ground.api}/me").json()
    assert me["permissions"] == []
    assert [place["id"] for place in me["workspaces"]] == [workspace]


def test_an_invitation_is_taken_up_by_a_verified_address_once(make_ground: MakeGround) -> None:
    ground = make_ground(rules=[])
    path = f"/tenants/{ground.tenant.id}/invitations"
    body = {"email": "Guest@Example.com", "role": "auditor"}
    made = ground.tenant.owner.post(path, json=body).json()
    assert made["status"] == "pending"
    problem(ground.tenant.owner.post(path, json=body), 409, "invitation_taken")
    liar = ground.person(email="guest@example.com", email_verified=False)
    problem(ground.log_in(liar), 403, "no_membership")
    guest = ground.person(email="guest@example.com")
    assert ground.log_in(guest).status_code == 302
    assert "audit:read" in _permissions(ground, guest)
    taken = ground.tenant.owner.get(f"{path}/{made['id']}").json()
    assert (taken["status"], taken["accepted_by"]) == ("accepted", _member(ground, guest))
    late = ground.person(email="guest@example.com")
    problem(ground.log_in(late), 403, "no_membership")
    assert ground.log_in(guest).status_code == 302
    assert ground.events("invitation.accepted")


def test_an_invitation_that_was_taken_back_or_is_over_gives_nothing(make_ground: MakeGround) -> None:
    ground = make_ground(rules=[])
    path = f"/tenants/{ground.tenant.id}/invitations"
    made = ground.tenant.owner.post(path, json={"email": "one@example.com", "role": "viewer"}).json()
    assert ground.tenant.owner.delete(f"{path}/{made['id']}").json()["status"] == "revoked"
    problem(ground.log_in(ground.person(email="one@example.com")), 403, "no_membership")
    past = {"email": "two@example.com", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}
    problem(ground.tenant.owner.post(path, json=past), 422, "expiry_past")


def test_an_invitation_into_a_workspace_gives_a_role_there(make_ground: MakeGround) -> None:
    ground = make_ground(rules=[])
    workspace = ground.tenant.workspace()
    path = f"/workspaces/{workspace}/invitations"
    assert ground.tenant.owner.post(path, json={"email": "w@example.com", "role": "viewer"}).status_code == 201
    problem(
        ground.tenant.owner.post(path, json={"email": "w@example.com", "role": "tenant-admin"}),
        422,
        "role_not_for_workspace",
    )
    person = ground.person(email="w@example.com")
    ground.log_in(person)
    assert [place["id"] for place in person.browser.get(f"{ground.api}/me").json()["workspaces"]] == [workspace]


def test_a_provider_that_takes_no_invitations_up_gives_none(make_ground: MakeGround) -> None:
    ground = make_ground(rules=[], accepts_invitations=False)
    body = {"email": "g@example.com", "role": "auditor"}
    ground.tenant.owner.post(f"/tenants/{ground.tenant.id}/invitations", json=body)
    problem(ground.log_in(ground.person(email="g@example.com")), 403, "no_membership")


def test_disabling_a_provider_ends_its_logins(make_ground: MakeGround) -> None:
    ground = make_ground()
    person = ground.person()
    ground.log_in(person)
    tokens = ground.tokens(person)
    path = f"{ground.providers}/{ground.provider['id']}"
    assert ground.tenant.owner.patch(path, json={"status": "disabled"}).json()["status"] == "disabled"
    problem(ground.me(tokens.access), 401, "credential_refused")
    problem(ground.refresh(tokens.refresh), 401, "credential_refused")
    problem(person.browser.get(f"{ground.api}/me"), 401, "credential_refused")
    assert ground.tenant.owner.patch(path, json={"status": "active"}).status_code == 200
    assert ground.log_in(person).status_code == 302


def test_removing_a_provider_takes_away_what_its_rules_gave(make_ground: MakeGround) -> None:
    ground = make_ground()
    person = ground.person()
    ground.log_in(person)
    member = _member(ground, person)
    assert ground.tenant.owner.delete(f"{ground.providers}/{ground.provider['id']}").status_code == 204
    problem(person.browser.get(f"{ground.api}/me"), 401, "credential_refused")
    bindings = ground.tenant.owner.get(f"/tenants/{ground.tenant.id}/bindings").json()["items"]
    assert member not in str(bindings)
    problem(ground.log_in(person), 404, "login_unavailable")


def test_the_secret_is_never_shown_and_can_be_changed(make_ground: MakeGround) -> None:
    ground = make_ground()
    path = f"{ground.providers}/{ground.provider['id']}"
    shown = ground.tenant.owner.get(path)
    assert shown.json()["has_secret"] is True
    assert "signs" not in shown.text
    assert "client_secret" not in shown.json()
    seen = {"If-Match": shown.headers["etag"]}
    wrong = ground.tenant.owner.patch(path, json={"client_secret": "wrong"}, headers=seen)
    assert wrong.json()["version"] == 2
    problem(ground.log_in(ground.person()), 403, "issuer_unusable")
    stale = ground.tenant.owner.patch(path, json={"name": "x"}, headers={"If-Match": shown.headers["etag"]})
    problem(stale, 412, "version_mismatch")


def test_nobody_gives_by_a_provider_or_an_invitation_what_they_do_not_hold(make_ground: MakeGround) -> None:
    ground = make_ground()
    owner, tenant = ground.tenant.owner, ground.tenant
    role = {"slug": "people", "permissions": ["member:read", "member:admin"]}
    assert owner.post(f"/tenants/{tenant.id}/roles", json=role).status_code == 201
    lesser = tenant.installation.client(tenant.key(None, "people"))
    body = provider_body(ground.issuer, slug="mine", rules=ADMINS, accepts_invitations=False)
    problem(lesser.post(ground.providers, json=body), 403, "grant_exceeds_own")
    # Whose issuer says which addresses are verified takes up what others have offered.
    body = provider_body(ground.issuer, slug="mine", rules=[])
    problem(lesser.post(ground.providers, json=body), 403, "grant_exceeds_own")
    path = f"{ground.providers}/{ground.provider['id']}"
    problem(lesser.patch(path, json={"client_id": "other"}), 403, "grant_exceeds_own")
    problem(lesser.patch(path, json={"rules": []}), 403, "grant_exceeds_own")
    invitation = {"email": "me@example.com", "role": "tenant-admin"}
    problem(lesser.post(f"/tenants/{tenant.id}/invitations", json=invitation), 403, "grant_exceeds_own")
    fine = provider_body(ground.issuer, slug="mine", rules=[], accepts_invitations=False)
    assert lesser.post(ground.providers, json=fine).status_code == 201


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"issuer": "http://issuer.example"}, "issuer_invalid"),
        ({"issuer": "ftp://issuer.example"}, "issuer_invalid"),
        ({"issuer": "https://user@issuer.example"}, "issuer_invalid"),
        ({"issuer": "https://issuer.example/?x=y"}, "issuer_invalid"),
        ({"issuer": "https://issuer.example/#x"}, "issuer_invalid"),
        ({"issuer": "https://"}, "issuer_invalid"),
        ({"issuer": "issuer.example"}, "issuer_invalid"),
        ({"issuer": "https://issuer.example:99999"}, "issuer_invalid"),
        ({"issuer": "http://10.0.0.1"}, "issuer_invalid"),
        ({"redirects": ["javascript:alert(1)"]}, "redirect_refused"),
        ({"redirects": ["http://app.example/"]}, "redirect_refused"),
        ({"redirects": ["https://app.example/#x"]}, "redirect_refused"),
        ({"redirects": ["data:text/html,x"]}, "redirect_refused"),
        ({"rules": [{"claim": "a", "role": "viewer"}]}, "invalid_request"),
        ({"rules": [{"claim": "a", "equals": "x", "contains": "y", "role": "viewer"}]}, "invalid_request"),
        ({"rules": [{"claim": "a", "equals": "x", "role": "emperor"}]}, "role_unknown"),
        ({"scopes": ["a b"]}, "invalid_request"),
        ({"client_id": "a\nb"}, "invalid_request"),
        ({"slug": "Corp"}, "invalid_request"),
    ],
    ids=str,
)
def test_a_provider_that_can_be_none_is_refused(ground: Ground, fields: dict[str, Any], code: str) -> None:
    body = provider_body(ground.issuer, **{"slug": "other", **fields})
    problem(ground.tenant.owner.post(ground.providers, json=body), 422, code)


def test_a_rule_for_a_foreign_workspace_reads_as_for_none(ground: Ground, make_ground: MakeGround) -> None:
    foreign = make_ground().tenant.workspace()
    rules = [{"claim": "a", "equals": "x", "role": "viewer", "workspace": foreign}]
    body = provider_body(ground.issuer, slug="other", rules=rules)
    problem(ground.tenant.owner.post(ground.providers, json=body), 404, "not_found")


def test_two_providers_of_one_slug_cannot_be(ground: Ground) -> None:
    problem(ground.tenant.owner.post(ground.providers, json=provider_body(ground.issuer)), 409, "provider_taken")


def test_a_plan_without_sso_has_no_providers(make_tenant: MakeTenant, issuer: Issuer) -> None:
    tenant = make_tenant(plan="professional")
    answer = tenant.owner.post(f"/tenants/{tenant.id}/identity-providers", json=provider_body(issuer))
    assert problem(answer, 403, "feature_missing")["allow_with"] == ["the plan enterprise"]


async def test_without_the_setting_no_issuer_of_our_own_networks_is_called(
    ground: Ground, open_strict: OpenBeside
) -> None:
    async with open_strict() as strict, strict.client("") as client:
        query = {"tenant": ground.tenant.slug, "provider": "corp"}
        answer = await client.get("/auth/login", params=query)
        problem(answer, 403, "address_refused")


def test_an_issuer_that_is_down_is_told_as_such(make_ground: MakeGround, make_issuer: Any) -> None:
    passing: Issuer = make_issuer()
    ground = make_ground(at=passing)
    passing.tell("close")
    problem(httpx.get(ground.begin()), 503, "issuer_unreachable")
