"""Row 4c: how long a credential takes to be admitted, and a revocation to be seen by two processes."""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import timedelta

import httpx

from bench.installation import REGION, Installation
from bench.report import Bar, Result, Series
from tenantry.capabilities.access.service import Admission, LoginReader
from tenantry.capabilities.identity.repository.logins import insert_login
from tenantry.capabilities.identity.service import AccessTokens, KeyHasher
from tenantry.capabilities.identity.types import Login, LoginKind
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.errors import Unauthenticated
from tenantry.foundation.ids import Prefix, new_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.settings import load_settings

_LOOK_SECONDS = 0.001


async def measure(installation: Installation, *, quick: bool) -> list[Result]:
    """Admit in this process, beside the server's: what it has seen before, what it sees first, and what is revoked."""
    result = Result("4c", "a credential is admitted; its revocation is seen by two processes")
    async with open_parts(load_settings(home=installation.home)) as parts, installation.client() as client:
        admission = await _admission(parts)
        warm = await _warm("key", admission, installation.key, samples=500 if quick else 20_000)
        cold = await _cold(admission, client, installation, samples=10 if quick else 200)
        mint = await _minting(parts, client, installation)
        token = await _warm("access token", admission, mint(), samples=500 if quick else 20_000)
        fresh = await _first(admission, mint, samples=10 if quick else 200)
        seen = await _revoked(admission, client, installation, samples=5 if quick else 40)
    result.series = [warm, cold, token, fresh, *seen]
    result.bars += [Bar(f"{each.name}, p99", each.percentile(0.99), 2.0, unit=" ms") for each in (warm, token)]
    result.bars += [Bar(f"{series.name}, longest", max(series.samples), 1000.0, unit=" ms") for series in seen]
    return [result]


async def _admission(parts: Parts) -> Admission:
    hasher = KeyHasher(parts.secrets.pepper)
    readers = (LoginReader(tokens=AccessTokens(parts.secrets.signing_key), clock=parts.clock),)
    admission = Admission(
        cells=parts.cells, directory=parts.directory, hasher=hasher, clock=parts.clock, readers=readers
    )
    for cell in parts.cells:
        await cell.link.start()
    return admission


async def _minting(parts: Parts, client: httpx.AsyncClient, installation: Installation) -> Callable[[], str]:
    """Log the owner in, by the row alone, and give what makes access tokens of that login."""
    (member,) = (await client.get(f"tenants/{installation.tenant}/members")).json()["items"]
    tenant_id, now = parse_id(Prefix.TENANT, installation.tenant), parts.clock.now()
    login = Login(
        login_id=new_id(),
        user_id=parse_id(Prefix.USER, member["id"]),
        provider_id=new_id(),
        kind=LoginKind.PROGRAM,
        auth_time=now,
        created_at=now,
        last_seen_at=now,
        expires_at=now + timedelta(days=1),
        revoked_at=None,
        revoked_reason=None,
    )
    async with parts.cells.session(TenantScope(tenant_id=tenant_id, region=REGION, actor=SYSTEM)) as session:
        await insert_login(session, login)
    tokens = AccessTokens(parts.secrets.signing_key)
    return lambda: tokens.issue(login, tenant_id=tenant_id, region=REGION, now=now)[0]


async def _first(admission: Admission, mint: Callable[[], str], *, samples: int) -> Series:
    """Admit tokens that this process has not seen: the signature, then the login's row and what its user may do."""
    series = Series("access token, first seen")
    for _ in range(samples):
        text = mint()
        begun = time.perf_counter()
        await admission.authenticate(text, ip=None)
        series.samples.append((time.perf_counter() - begun) * 1000)
    return series


async def _warm(what: str, admission: Admission, key: str, *, samples: int) -> Series:
    series = Series(f"{what}, warm")
    await admission.authenticate(key, ip=None)
    for number in range(samples):
        begun = time.perf_counter()
        await admission.authenticate(key, ip=None)
        series.samples.append((time.perf_counter() - begun) * 1000)
        if number % 100 == 0:
            await asyncio.sleep(0)  # the link answers its pings
    return series


async def _cold(admission: Admission, client: httpx.AsyncClient, installation: Installation, *, samples: int) -> Series:
    series = Series("key, first seen")
    for _ in range(samples):
        _, secret = await _make(client, installation)
        begun = time.perf_counter()
        await admission.authenticate(secret, ip=None)
        series.samples.append((time.perf_counter() - begun) * 1000)
    return series


async def _revoked(
    admission: Admission, client: httpx.AsyncClient, installation: Installation, *, samples: int
) -> list[Series]:
    """Time from the answer to the revocation until each process refuses what it had admitted before."""
    there, here = Series("revoked, in the server"), Series("revoked, in another process")
    path = f"workspaces/{installation.workspace}"
    for _ in range(samples):
        key, secret = await _make(client, installation)
        headers = {"Authorization": f"Bearer {secret}"}
        await admission.authenticate(secret, ip=None)
        (await client.get(path, headers=headers)).raise_for_status()
        (await client.delete(f"{path}/keys/{key}")).raise_for_status()
        begun = time.perf_counter()
        while (await client.get(path, headers=headers)).status_code != httpx.codes.UNAUTHORIZED:
            pass
        there.samples.append((time.perf_counter() - begun) * 1000)
        while await _admits(admission, secret):  # noqa: ASYNC110 - what is measured is when it shows
            await asyncio.sleep(_LOOK_SECONDS)
        here.samples.append((time.perf_counter() - begun) * 1000)
    return [there, here]


async def _admits(admission: Admission, secret: str) -> bool:
    try:
        await admission.authenticate(secret, ip=None)
    except Unauthenticated:
        return False
    return True


async def _make(client: httpx.AsyncClient, installation: Installation) -> tuple[str, str]:
    body = {"name": secrets.token_hex(4), "roles": ["viewer"]}
    answer = await client.post(f"workspaces/{installation.workspace}/keys", json=body)
    answer.raise_for_status()
    made = answer.json()
    return made["id"], made["secret"]
