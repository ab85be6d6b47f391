"""An installation that lets providers lie on loopback, a real provider, and a tenant that trusts it."""

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from tests.conftest import Installation, MakeTenant, Tenant, running_installation, tenants_of
from tests.integration.api.conftest import Beside, OpenBeside, serving_beside
from tests.issuer import CLIENT_ID, CLIENT_SECRET, Issuer, Person, query_of, target_of

from tenantry.foundation.settings import Settings

ASIDE = "http://localhost"
"""Where the server beside the running one believes to be."""
PROGRAM = "http://127.0.0.1:7777/done"
CALLBACK = "/api/v1/auth/callback"


@pytest.fixture(scope="package")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("logins") / "home"
    with running_installation(home, TENANTRY_IDENTITY__ALLOW_PRIVATE_ISSUERS="true") as started:
        yield started


@pytest.fixture(scope="package")
def make_tenant(installation: Installation, strategy: str) -> MakeTenant:
    return tenants_of(installation, strategy)


@pytest.fixture(scope="package")
def make_issuer(installation: Installation) -> Iterator[Callable[..., Issuer]]:
    """Start providers that know the running server and the one beside it."""
    running: list[Issuer] = []

    def make(**fields: Any) -> Issuer:
        running.append(Issuer([f"{installation.url}{CALLBACK}", f"{ASIDE}{CALLBACK}"], **fields))
        return running[-1]

    yield make
    for issuer in running:
        issuer.stop()


@pytest.fixture(scope="package")
def issuer(make_issuer: Callable[..., Issuer]) -> Issuer:
    return make_issuer()


@dataclass
class Tokens:
    access: str
    refresh: str


@dataclass
class Ground:
    """A tenant with one provider, and how people get into it."""

    tenant: Tenant
    issuer: Issuer
    provider: dict[str, Any]
    people: list[Person] = field(default_factory=list)

    @property
    def api(self) -> str:
        return self.tenant.installation.api

    @property
    def providers(self) -> str:
        return f"/tenants/{self.tenant.id}/identity-providers"

    def person(self, login: str | None = None, **claims: Any) -> Person:
        """Make somebody whom the provider knows: by default with a verified address at example.com."""
        login = login or f"u-{secrets.token_hex(4)}"
        told = {"email": f"{login}@example.com", "email_verified": True, "name": login.title()}
        self.issuer.account(login, **{**told, **claims})
        self.people.append(Person(login))
        return self.people[-1]

    def begin(self, *, redirect: str = "/", api: str | None = None, **query: str) -> str:
        wanted = {"tenant": self.tenant.slug, "provider": self.provider["slug"], "redirect": redirect, **query}
        return str(httpx.URL(f"{api or self.api}/auth/login", params=wanted))

    def log_in(self, person: Person, *, redirect: str = "/home", **query: str) -> httpx.Response:
        """Log in at the console; gives the answer that sets the cookie, or refuses."""
        return person.go(self.begin(redirect=redirect, **query), until=f"{self.tenant.installation.url}{redirect}")

    def code(self, person: Person) -> tuple[str, str]:
        """Log in as a program; gives the one-time code and the verifier."""
        verifier = secrets.token_urlsafe(48)
        answer = person.go(self.begin(redirect=PROGRAM, state="mine", **challenge(verifier)), until=PROGRAM)
        query = query_of(target_of(answer))
        assert query["state"] == "mine"
        return query.get("code", query.get("error_description", "")), verifier

    def tokens(self, person: Person) -> Tokens:
        code, verifier = self.code(person)
        answer = self.exchange(code, verifier)
        assert answer.status_code == 200, answer.text
        return Tokens(answer.json()["access_token"], answer.json()["refresh_token"])

    def exchange(self, code: str, verifier: str) -> httpx.Response:
        return httpx.post(f"{self.api}/auth/token", json={"code": code, "code_verifier": verifier})

    def refresh(self, token: str) -> httpx.Response:
        return httpx.post(f"{self.api}/auth/refresh", json={"refresh_token": token})

    def me(self, token: str) -> httpx.Response:
        return httpx.get(f"{self.api}/me", headers={"Authorization": f"Bearer {token}"})

    def events(self, action: str) -> list[dict[str, Any]]:
        """Tell what the trail says, newest first."""
        answer = self.tenant.owner.get("/audit", params={"action": action, "limit": 200})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    def close(self) -> None:
        for person in self.people:
            person.close()


def challenge(verifier: str) -> dict[str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return {"code_challenge": digest, "code_challenge_method": "S256"}


def provider_body(at: Issuer, /, **fields: Any) -> dict[str, Any]:
    body = {
        "slug": "corp",
        "name": "Corporation",
        "issuer": at.url,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "scopes": ["email", "profile", "groups"],
        "rules": [{"claim": "email", "matches_domain": "example.com", "role": "auditor"}],
    }
    return {**body, **fields}


MakeGround = Callable[..., Ground]


@pytest.fixture(scope="package")
def make_ground(make_tenant: MakeTenant, issuer: Issuer) -> Iterator[MakeGround]:
    """Make tenants that trust a provider."""
    made: list[Ground] = []

    def make(*, at: Issuer | None = None, clock_skew_ms: int | None = None, **fields: Any) -> Ground:
        tenant = make_tenant(**({} if clock_skew_ms is None else {"clock_skew_ms": clock_skew_ms}))
        chosen = at or issuer
        answer = tenant.owner.post(f"/tenants/{tenant.id}/identity-providers", json=provider_body(chosen, **fields))
        assert answer.status_code == 201, answer.text
        made.append(Ground(tenant, chosen, answer.json()))
        return made[-1]

    yield make
    for ground in made:
        ground.close()


@pytest.fixture(scope="package")
def ground(make_ground: MakeGround) -> Ground:
    return make_ground()


@pytest.fixture
async def beside(installation: Installation) -> AsyncIterator[Beside]:
    """A server beside the running one, with a clock to turn."""
    async with serving_beside(_changed(installation.settings, allow_private=True)) as served:
        yield served


def _changed(settings: Settings, *, allow_private: bool, public_url: str | None = None) -> Settings:
    server = settings.server.model_copy(update={"public_url": public_url or settings.server.public_url})
    identity = settings.identity.model_copy(update={"allow_private_issuers": allow_private})
    return settings.model_copy(update={"server": server, "identity": identity})


@pytest.fixture
def open_https(installation: Installation) -> OpenBeside:
    """Open a server that is known by an https address, behind a proxy."""
    settings = _changed(installation.settings, public_url="https://tenantry.example", allow_private=True)
    return lambda: serving_beside(settings)


@pytest.fixture
def open_strict(installation: Installation) -> OpenBeside:
    """Open a server as it is by default: it calls nothing of its own networks."""
    return lambda: serving_beside(_changed(installation.settings, allow_private=False))
