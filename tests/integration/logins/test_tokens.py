"""Tokens of programs: rotated, revoked, and of no use to whoever stole one."""

import asyncio
import secrets
from datetime import timedelta

import httpx
import pytest
from tests.integration.api.conftest import Beside, problem
from tests.integration.logins.conftest import PROGRAM, Ground, MakeGround
from tests.issuer import query_of, target_of

from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope


def test_a_refresh_token_that_comes_twice_ends_the_family(ground: Ground) -> None:
    first = ground.tokens(ground.person())
    second = ground.refresh(first.refresh).json()
    assert ground.me(second["access_token"]).status_code == 200
    problem(ground.refresh(first.refresh), 401, "credential_refused")
    # The thief's and the owner's are gone alike, at once.
    problem(ground.refresh(second["refresh_token"]), 401, "credential_refused")
    problem(ground.me(second["access_token"]), 401, "credential_refused")
    problem(ground.me(first.access), 401, "credential_refused")
    assert ground.events("login.revoked")[0]["reason"] == "refresh_reused"


async def test_of_many_that_bring_one_refresh_token_at_once_one_is_first_and_all_end(ground: Ground) -> None:
    tokens = ground.tokens(ground.person())
    async with httpx.AsyncClient(timeout=60) as client:
        body = {"refresh_token": tokens.refresh}
        asked = [client.post(f"{ground.api}/auth/refresh", json=body) for _ in range(8)]
        answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers)[:2] == [200, 401]
    won = next(answer for answer in answers if answer.status_code == 200).json()
    problem(ground.refresh(won["refresh_token"]), 401, "credential_refused")


def test_a_code_counts_once_and_its_second_use_ends_what_the_first_gave(ground: Ground) -> None:
    code, verifier = ground.code(ground.person())
    tokens = ground.exchange(code, verifier).json()
    assert ground.me(tokens["access_token"]).status_code == 200
    problem(ground.exchange(code, verifier), 401, "credential_refused")
    problem(ground.me(tokens["access_token"]), 401, "credential_refused")
    assert ground.events("login.revoked")[0]["reason"] == "code_reused"


def test_a_code_without_its_verifier_is_nothing_and_is_used_up(ground: Ground) -> None:
    code, verifier = ground.code(ground.person())
    problem(ground.exchange(code, secrets.token_urlsafe(48)), 401, "credential_refused")
    problem(ground.exchange(code, verifier), 401, "credential_refused")
    missing = httpx.post(f"{ground.api}/auth/token", json={"code": code})
    problem(missing, 422, "invalid_request")


def test_a_program_must_bring_a_challenge(ground: Ground) -> None:
    problem(httpx.get(ground.begin(redirect=PROGRAM)), 422, "challenge_required")
    plain = httpx.get(ground.begin(redirect=PROGRAM, code_challenge="x" * 43, code_challenge_method="plain"))
    problem(plain, 422, "challenge_method")
    problem(httpx.get(ground.begin(redirect=PROGRAM, code_challenge="x" * 43)), 422, "challenge_method")


def test_unknown_wrong_and_malformed_read_the_same(ground: Ground) -> None:
    tokens = ground.tokens(ground.person())
    other = "A" if tokens.refresh[40] != "A" else "B"
    wrong = [
        tokens.refresh[:-20] + tokens.refresh[-20:].swapcase(),
        tokens.refresh[:40] + other,
        "x",
        "é",
        tokens.access,
    ]
    answers = [problem(ground.refresh(text), 401, "credential_refused")["detail"] for text in wrong]
    answers += [
        problem(ground.me(text), 401, "credential_refused")["detail"] for text in ("a.b.c", tokens.access + "x")
    ]
    assert len(set(answers)) == 1


def test_each_secret_is_good_for_one_thing(ground: Ground) -> None:
    person = ground.person()
    tokens = ground.tokens(person)
    ground.log_in(person)
    cookie = person.browser.cookies["tenantry"]
    problem(ground.me(tokens.refresh), 401, "credential_malformed")
    problem(ground.me(cookie), 401, "credential_malformed")
    problem(ground.refresh(cookie), 401, "credential_refused")
    problem(ground.exchange(tokens.refresh, secrets.token_urlsafe(48)), 401, "credential_refused")
    with httpx.Client(cookies={"tenantry": tokens.access}) as thief:
        problem(thief.get(f"{ground.api}/me"), 401, "credential_refused")
    with httpx.Client(cookies={"tenantry": tokens.refresh}) as thief:
        problem(thief.get(f"{ground.api}/me"), 401, "credential_refused")


def test_an_id_token_of_the_provider_is_no_access_token(ground: Ground) -> None:
    """A real one, by the provider's own token endpoint."""
    person = ground.person()
    answer = person.go(ground.begin(), until=f"{ground.api}/auth/callback")
    back = query_of(target_of(answer))
    assert back["code"]
    # What the provider would tell for a code is never taken where an access token is wanted: its form is not ours.
    head = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6IngifQ"
    problem(ground.me(f"{head}.e30.AAAA"), 401, "credential_refused")


def test_an_access_token_of_one_tenant_is_another_tenants_stranger(ground: Ground, make_ground: MakeGround) -> None:
    other = make_ground()
    tokens = ground.tokens(ground.person())
    headers = {"Authorization": f"Bearer {tokens.access}", "X-Tenant-Id": other.tenant.id}
    problem(httpx.get(f"{ground.api}/me", headers=headers), 403, "tenant_mismatch")


def test_logging_out_ends_this_login_and_everywhere_ends_all(ground: Ground) -> None:
    person = ground.person()
    first, second, third = (ground.tokens(person) for _ in range(3))

    def leave(token: str, **body: bool) -> httpx.Response:
        return httpx.post(f"{ground.api}/auth/logout", json=body, headers={"Authorization": f"Bearer {token}"})

    assert leave(first.access).json() == {"ended": 1}
    problem(ground.me(first.access), 401, "credential_refused")
    problem(ground.refresh(first.refresh), 401, "credential_refused")
    assert ground.me(second.access).status_code == 200
    assert leave(second.access, everywhere=True).json() == {"ended": 2}
    for tokens in (second, third):
        problem(ground.me(tokens.access), 401, "credential_refused")
        problem(ground.refresh(tokens.refresh), 401, "credential_refused")
    key = ground.tenant.bootstrap_key
    problem(leave(key), 422, "no_login")


def test_an_administrator_sees_and_ends_the_logins_of_a_member(ground: Ground) -> None:
    tokens = ground.tokens(ground.person())
    member = ground.me(tokens.access).json()["principal"]["id"]
    path = f"/tenants/{ground.tenant.id}/members/{member}/logins"
    listed = ground.tenant.owner.get(path).json()["items"]
    assert [login["id"] for login in listed] == [ground.me(tokens.access).json()["login"]["id"]]
    assert ground.tenant.owner.delete(f"{path}/{listed[0]['id']}").status_code == 204
    problem(ground.me(tokens.access), 401, "credential_refused")
    assert ground.tenant.owner.get(path).json()["items"] == []
    assert ground.tenant.owner.delete(path).json() == {"ended": 0}


def test_a_disabled_member_is_out_at_once(ground: Ground) -> None:
    person = ground.person()
    tokens = ground.tokens(person)
    member = ground.me(tokens.access).json()["principal"]["id"]
    path = f"/tenants/{ground.tenant.id}/members/{member}"
    assert ground.tenant.owner.patch(path, json={"status": "disabled"}).status_code == 200
    problem(ground.me(tokens.access), 401, "credential_refused")
    problem(ground.refresh(tokens.refresh), 401, "credential_refused")
    problem(ground.log_in(person), 403, "no_membership")


def _log_out(ground: Ground, token: str) -> None:
    answer = httpx.post(f"{ground.api}/auth/logout", json={}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


async def test_the_end_of_a_login_is_known_to_another_process_within_a_second(ground: Ground, beside: Beside) -> None:
    tokens = await asyncio.to_thread(lambda: ground.tokens(ground.person()))
    async with beside.client(tokens.access) as client:
        for _ in range(3):  # known by then, whatever news were still under way
            assert (await client.get("/me")).status_code == 200
        await asyncio.to_thread(_log_out, ground, tokens.access)
        async with asyncio.timeout(1):
            while (await client.get("/me")).status_code == 200:
                pass
        assert (await client.get("/me")).json()["code"] == "credential_refused"


@pytest.mark.parametrize(("seconds", "status"), [(895, 200), (905, 401)])
async def test_an_access_token_holds_for_a_quarter_of_an_hour(
    ground: Ground, beside: Beside, seconds: int, status: int
) -> None:
    tokens = ground.tokens(ground.person())
    async with beside.client(tokens.access) as client:
        beside.clock.ahead = timedelta(seconds=seconds)
        assert (await client.get("/me")).status_code == status


@pytest.mark.parametrize(("days", "status"), [(6.9, 200), (7.1, 401)])
async def test_a_refresh_token_waits_for_seven_days(ground: Ground, beside: Beside, days: float, status: int) -> None:
    tokens = ground.tokens(ground.person())
    async with beside.client("") as client:
        beside.clock.ahead = timedelta(days=days)
        answer = await client.post("/auth/refresh", json={"refresh_token": tokens.refresh})
        assert answer.status_code == status, answer.text


async def test_a_login_that_is_refreshed_for_ever_ends_after_thirty_days(ground: Ground, beside: Beside) -> None:
    token = ground.tokens(ground.person()).refresh
    async with beside.client("") as client:
        for days in range(5, 30, 5):
            beside.clock.ahead = timedelta(days=days)
            token = (await client.post("/auth/refresh", json={"refresh_token": token})).json()["refresh_token"]
        beside.clock.ahead = timedelta(days=30, seconds=1)
        problem(await client.post("/auth/refresh", json={"refresh_token": token}), 401, "credential_refused")


async def test_a_code_waits_for_a_minute(ground: Ground, beside: Beside) -> None:
    code, verifier = ground.code(ground.person())
    async with beside.client("") as client:
        beside.clock.ahead = timedelta(seconds=61)
        answer = await client.post("/auth/token", json={"code": code, "code_verifier": verifier})
        problem(answer, 401, "credential_refused")


def test_nothing_of_a_suspended_tenant_is_refreshed_or_begun(make_ground: MakeGround) -> None:
    ground = make_ground()
    tokens = ground.tokens(ground.person())
    platform = ground.tenant.installation.platform
    assert platform.post(f"/tenants/{ground.tenant.id}/suspend", json={"reason": "test"}).status_code == 200
    problem(ground.me(tokens.access), 403, "tenant_suspended")
    problem(ground.refresh(tokens.refresh), 403, "tenant_suspended")
    problem(httpx.get(ground.begin()), 404, "login_unavailable")


async def test_what_has_ended_long_ago_is_forgotten_at_the_next_login(ground: Ground) -> None:
    person = ground.person()
    ended, over, held = [await asyncio.to_thread(ground.tokens, person) for _ in range(3)]
    await asyncio.to_thread(_log_out, ground, ended.access)
    ids = [(await asyncio.to_thread(ground.me, tokens.access)).json() for tokens in (over, held)]
    member, (over_id, held_id) = ids[0]["principal"]["id"], [me["login"]["id"] for me in ids]
    user_id = parse_id(Prefix.USER, member)
    tenant_id = parse_id(Prefix.TENANT, ground.tenant.id)
    async with open_parts(ground.tenant.installation.settings) as parts:
        scope = TenantScope(tenant_id=tenant_id, region="us", actor=SYSTEM)
        async with parts.cells.session(scope) as session:
            await session.execute("update logins set revoked_at = now() - interval '31 days' where revoked_at < now()")
            await session.execute(
                "update logins set expires_at = now() - interval '31 days' where login_id = $1",
                parse_id(Prefix.LOGIN, over_id),
            )
        await asyncio.to_thread(ground.tokens, person)
        async with parts.cells.session(scope) as session:
            rows = await session.fetch("select login_id from logins where user_id = $1", user_id)
    assert len(rows) == 2, "the one that holds and the new one"
    assert parse_id(Prefix.LOGIN, held_id) in {row["login_id"] for row in rows}
    problem(ground.refresh(over.refresh), 401, "credential_refused")
    assert ground.refresh(held.refresh).status_code == 200


async def test_when_a_login_was_last_seen_is_noted(ground: Ground, beside: Beside) -> None:
    tokens = ground.tokens(ground.person())
    me = (await asyncio.to_thread(ground.me, tokens.access)).json()
    path = f"/tenants/{ground.tenant.id}/members/{me['principal']['id']}/logins"
    async with beside.client(tokens.access) as client:
        beside.clock.ahead = timedelta(minutes=10)
        assert (await client.get("/me")).status_code == 200
    await beside.runtime.admission.note_uses()
    seen = (await asyncio.to_thread(ground.tenant.owner.get, path)).json()["items"][0]
    assert seen["last_seen_at"] > seen["created_at"]
