"""Of logins that lead nowhere, one takes the way of any other: what is asked, and what is answered."""

import asyncio
from collections.abc import Iterable

import httpx
import pytest
from tests.integration.api.conftest import Asked, Beside, problem, tap_sessions
from tests.integration.logins.conftest import Ground, MakeGround

from tenantry.capabilities.identity.types import Secret, make_secret
from tenantry.foundation.ids import Prefix, new_id, parse_id


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return tap_sessions(monkeypatch)


def secrets_of(ground: Ground, kind: Secret) -> Iterable[str]:
    """Give a secret that a tenant did not give out, and one of a tenant that is none."""
    for tenant_id in (parse_id(Prefix.TENANT, ground.tenant.id), new_id()):
        yield make_secret(kind, region="us", tenant_id=tenant_id).text


def told(answer: httpx.Response, status: int, code: str) -> tuple[str, ...]:
    refused = problem(answer, status, code)
    return refused["detail"], refused["layer"], refused["title"], str(sorted(answer.headers))


@pytest.mark.parametrize("what", ["cookie", "refresh", "code", "state"])
async def test_a_secret_of_nobody_and_a_wrong_one_are_looked_for_alike(
    ground: Ground, beside: Beside, asked: Asked, what: str
) -> None:
    ways, answers = set(), set()
    for text in secrets_of(ground, Secret[what.upper()]):
        async with beside.client("") as client:
            asked.clear()
            if what == "cookie":
                client.cookies.set("tenantry", text)
                answer = await client.get("/me")
            elif what == "refresh":
                answer = await client.post("/auth/refresh", json={"refresh_token": text})
            elif what == "code":
                answer = await client.post("/auth/token", json={"code": text, "code_verifier": "v" * 43})
            else:
                answer = await client.get("/auth/callback", params={"state": text, "code": "x"})
        ways.add(tuple(asked))
        answers.add(told(answer, 401, "login_refused" if what == "state" else "credential_refused"))
    assert len(ways) == len(answers) == 1, (ways, answers)
    assert len(ways.pop()) == 1


async def test_tenants_that_are_none_are_looked_for_as_those_that_have_no_such_provider(
    ground: Ground, make_ground: MakeGround, beside: Beside, asked: Asked
) -> None:
    suspended = make_ground()
    platform = ground.tenant.installation.platform
    path = f"/tenants/{suspended.tenant.id}/suspend"
    assert (await asyncio.to_thread(platform.post, path, json={"reason": "test"})).status_code == 200
    ways, answers = set(), set()
    for slug in (ground.tenant.slug, suspended.tenant.slug, "nobody-here", "platform"):
        async with beside.client("") as client:
            asked.clear()
            answer = await client.get("/auth/login", params={"tenant": slug, "provider": "nobody"})
        ways.add(tuple(asked))
        answers.add(told(answer, 404, "login_unavailable"))
    assert len(ways) == len(answers) == 1, (ways, answers)
    assert len(ways.pop()) == 1


async def test_only_its_holder_learns_that_a_tenant_is_suspended(make_ground: MakeGround, beside: Beside) -> None:
    ground = make_ground()
    tokens = await asyncio.to_thread(lambda: ground.tokens(ground.person()))
    platform = ground.tenant.installation.platform
    path = f"/tenants/{ground.tenant.id}/suspend"
    assert (await asyncio.to_thread(platform.post, path, json={"reason": "test"})).status_code == 200
    async with beside.client("") as client:
        for text in secrets_of(ground, Secret.REFRESH):
            refused = await client.post("/auth/refresh", json={"refresh_token": text})
            problem(refused, 401, "credential_refused")
        for text in secrets_of(ground, Secret.CODE):
            refused = await client.post("/auth/token", json={"code": text, "code_verifier": "v" * 43})
            problem(refused, 401, "credential_refused")
        for text in secrets_of(ground, Secret.COOKIE):
            problem(await client.get("/me", headers={"Cookie": f"tenantry={text}"}), 401, "credential_refused")
        refused = await client.post("/auth/refresh", json={"refresh_token": tokens.refresh})
        problem(refused, 403, "tenant_suspended")
