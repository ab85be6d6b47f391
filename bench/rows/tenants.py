"""Row 14: what a request costs among many tenants, what nobody's being there costs, and what each strategy costs."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import asyncpg

from bench.installation import REGION, Installation
from bench.load import Load, request
from bench.report import Bar, Result, Series
from bench.rows import idle
from tenantry.capabilities.identity.service import KeyHasher
from tenantry.capabilities.identity.types import ScopeKind, make_credential
from tenantry.entrypoints.addresses import DIRECTORY_DATABASE
from tenantry.foundation.database.places import dsn_at
from tenantry.foundation.ids import Prefix, format_id, parse_id

_CONNECTIONS = 8
_STRATEGIES = ("row_level", "schema_level", "database_level")
# Each row is the furnished tenant's under other ids: every column is filled as the product fills it.
_CLONES = {
    "tenants": ("tenantry.tenants", "'tenant_id', n.tenant_id, 'slug', n.slug"),
    "workspaces": (
        "tenantry.workspaces",
        "'tenant_id', n.tenant_id, 'workspace_id', n.workspace_id, 'path', 'teams/' || n.number",
    ),
}
_CLONE = """
    insert into {table} select (jsonb_populate_record(null::{table}, to_jsonb(t) || jsonb_build_object({changes}))).*
    from {table} t, unnest($2::uuid[], $3::uuid[], $4::text[], $5::int[]) as n (tenant_id, workspace_id, slug, number)
    where t.tenant_id = $1
"""
_KEYS = """
    insert into tenantry.api_keys
    select (jsonb_populate_record(null::tenantry.api_keys, to_jsonb(t) || jsonb_build_object(
        'tenant_id', n.tenant_id, 'key_id', gen_random_uuid(), 'lookup', n.lookup, 'verifier', n.verifier,
        'principal_type', 'system'))).*
    from (select * from tenantry.api_keys where tenant_id = $1 limit 1) t,
         unnest($2::uuid[], $3::bytea[], $4::bytea[]) as n (tenant_id, lookup, verifier)
"""


@dataclass(frozen=True, slots=True)
class _Neighbour:
    tenant_id: UUID
    workspace_id: UUID
    slug: str
    key: str

    def read(self) -> bytes:
        path = f"/api/v1/workspaces/{format_id(Prefix.WORKSPACE, self.workspace_id)}"
        return request("GET", path, key=self.key)


async def many(installation: Installation, *, quick: bool) -> list[Result]:
    """Row 14: the same read over 10, 1 000 and 10 000 tenants, with ten workspaces each."""
    levels = (10, 100, 300) if quick else (10, 1_000, 10_000)
    result = Result("14", "point read among many tenants of one database — against ten")
    neighbours = [_neighbour() for _ in range(levels[-1])]
    await _settle(installation, neighbours[: levels[0]])
    alone = Series(f"{levels[0]} of {levels[0]} tenants")
    await _measure(installation, [(alone, neighbours[: levels[0]])], rounds=2 if quick else 6)
    begun = time.perf_counter()
    await _settle(installation, neighbours[levels[0] :])
    result.remarks.append(
        f"{levels[-1]} tenants with 10 workspaces each, filled in {time.perf_counter() - begun:.0f} s"
    )
    crowd = [(Series(f"{level} of {levels[-1]} tenants"), neighbours[:level]) for level in levels]
    for _, some in crowd:
        await _warm(installation, some)
    await _measure(installation, crowd, rounds=2 if quick else 6)
    result.series = [alone, *(series for series, _ in crowd)]
    for series, _ in crowd[1:]:
        result.bars.append(Bar(f"p50, {series.name}", series.percentile(0.5) / alone.percentile(0.5), 1.2))
    await idle.measure(installation, result, quick=quick)
    return [result]


async def strategies(installation: Installation, *, quick: bool) -> list[Result]:
    """What each isolation strategy costs: to make, to read, to write, to run a job."""
    result = Result("14s", "isolation strategies side by side")
    count, rounds = (1, 2) if quick else (3, 6)
    made = {name: Series(f"make a tenant, {name}", unit="s") for name in _STRATEGIES}
    tenants: dict[str, Installation] = {}
    for _ in range(count):
        for name in _STRATEGIES:
            begun = time.perf_counter()
            tenants[name] = await asyncio.to_thread(installation.another, isolation=name)
            made[name].samples.append(time.perf_counter() - begun)
    kinds: dict[str, Callable[[Installation], Callable[[], bytes]]] = {"read": _read, "write": _write}
    for kind, make in kinds.items():
        series = {name: Series(f"{kind}, {name}") for name in _STRATEGIES}
        loads = {
            name: await Load.open(installation.url, make(tenant), connections=_CONNECTIONS)
            for name, tenant in tenants.items()
        }
        for number in range(rounds + 1):
            for name in _STRATEGIES if number % 2 else reversed(_STRATEGIES):
                block = await loads[name].block(seconds=0.5 if quick else 1.0)
                if number:  # the first warms up
                    series[name].add(block)
                await asyncio.sleep(0.3)
        for load in loads.values():
            load.close()
        result.series += series.values()
    jobs = {name: Series(f"job, {name}") for name in _STRATEGIES}
    for _ in range(5 if quick else 60):
        for name, tenant in tenants.items():
            jobs[name].samples.append(await _job(tenant))
    result.series = [*made.values(), *result.series, *jobs.values()]
    return [result]


def _neighbour() -> _Neighbour:
    tenant_id = uuid4()
    credential = make_credential(region=REGION, kind=ScopeKind.TENANT, scope_id=tenant_id)
    return _Neighbour(tenant_id, uuid4(), f"n-{tenant_id.hex[:16]}", credential.text)


async def _settle(installation: Installation, neighbours: Sequence[_Neighbour]) -> None:
    """Make tenants as rows, ten workspaces each, past the API that would take minutes."""
    hasher, template = KeyHasher(installation.secrets.pepper), parse_id(Prefix.TENANT, installation.tenant)
    ids = [each.tenant_id for each in neighbours]
    slugs = [each.slug for each in neighbours]
    cell = await asyncpg.connect(installation.superuser_dsn)
    directory = await asyncpg.connect(dsn_at(installation.superuser_dsn, DIRECTORY_DATABASE))
    try:
        await cell.execute("set session_replication_role = replica")
        for number in range(10):
            first = number == 0
            homes = [each.workspace_id if first else uuid4() for each in neighbours]
            for name, (table, changes) in _CLONES.items():
                if first or name == "workspaces":
                    query = _CLONE.format(table=table, changes=changes)
                    await cell.execute(query, template, ids, homes, slugs, [number] * len(ids))
            await directory.execute(
                """insert into directory.tenants (tenant_id, slug, region, isolation, placement, status)
                   select *, $3, 'row_level', 'tenantry', 'active' from unnest($1::uuid[], $2::text[])
                   on conflict do nothing""",
                ids,
                slugs,
                REGION,
            )
            await directory.execute(
                """insert into directory.workspaces (workspace_id, tenant_id, region)
                   select *, $3 from unnest($1::uuid[], $2::uuid[])""",
                homes,
                ids,
                REGION,
            )
        await cell.execute(
            _KEYS,
            template,
            ids,
            [hasher.lookup(each.key) for each in neighbours],
            [hasher.verifier(each.key) for each in neighbours],
        )
        await cell.execute(
            """insert into fence.tenant_state (tenant_id, mode, home)
               select *, 'active', 'tenantry' from unnest($1::uuid[])""",
            ids,
        )
        await cell.execute("vacuum analyze")
    finally:
        await cell.close()
        await directory.close()


async def _warm(installation: Installation, neighbours: Sequence[_Neighbour]) -> None:
    """Let each in once: what is compared is the cost of being among many, not of coming in."""
    asked, around = 0, _shuffled(neighbours)

    def make() -> bytes:
        nonlocal asked
        asked += 1
        return around()

    load = await Load.open(installation.url, make, connections=_CONNECTIONS)
    while asked < len(neighbours):
        await load.block(seconds=0.2)
    load.close()


async def _measure(
    installation: Installation, levels: Sequence[tuple[Series, Sequence[_Neighbour]]], *, rounds: int
) -> None:
    loads = []
    for _, some in levels:
        make = _shuffled(some)
        loads.append(await Load.open(installation.url, make, connections=_CONNECTIONS))
    for load in loads:
        await load.block(seconds=0.3)
    for number in range(rounds):
        order = list(zip(levels, loads, strict=True))
        for (series, _), load in order if number % 2 else reversed(order):
            await asyncio.sleep(0.4)
            series.add(await load.block(seconds=1.0))
    for load in loads:
        load.close()


def _shuffled(neighbours: Sequence[_Neighbour]) -> Callable[[], bytes]:
    requests = [each.read() for each in neighbours]
    random.Random(14).shuffle(requests)  # noqa: S311 - an order, not a secret
    around: Iterator[bytes] = itertools.cycle(requests)
    return lambda: next(around)


def _read(tenant: Installation) -> Callable[[], bytes]:
    guarded = request("GET", f"/api/v1/workspaces/{tenant.workspace}", key=tenant.key)
    return lambda: guarded


def _write(tenant: Installation) -> Callable[[], bytes]:
    numbers, path = itertools.count(), f"/api/v1/workspaces/{tenant.workspace}/service-accounts"

    def make() -> bytes:
        body = json.dumps({"name": f"{tenant.tenant[-6:]} {next(numbers)}"}).encode()
        return request("POST", path, key=tenant.key, body=body)

    return make


async def _job(tenant: Installation) -> float:
    async with replace(tenant).client() as client:
        begun = time.perf_counter()
        answer = await client.post(
            f"/workspaces/{tenant.workspace}/jobs", params={"wait": 30}, json={"command": ["true"], "image": "host"}
        )
        answer.raise_for_status()
        assert answer.json()["status"] == "succeeded", answer.text
        return (time.perf_counter() - begun) * 1e3
