"""All SQL of sandboxes that live, of their kept trees and snapshots."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.sandboxes.types import JOB_NEWS, JobStatus, WantedSecret
from tenantry.capabilities.sandboxes.types.living import (
    SANDBOX,
    TREES,
    KeptTree,
    LiveJob,
    LiveSandbox,
    Snapshot,
)
from tenantry.engines.rules.types import Connection, Phase
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_SANDBOX: Final = tuple(field.name for field in dataclasses.fields(LiveSandbox) if field.name not in ("job", "tree"))
_JOB: Final = tuple(field.name for field in dataclasses.fields(LiveJob))
_TREE: Final = tuple(field.name for field in dataclasses.fields(KeptTree))
_SELECT: Final = f"""
    select {", ".join(f"s.{name}" for name in _SANDBOX)},
           {", ".join(f"j.{name} as job__{name}" for name in _JOB)},
           {", ".join(f"t.{name} as tree__{name}" for name in _TREE)}
    from sandboxes s
    left join jobs j on j.tenant_id = s.tenant_id and j.job_id = s.job_id
    left join sandbox_trees t on t.tenant_id = s.tenant_id and t.tree_id = s.tree_id"""


async def insert_sandbox(session: TenantSession, sandbox: LiveSandbox) -> bool:
    """Insert it; False when its name is taken."""
    values: dict[str, Any] = {name: getattr(sandbox, name) for name in _SANDBOX}
    values |= {
        "labels": dict(sandbox.labels),
        "limits": dict(sandbox.limits),
        "network": [dataclasses.asdict(one) for one in sandbox.network],
        "secrets": [dataclasses.asdict(one) for one in sandbox.secrets],
    }
    made = await session.fetchval(
        f"""insert into sandboxes (tenant_id, {", ".join(values)})
            values ($1, {", ".join(f"${at}" for at in range(2, len(values) + 2))})
            on conflict (tenant_id, workspace_id, name) where deleted_at is null do nothing returning sandbox_id""",
        session.scope.tenant_id,
        *values.values(),
    )
    return made is not None


async def find_sandbox(
    session: TenantSession, sandbox_id: UUID, *, workspace_id: UUID | None, lock: bool = False
) -> LiveSandbox | None:
    """Find one that is not deleted, in one workspace or any."""
    row = await session.fetchrow(
        f"""{_SELECT} where s.tenant_id = $1 and s.sandbox_id = $2 and s.deleted_at is null
                and ($3::uuid is null or s.workspace_id = $3) {"for update of s" if lock else ""}""",
        session.scope.tenant_id,
        sandbox_id,
        workspace_id,
    )
    return _sandbox(row) if row else None


async def list_sandboxes(
    session: TenantSession, *, workspace_id: UUID, before: UUID | None, limit: int
) -> list[LiveSandbox]:
    """Newest first."""
    rows = await session.fetch(
        f"""{_SELECT} where s.tenant_id = $1 and s.workspace_id = $2 and s.deleted_at is null
                and ($3::uuid is null or s.sandbox_id < $3) order by s.sandbox_id desc limit $4""",
        session.scope.tenant_id,
        workspace_id,
        before,
        limit,
    )
    return [_sandbox(row) for row in rows]


async def begin_life(session: TenantSession, sandbox_id: UUID, *, job_id: UUID) -> None:
    """Say by which job it lives from now on; when that ends is told when it runs."""
    await session.execute(
        """update sandboxes set job_id = $3, expires_at = null, version = version + 1
           where tenant_id = $1 and sandbox_id = $2""",
        session.scope.tenant_id,
        sandbox_id,
        job_id,
    )


async def change_sandbox(
    session: TenantSession, sandbox_id: UUID, *, labels: Mapping[str, str], ttl_seconds: int, idle_seconds: int
) -> None:
    await session.execute(
        """update sandboxes set labels = $3, ttl_seconds = $4, idle_seconds = $5, version = version + 1
           where tenant_id = $1 and sandbox_id = $2""",
        session.scope.tenant_id,
        sandbox_id,
        dict(labels),
        ttl_seconds,
        idle_seconds,
    )


async def set_expiry(session: TenantSession, sandbox_id: UUID, expires_at: datetime) -> None:
    await session.execute(
        """update sandboxes set expires_at = $3, version = version + 1 where tenant_id = $1 and sandbox_id = $2""",
        session.scope.tenant_id,
        sandbox_id,
        expires_at,
    )


async def open_link(
    session: TenantSession, sandbox_id: UUID, job_id: UUID, *, attempt: int, link: str, now: datetime
) -> LiveSandbox | None:
    """Say where a sandbox that has begun answers, and when its time is over; None where it may not run any more."""
    session.forward(JOB_NEWS, job_id.hex)
    opened = await session.fetchval(
        f"""with told as (select pg_notify('{JOB_NEWS}', $7)), opened as (
                update jobs set link = $4 from told
                where tenant_id = $1 and job_id = $2 and attempt = $3 and status = 'running' returning job_id
            )
            update sandboxes s set expires_at = $6::timestamptz + make_interval(secs => s.ttl_seconds)
            from opened where s.tenant_id = $1 and s.sandbox_id = $5 and s.deleted_at is null and s.job_id = $2
            returning s.sandbox_id""",
        session.scope.tenant_id,
        job_id,
        attempt,
        link,
        sandbox_id,
        now,
        job_id.hex,
    )
    return await find_sandbox(session, sandbox_id, workspace_id=None) if opened is not None else None


async def delete_sandbox(session: TenantSession, sandbox: LiveSandbox, *, now: datetime) -> None:
    """Mark it as deleted: what it was given goes now, what it left is on the purge list."""
    await session.execute(
        """update sandboxes set deleted_at = $3, given = null, content_key = null, tree_id = null, secrets = '[]',
               version = version + 1
           where tenant_id = $1 and sandbox_id = $2""",
        session.scope.tenant_id,
        sandbox.sandbox_id,
        now,
    )
    await list_for_purge(session, SANDBOX, sandbox.sandbox_id, due_at=now)


async def list_for_purge(session: TenantSession, kind: str, item_id: UUID, *, due_at: datetime) -> None:
    await session.execute(
        """insert into queue.purges (tenant_id, kind, item_id, due_at) values ($1, $2, $3, $4)
           on conflict do nothing""",
        session.scope.tenant_id,
        kind,
        item_id,
        due_at,
    )


async def insert_tree(session: TenantSession, tree: KeptTree) -> None:
    await session.execute(
        f"""insert into sandbox_trees (tenant_id, {", ".join(_TREE)})
            values ($1, {", ".join(f"${at}" for at in range(2, len(_TREE) + 2))})""",
        session.scope.tenant_id,
        *(getattr(tree, name) for name in _TREE),
    )


async def find_tree(session: TenantSession, tree_id: UUID, *, lock: bool = False) -> KeptTree | None:
    row = await session.fetchrow(
        f"""select {", ".join(_TREE)} from sandbox_trees where tenant_id = $1 and tree_id = $2
            {"for update" if lock else ""}""",
        session.scope.tenant_id,
        tree_id,
    )
    return KeptTree(**row) if row else None


async def put_tree(session: TenantSession, sandbox_id: UUID, tree_id: UUID) -> bool:
    """Say what /workspace begins from at the next start; False where the sandbox is deleted."""
    found = await session.fetchval(
        """update sandboxes set tree_id = $3, version = version + 1
           where tenant_id = $1 and sandbox_id = $2 and deleted_at is null returning sandbox_id""",
        session.scope.tenant_id,
        sandbox_id,
        tree_id,
    )
    return found is not None


async def drop_tree(session: TenantSession, tree_id: UUID, *, now: datetime) -> None:
    """Put a tree that nothing begins from any more on the purge list.

    Its row is locked, as by whoever makes another thing begin from it: neither misses the other.
    """
    if await find_tree(session, tree_id, lock=True) is None:
        return
    wanted = await session.fetchval(
        """select exists (select from sandboxes where tenant_id = $1 and tree_id = $2)
               or exists (select from sandbox_snapshots where tenant_id = $1 and tree_id = $2)""",
        session.scope.tenant_id,
        tree_id,
    )
    if not wanted:
        await list_for_purge(session, TREES, tree_id, due_at=now)


async def delete_tree(session: TenantSession, tree_id: UUID) -> None:
    await session.execute(
        "delete from sandbox_trees where tenant_id = $1 and tree_id = $2", session.scope.tenant_id, tree_id
    )


async def list_trees_of(session: TenantSession, sandbox_id: UUID) -> set[UUID]:
    """Name the trees that were kept of a sandbox and have a row."""
    rows = await session.fetch(
        "select tree_id from sandbox_trees where tenant_id = $1 and sandbox_id = $2",
        session.scope.tenant_id,
        sandbox_id,
    )
    return {row["tree_id"] for row in rows}


async def find_place(session: TenantSession, sandbox_id: UUID) -> str | None:
    """Find the folder of a sandbox, of a deleted one too."""
    found: str | None = await session.fetchval(
        "select place from sandboxes where tenant_id = $1 and sandbox_id = $2", session.scope.tenant_id, sandbox_id
    )
    return found


async def size_trees(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, int | None]:
    """Tell the bytes of kept trees; None of one that a job under way may still keep. Others are not named."""
    rows = await session.fetch(
        """select tree_id, size_bytes from sandbox_trees where tenant_id = $1 and tree_id = any ($2::uuid[])
           union all
           select j.tree_id, null from jobs j
           where j.tenant_id = $1 and j.finished_at is null and j.tree_id = any ($2::uuid[])""",
        session.scope.tenant_id,
        list(ids),
    )
    return {row["tree_id"]: row["size_bytes"] for row in rows}


async def insert_snapshot(session: TenantSession, snapshot: Snapshot, *, workspace_id: UUID) -> bool:
    """Insert it; False when the sandbox has one of this name."""
    made = await session.fetchval(
        """insert into sandbox_snapshots (tenant_id, snapshot_id, workspace_id, sandbox_id, tree_id, name, created_at,
               created_by) values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing returning snapshot_id""",
        session.scope.tenant_id,
        snapshot.snapshot_id,
        workspace_id,
        snapshot.sandbox_id,
        snapshot.tree.tree_id,
        snapshot.name,
        snapshot.created_at,
        snapshot.created_by,
    )
    return made is not None


_SNAPSHOT: Final = f"""
    select n.snapshot_id, n.sandbox_id, n.name, n.created_at, n.created_by,
           {", ".join(f"t.{name} as tree__{name}" for name in _TREE)}
    from sandbox_snapshots n join sandbox_trees t on t.tenant_id = n.tenant_id and t.tree_id = n.tree_id"""


async def find_snapshot(
    session: TenantSession, snapshot_id: UUID, *, workspace_id: UUID, lock: bool = False
) -> Snapshot | None:
    row = await session.fetchrow(
        f"""{_SNAPSHOT} where n.tenant_id = $1 and n.snapshot_id = $2 and n.workspace_id = $3
            {"for update of n" if lock else ""}""",
        session.scope.tenant_id,
        snapshot_id,
        workspace_id,
    )
    return _snapshot(row) if row else None


async def list_snapshots(
    session: TenantSession, sandbox_id: UUID, *, after: UUID | None = None, limit: int
) -> list[Snapshot]:
    """Oldest first."""
    rows = await session.fetch(
        f"""{_SNAPSHOT} where n.tenant_id = $1 and n.sandbox_id = $2 and ($3::uuid is null or n.snapshot_id > $3)
            order by n.snapshot_id limit $4""",
        session.scope.tenant_id,
        sandbox_id,
        after,
        limit,
    )
    return [_snapshot(row) for row in rows]


async def delete_snapshot(session: TenantSession, snapshot_id: UUID) -> None:
    await session.execute(
        "delete from sandbox_snapshots where tenant_id = $1 and snapshot_id = $2", session.scope.tenant_id, snapshot_id
    )


def _sandbox(row: "asyncpg.Record") -> LiveSandbox:
    values: dict[str, Any] = {name: row[name] for name in _SANDBOX}
    values["network"] = tuple(Connection(Phase(one["phase"]), one["host"], one["port"]) for one in row["network"])
    values["secrets"] = tuple(WantedSecret(**one) for one in row["secrets"])
    job = {name: row[f"job__{name}"] for name in _JOB}
    if job["status"] is not None:
        values["job"] = LiveJob(**{**job, "status": JobStatus(job["status"])})
    if row["tree__tree_id"] is not None:
        values["tree"] = KeptTree(**{name: row[f"tree__{name}"] for name in _TREE})
    return LiveSandbox(**values)


def _snapshot(row: "asyncpg.Record") -> Snapshot:
    values = {name: row[name] for name in ("snapshot_id", "sandbox_id", "name", "created_at", "created_by")}
    return Snapshot(**values, tree=KeptTree(**{name: row[f"tree__{name}"] for name in _TREE}))
