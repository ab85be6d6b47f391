"""Credentials and names in headers: one of each, whole, and where they belong."""

import http.client
import secrets
from urllib.parse import urlsplit

import httpx
import pytest
from tests.conftest import Installation, Tenant
from tests.integration.api.conftest import Beside, OpenBeside, problem

from tenantry.capabilities.identity.types import checksum

pytestmark = pytest.mark.xdist_group("api")


def _raw(installation: Installation, headers: list[tuple[str, str]], path: str = "/api/v1/me") -> tuple[int, bytes]:
    """Send headers exactly as given, twice if they stand twice."""
    parts = urlsplit(installation.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_two_credentials_are_refused_even_when_they_agree(installation: Installation, acme: Tenant) -> None:
    own = ("Authorization", f"Bearer {acme.bootstrap_key}")
    for second in (own, ("authorization", "Bearer x"), ("Authorization", f"Bearer {installation.platform_key}")):
        for pair in ([own, second], [second, own]):
            status, body = _raw(installation, [("Host", "localhost"), *pair])
            assert (status, b'"header_ambiguous"' in body) == (400, True), body


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "token"])
def test_a_credential_in_the_address_is_refused_with_and_without_one_in_the_header(
    name: str, installation: Installation, acme: Tenant
) -> None:
    problem(acme.owner.get("/me", params={name: acme.bootstrap_key}), 400, "credential_in_query")
    with httpx.Client(base_url=installation.api) as client:
        answer = client.get("/me", params={name: acme.bootstrap_key})
        problem(answer, 400, "credential_in_query")
        assert acme.bootstrap_key not in answer.text


def _damaged(key: str) -> list[str]:
    body, _, check = key.rpartition("_")
    other = "0" if key[-1] != "0" else "1"
    return [
        key[:-1],
        key[:-7],
        key[:20],
        key + "0",
        key[:-1] + other,
        f"{body}x_{check}",
        key.replace("tenantry_", "Tenantry_"),
        key.upper(),
        key.replace("_us_", "_eu_"),
        f"{key} {key}",
        f'"{key}"',
        f"{key},{key}",
        "x",
        "_" * 40,
        "tenantry____",
        "é" * 20,
    ]


def test_a_damaged_key_is_told_apart_without_a_look_up(acme: Tenant, installation: Installation) -> None:
    for text in _damaged(acme.bootstrap_key):
        headers = [("Host", "localhost"), ("Authorization", f"Bearer {text}")]
        status, body = _raw(installation, headers)
        assert (status, b'"credential_malformed"' in body) == (401, True), (text, body)


def test_a_key_with_a_right_checksum_and_a_wrong_secret_is_refused_like_an_unknown_one(
    acme: Tenant, beside: Beside, installation: Installation
) -> None:
    prefix, region, scope, _, _ = acme.bootstrap_key.split("_")
    for wrong in (f"{prefix}_{region}_{scope}", f"{prefix}_{region}_ten{'0' * 26}", f"{prefix}_eu_{scope}"):
        body = f"{wrong}_{secrets.token_hex(16)}"
        with httpx.Client(
            base_url=installation.api, headers={"Authorization": f"Bearer {body}_{checksum(body)}"}
        ) as client:
            found = problem(client.get("/me"), 401, "credential_refused")
            assert found["detail"] == "the credential is unknown, revoked or expired: create a new key"


async def test_a_key_of_a_region_that_a_process_does_not_serve_is_421(
    open_beside: OpenBeside, acme: Tenant, globex: Tenant
) -> None:
    async with open_beside(regions=("us",)) as only_us:
        async with only_us.client(globex.bootstrap_key) as client:
            problem(await client.get("/me"), 421, "wrong_region")
        async with only_us.client(acme.bootstrap_key) as client:
            assert (await client.get("/me")).status_code == 200


async def test_a_made_up_region_is_421_and_never_looked_up(beside: Beside) -> None:
    body = f"tenantry_mars_ten{'0' * 26}_{secrets.token_hex(16)}"
    async with beside.client(f"{body}_{checksum(body)}") as client:
        problem(await client.get("/me"), 421, "wrong_region")


async def test_a_subdomain_names_a_tenant_where_a_domain_is_configured(
    open_beside: OpenBeside, acme: Tenant, globex: Tenant, installation: Installation
) -> None:
    domain = "tenants.example.com"
    async with open_beside(base_domain=domain) as server:
        for host, status in (
            (f"{acme.slug}.{domain}", 200),
            (f"{acme.slug.upper()}.{domain.upper()}:8443", 200),
            (domain, 200),
            ("elsewhere.example.com", 200),
            (f"{globex.slug}.{domain}", 403),
            (f"nobody-here.{domain}", 403),
            (f"platform.{domain}", 403),
            (f"x.{acme.slug}.{domain}", 403),
        ):
            async with server.client(acme.bootstrap_key, host=host) as client:
                answer = await client.get("/me")
                assert answer.status_code == status, host
                if status == 403:
                    problem(answer, 403, "tenant_mismatch")
        async with server.client(acme.bootstrap_key, host=f"{acme.slug}.{domain}") as client:
            spoofed = await client.get("/me", headers={"X-Forwarded-Host": f"{globex.slug}.{domain}"})
            assert spoofed.json()["tenant"]["slug"] == acme.slug
            problem(await client.get("/me", headers={"X-Tenant-Id": globex.slug}), 403, "tenant_mismatch")
        async with server.client(installation.platform_key, host=f"{acme.slug}.{domain}") as client:
            problem(await client.get("/workspaces"), 403, "platform_no_content")


async def test_the_host_names_nobody_where_no_domain_is_configured(
    beside: Beside, acme: Tenant, globex: Tenant
) -> None:
    async with beside.client(acme.bootstrap_key, host=f"{globex.slug}.tenants.example.com") as client:
        assert (await client.get("/me")).json()["tenant"]["slug"] == acme.slug


@pytest.mark.parametrize(
    "spelling",
    [
        "{0} ",
        " {0}",
        "{0}%09",
        "\u00a0{0}",
        "{1}",
        "{0}\u0301",
        "{0}.",
        "{0}/",
        "{0};",
        "{0}%00",
        "{0}%20",
        "'{0}'",
        "{0}\u200b",
    ],
)
@pytest.mark.parametrize("where", ["query", "path"])
def test_a_slug_matches_exactly_or_not_at_all(spelling: str, where: str, acme: Tenant) -> None:
    """Unicode, space, case: never trimmed, folded or guessed."""
    name = spelling.format(acme.slug, acme.slug.upper())
    query = {"tenant": name} if where == "query" else {}
    answer = acme.owner.get("/me" if query else f"/tenants/{name}", params=query)
    assert answer.status_code in (400, 403, 404), answer.text


@pytest.mark.parametrize("value", ["", "a,b", ",", "{0},", "{0},{0}", "{0}, {0}"])
@pytest.mark.parametrize("name", ["X-Tenant-Id", "X-Workspace-Id"])
def test_a_header_that_names_a_place_holds_one_value(name: str, value: str, acme: Tenant, dev: str) -> None:
    own = acme.slug if name == "X-Tenant-Id" else dev
    problem(acme.owner.get("/me", headers={name: value.format(own)}), 400, "header_ambiguous")


@pytest.mark.parametrize("size", [40_000, 1_000_000])
def test_a_giant_slug_is_refused_before_anything_is_looked_up(
    size: int, acme: Tenant, installation: Installation
) -> None:
    headers = [("Host", "localhost"), ("Authorization", f"Bearer {acme.bootstrap_key}"), ("X-Tenant-Id", "a" * size)]
    try:
        status, body = _raw(installation, headers)
    except OSError:
        return  # the connection was ended while the head was still being sent
    assert (status, b'"head_too_large"' in body) == (431, True)


def test_a_slug_as_long_as_a_head_may_be_names_nobody(acme: Tenant) -> None:
    problem(acme.owner.get("/me", headers={"X-Tenant-Id": "a" * 20_000}), 403, "tenant_mismatch")
