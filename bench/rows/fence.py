"""Row 3: row level security on and off, on the same table: a point read and a list of 50 in one transaction."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from bench.installation import REGION, Installation
from bench.report import Bar, Result, Series, paired_ratio
from tenantry.foundation.database.context import ContextSigner, derive_context_key
from tenantry.foundation.ids import Prefix, new_id, parse_id

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

_COLUMNS = "service_account_id, workspace_id, name, status, version, created_at"
_POINT = f"select {_COLUMNS} from service_accounts where tenant_id = $1 and service_account_id = $2"  # noqa: S608 - columns are a constant
_LIST = f"""select {_COLUMNS} from service_accounts where tenant_id = $1 and service_account_id > $2
            order by service_account_id limit 50"""  # noqa: S608 - columns are a constant
_NEIGHBOURS = 100
_EACH = 200
_ROLES = ("bench_off", "bench_unsigned")

Transaction = Callable[[], Awaitable[None]]


async def measure(installation: Installation, *, quick: bool) -> list[Result]:
    tenant_id = parse_id(Prefix.TENANT, installation.tenant)
    workspace_id = parse_id(Prefix.WORKSPACE, installation.workspace)
    superuser = await asyncpg.connect(installation.superuser_dsn)
    first = await _fill(superuser, tenant_id, workspace_id)
    await _roles(superuser)
    links = [await _link(installation.superuser_dsn) for _ in _ROLES]
    for link, role in zip(links, _ROLES, strict=True):
        await link.execute(f"set session authorization {role}")
    links.append(await _link(installation.addresses.cells[REGION].app))
    signer = ContextSigner(key=derive_context_key(master=installation.secrets.context_key, region=REGION))

    def signed(workspace: UUID | None) -> Callable[[], str]:
        return lambda: f"BEGIN; SET LOCAL app.ctx = '{signer.sign(tenant_id=tenant_id, workspace_id=workspace)}'"

    ways = {
        "off: explicit WHERE tenant_id": _transaction(links[0], lambda: "BEGIN", tenant_id, first),
        "on, unsigned setting": _transaction(
            links[1], lambda: f"BEGIN; SET LOCAL app.tenant = '{tenant_id}'", tenant_id, first
        ),
        "on, signed, tenant state": _transaction(links[2], signed(None), tenant_id, first),
        "on, signed, tenant state, workspace": _transaction(links[2], signed(workspace_id), tenant_id, first),
    }
    result = await _interleaved(ways, blocks=6 if quick else 40)
    for link in (*links, superuser):
        await link.close()
    return [result]


async def _interleaved(ways: dict[str, Transaction], *, blocks: int, size: int = 60) -> Result:
    result = Result("3", "RLS: point read and 50-row list in one transaction, one connection")
    series = [Series(name) for name in ways]
    medians: list[list[float]] = [[] for _ in ways]
    for number in range(blocks + 1):
        order = list(range(len(ways)))
        for index in order if number % 2 else reversed(order):
            block = Series("")
            transaction = list(ways.values())[index]
            begun = time.perf_counter()
            for _ in range(size):
                start = time.perf_counter()
                await transaction()
                block.samples.append((time.perf_counter() - start) * 1e3)
            block.seconds = time.perf_counter() - begun
            if number:  # the first block makes plans
                series[index].add(block)
                medians[index].append(block.percentile(0.5))
    result.series = series
    limits = (None, 1.05, 1.15, 1.15)
    for one, median, limit in zip(series, medians, limits, strict=True):
        if limit is not None:
            result.bars.append(Bar(f"p50, {one.name}", paired_ratio(median, medians[0]), limit))
    return result


def _transaction(link: "Connection", begin: Callable[[], str], tenant_id: UUID, first: UUID) -> Transaction:
    async def run() -> None:
        await link.execute(begin())
        row = await link.fetchrow(_POINT, tenant_id, first)
        rows = await link.fetch(_LIST, tenant_id, first)
        await link.execute("COMMIT")
        assert row is not None
        assert len(rows) == 50

    return run


async def _link(dsn: str) -> "Connection":
    return await asyncpg.connect(dsn, server_settings={"search_path": "tenantry, pg_temp", "jit": "off"})


async def _fill(superuser: "Connection", tenant_id: UUID, workspace_id: UUID) -> UUID:
    """Give the tenant and its neighbours their rows; gives the id that is read."""
    ids = [new_id() for _ in range(_EACH)]
    await superuser.execute("set session_replication_role = replica")  # neighbours need no records of their own
    for neighbour in (tenant_id, *(new_id() for _ in range(_NEIGHBOURS))):
        await superuser.execute(
            """insert into tenantry.service_accounts
                   (tenant_id, service_account_id, workspace_id, name, status, version, created_at)
               select $1, id, $2, 'read ' || id, 'active', 1, now() from unnest($3::uuid[]) id""",
            neighbour,
            workspace_id if neighbour == tenant_id else new_id(),
            ids if neighbour == tenant_id else [new_id() for _ in range(_EACH)],
        )
    await superuser.execute("analyze tenantry.service_accounts")
    return ids[0]


async def _roles(superuser: "Connection") -> None:
    """`bench_off` is not bound by row level security; `bench_unsigned` by the usual policy on a plain setting."""
    await superuser.execute(
        """create role bench_off bypassrls;
           create role bench_unsigned;
           grant usage on schema tenantry to bench_off, bench_unsigned;
           grant select on tenantry.service_accounts to bench_off, bench_unsigned;
           create policy bench_unsigned on tenantry.service_accounts for select to bench_unsigned
               using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid))"""
    )
