"""Row 4c: how long a credential takes to be admitted, and a revocation to be seen by two processes."""

import asyncio
import secrets
import time

import httpx

from bench.installation import Installation
from bench.report import Bar, Result, Series
from tenantry.capabilities.access.service import Admission
from tenantry.capabilities.identity.service import KeyHasher
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.errors import Unauthenticated
from tenantry.foundation.settings import load_settings

_LOOK_SECONDS = 0.001


async def measure(installation: Installation, *, quick: bool) -> list[Result]:
    """Admit in this process, beside the server's: what it has seen before, what it sees first, and what is revoked."""
    result = Result("4c", "a credential is admitted; its revocation is seen by two processes")
    async with open_parts(load_settings(home=installation.home)) as parts, installation.client() as client:
        admission = await _admission(parts)
        warm = await _warm(admission, installation.key, samples=500 if quick else 20_000)
        cold = await _cold(admission, client, installation, samples=10 if quick else 200)
        seen = await _revoked(admission, client, installation, samples=5 if quick else 40)
    result.series = [warm, cold, *seen]
    result.bars.append(Bar("key, warm, p99", warm.percentile(0.99), 2.0, unit=" ms"))
    result.bars += [Bar(f"{series.name}, longest", max(series.samples), 1000.0, unit=" ms") for series in seen]
    return [result]


async def _admission(parts: Parts) -> Admission:
    hasher = KeyHasher(parts.secrets.pepper)
    admission = Admission(cells=parts.cells, directory=parts.directory, hasher=hasher, clock=parts.clock)
    for cell in parts.cells:
        await cell.link.start()
    return admission


async def _warm(admission: Admission, key: str, *, samples: int) -> Series:
    series = Series("key, warm")
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
