"""Row 4r: whether the time of a refusal tells a secret of nobody from a wrong one, over HTTP."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from uuid import UUID

import httpx

from bench.installation import REGION, Installation
from bench.report import Bar, Result, Series
from tenantry.capabilities.identity.types import ScopeKind, Secret, make_credential, make_secret
from tenantry.foundation.ids import Prefix, new_id, parse_id

_WARM = 20
_MOST = 0.55
"""How often a guess by the time of one answer may be right; 0.5 is chance."""

Ask = Callable[[bool], httpx.Request]


async def measure(installation: Installation, *, quick: bool) -> list[Result]:
    """Ask for both in turn, each time with a secret of its own."""
    result = Result("4r", "refused: a secret that a tenant never gave out, and one of a tenant that is none")
    async with httpx.AsyncClient(base_url=f"{installation.url}/api/v1/") as client:
        for what, ask in _asks(client, installation).items():
            wrong, nobody = Series(f"{what}, wrong"), Series(f"{what}, of nobody")
            for number in range(30 if quick else 600):
                for known in (True, False) if number % 2 else (False, True):
                    request = ask(known)
                    begun = time.perf_counter()
                    answer = await client.send(request)
                    took = (time.perf_counter() - begun) * 1000
                    if answer.status_code not in (httpx.codes.UNAUTHORIZED, httpx.codes.NOT_FOUND):
                        answer.raise_for_status()
                    if number >= _WARM:
                        (wrong if known else nobody).samples.append(took)
            result.series += [wrong, nobody]
            result.bars.append(Bar(f"{what}: guessed right", _guessed(wrong.samples, nobody.samples), _MOST, unit=""))
    return [result]


def _asks(client: httpx.AsyncClient, installation: Installation) -> dict[str, Ask]:
    """Give how to ask with each kind of secret, of the tenant that is known or of one that is none."""
    tenant = parse_id(Prefix.TENANT, installation.tenant)

    def owner(known: bool) -> UUID:
        return tenant if known else new_id()

    def key(known: bool) -> httpx.Request:
        secret = make_credential(region=REGION, kind=ScopeKind.TENANT, scope_id=owner(known)).text
        return client.build_request("GET", "me", headers={"Authorization": f"Bearer {secret}"})

    def cookie(known: bool) -> httpx.Request:
        secret = make_secret(Secret.COOKIE, region=REGION, tenant_id=owner(known)).text
        return client.build_request("GET", "me", headers={"Cookie": f"tenantry={secret}"})

    def refresh(known: bool) -> httpx.Request:
        secret = make_secret(Secret.REFRESH, region=REGION, tenant_id=owner(known)).text
        return client.build_request("POST", "auth/refresh", json={"refresh_token": secret})

    def login(known: bool) -> httpx.Request:
        slug = installation.slug if known else f"n{new_id().hex[: len(installation.slug) - 1]}"
        return client.build_request("GET", "auth/login", params={"tenant": slug, "provider": "corp"})

    return {"key": key, "cookie": cookie, "refresh token": refresh, "begin of a login": login}


def _guessed(ours: list[float], theirs: list[float]) -> float:
    """Tell how often the slower of one of each is the same: 0.5 when their times tell nothing, 1 when they tell all.

    The area under the curve of a threshold (Mann-Whitney U), whichever side is the slower.
    """
    ordered = sorted(theirs)
    wins = sum(bisect_left(ordered, took) + bisect_right(ordered, took) for took in ours) / 2
    area = wins / (len(ours) * len(theirs))
    return max(area, 1 - area)
