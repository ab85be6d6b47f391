"""A real browser, a real identity provider, and in the end an authenticated session of the API."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, async_playwright
from tests.conftest import Installation, running_installation
from tests.issuer import CLIENT_ID, CLIENT_SECRET, Issuer

_CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("login") / "home"
    with running_installation(
        home, TENANTRY_IDENTITY__ALLOW_PRIVATE_ISSUERS="true", TENANTRY_SERVE_REGIONS='["us"]'
    ) as started:
        yield started


@pytest.fixture(scope="module")
def issuer(installation: Installation) -> Iterator[Issuer]:
    accounts = {"ann": {"email": "ann@example.com", "email_verified": True, "name": "Ann"}}
    running = Issuer([f"{installation.api}/auth/callback"], options={"accounts": accounts})
    yield running
    running.stop()


@pytest.fixture(scope="module")
def slug(installation: Installation, issuer: Issuer) -> str:
    owner = {"email": "owner@acme.example", "name": "Owner"}
    body = {"name": "Acme", "slug": "acme-login", "plan": "enterprise", "region": "us", "owner": owner}
    made = installation.platform.post("/tenants", json=body).json()
    provider = {"slug": "corp", "name": "Corp", "issuer": issuer.url, "client_id": CLIENT_ID}
    rules = [{"claim": "email", "equals": "ann@example.com", "role": "tenant-admin"}]
    answer = installation.client(made["bootstrap_key"]["secret"]).post(
        f"/tenants/{made['id']}/identity-providers",
        json={**provider, "client_secret": CLIENT_SECRET, "scopes": ["email", "profile"], "rules": rules},
    )
    assert answer.status_code == 201, answer.text
    return "acme-login"


async def _fill_in(page: Page) -> None:
    await page.fill('input[name="login"]', "ann")
    await page.fill('input[name="password"]', "whatever")
    await page.click('button[type="submit"]')
    await page.click('button[type="submit"]')  # the provider asks for consent


async def test_a_person_logs_in_through_a_browser_and_lands_in_an_api_session(
    installation: Installation, slug: str
) -> None:
    api = installation.api
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=_QUIET)
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{api}/auth/login?tenant={slug}&provider=corp&redirect=/api/v1/me")
        await _fill_in(page)
        await page.wait_for_url(f"{api}/me")
        me = json.loads(await page.inner_text("body"))
        assert me["login"]["kind"] == "web"
        assert "tenant:admin" in me["permissions"]
        cookies = {cookie["name"]: cookie for cookie in await context.cookies()}
        assert cookies["tenantry"]["httpOnly"]
        assert cookies["tenantry"]["sameSite"] == "Lax"
        # No script sees the cookie, and a change needs what only a page of this origin can read.
        assert "tenantry" not in await page.evaluate("document.cookie")
        make = """async (token) => (await fetch('/api/v1/workspaces', {method: 'POST', headers: {
            'Content-Type': 'application/json', ...(token ? {'X-CSRF-Token': token} : {})},
            body: JSON.stringify({name: 'mine', owner: {type: 'team', id: 'core'}})})).status"""
        assert await page.evaluate(make, None) == 403
        assert await page.evaluate(make, me["login"]["csrf_token"]) == 201
        leave = """async (token) => (await fetch('/api/v1/auth/logout', {method: 'POST', headers: {
            'Content-Type': 'application/json', 'X-CSRF-Token': token}, body: '{}'})).status"""
        assert await page.evaluate(leave, me["login"]["csrf_token"]) == 200
        await page.goto(f"{api}/me")
        assert json.loads(await page.inner_text("body"))["code"] == "credential_refused"
        await browser.close()


def test_the_log_of_all_this_holds_no_secret(installation: Installation, slug: str) -> None:
    assert httpx.get(f"{installation.api}/auth/login", params={"tenant": slug}).status_code == 302
    log = Path(f"{installation.home}.log").read_text()
    for telling in ("eyJ", "_lgn", "_rft", "_flw", "_otc", CLIENT_SECRET):
        assert telling not in log
