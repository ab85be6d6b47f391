"""All SQL of what jobs print and leave behind."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tenantry.capabilities.sandboxes.types import (
    CONTENT_KEYS,
    JOB_NEWS,
    Artifact,
    SealedLine,
    Taking,
)
from tenantry.foundation.database.session import TenantSession

_ARTIFACT: Final = "artifact_id, job_id, path, size_bytes, sha256, created_at"


async def insert_lines(
    session: TenantSession, job_id: UUID, *, workspace_id: UUID, lines: Sequence[SealedLine]
) -> None:
    """Append output and tell who follows, at commit; a line that is there already stays."""
    session.forward(JOB_NEWS, job_id.hex)
    await session.execute(
        f"""with told as (select pg_notify('{JOB_NEWS}', $8))
            insert into job_logs (tenant_id, job_id, workspace_id, seq, stream, at, sealed)
            select $1, $2, $3, l.* from told,
                   unnest($4::bigint[], $5::text[], $6::timestamptz[], $7::bytea[]) as l (seq, stream, at, sealed)
            on conflict do nothing""",
        session.scope.tenant_id,
        job_id,
        workspace_id,
        [line.seq for line in lines],
        [line.stream for line in lines],
        [line.at for line in lines],
        [line.sealed for line in lines],
        job_id.hex,
    )


async def list_lines(session: TenantSession, job_id: UUID, *, after: int, limit: int) -> list[SealedLine]:
    rows = await session.fetch(
        """select seq, stream, at, sealed from job_logs
           where tenant_id = $1 and job_id = $2 and seq > $3 order by seq limit $4""",
        session.scope.tenant_id,
        job_id,
        after,
        limit,
    )
    return [SealedLine(**row) for row in rows]


async def insert_artifacts(session: TenantSession, artifacts: Sequence[Artifact], *, workspace_id: UUID) -> None:
    """Insert what one job left, in one statement."""
    columns = zip(*(dataclasses.astuple(artifact) for artifact in artifacts), strict=True)
    await session.execute(
        f"""insert into artifacts (tenant_id, workspace_id, {_ARTIFACT})
            select $1, $2, * from unnest($3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::bytea[],
                                         $8::timestamptz[])""",
        session.scope.tenant_id,
        workspace_id,
        *(list(column) for column in columns),
    )


async def list_artifacts(session: TenantSession, job_id: UUID, *, after: UUID | None, limit: int) -> list[Artifact]:
    rows = await session.fetch(
        f"""select {_ARTIFACT} from artifacts
            where tenant_id = $1 and job_id = $2 and ($3::uuid is null or artifact_id > $3)
            order by artifact_id limit $4""",
        session.scope.tenant_id,
        job_id,
        after,
        limit,
    )
    return [Artifact(**row) for row in rows]


async def list_artifacts_of(session: TenantSession, jobs: Sequence[UUID]) -> dict[UUID, list[Artifact]]:
    """List what each of these jobs has left, in the order of the ids."""
    rows = await session.fetch(
        f"""select {_ARTIFACT} from artifacts
            where tenant_id = $1 and job_id = any ($2::uuid[]) order by artifact_id""",
        session.scope.tenant_id,
        list(jobs),
    )
    found: dict[UUID, list[Artifact]] = {}
    for row in rows:
        found.setdefault(row["job_id"], []).append(Artifact(**row))
    return found


async def find_artifact(session: TenantSession, job_id: UUID, artifact_id: UUID) -> Artifact | None:
    row = await session.fetchrow(
        f"select {_ARTIFACT} from artifacts where tenant_id = $1 and job_id = $2 and artifact_id = $3",
        session.scope.tenant_id,
        job_id,
        artifact_id,
    )
    return Artifact(**row) if row else None


async def find_inputs(session: TenantSession, job_id: UUID) -> bytes | None:
    """Read a job's sealed inputs; None when it had none, or they are no longer kept."""
    found: bytes | None = await session.fetchval(
        "select given_inputs from jobs where tenant_id = $1 and job_id = $2", session.scope.tenant_id, job_id
    )
    return found


async def purge_content(session: TenantSession, job_id: UUID, *, now: datetime) -> None:
    """Forget output and the keys of everything else; sizes and digests remain."""
    await session.execute("delete from job_logs where tenant_id = $1 and job_id = $2", session.scope.tenant_id, job_id)
    await session.execute(
        """update jobs set content_key = null, transient_key = null, given = null, given_inputs = null,
               content_purged_at = $3
           where tenant_id = $1 and job_id = $2""",
        session.scope.tenant_id,
        job_id,
        now,
    )


async def tell_content_keys(session: TenantSession, payload: str) -> None:
    """Ask or answer, at commit."""
    session.forward(CONTENT_KEYS, payload)
    await session.execute("select pg_notify($1, $2)", CONTENT_KEYS, payload)


async def measure_content(session: TenantSession) -> list[tuple[UUID, str, int]]:
    """Sum the bytes that the tenant keeps, by workspace and kind.

    Jobs that are open or keep content are found by their partial indexes: what has been purged costs nothing.
    """
    rows = await session.fetch(
        """with kept as materialized (
               select job_id, workspace_id, log_bytes, octet_length(given_inputs) as given from jobs
               where tenant_id = $1 and content_until is not null and content_purged_at is null
           ), open as materialized (
               select job_id, workspace_id,
                      coalesce(octet_length(given), 0) + coalesce(octet_length(given_inputs), 0) as given from jobs
               where tenant_id = $1 and finished_at is null
           )
           select workspace_id, 'job_logs' as kind, sum(bytes)::bigint as bytes from (
               select workspace_id, log_bytes as bytes from kept
               union all
               select o.workspace_id, octet_length(l.sealed) from open o
               join job_logs l on l.tenant_id = $1 and l.job_id = o.job_id
           ) logs group by workspace_id
           union all
           select workspace_id, 'inputs', sum(given)::bigint
           from (select workspace_id, given from open union all select workspace_id, given from kept) inputs
           where given > 0 group by workspace_id
           union all
           select a.workspace_id, 'artifacts', sum(a.size_bytes)::bigint
           from (select job_id from kept union all select job_id from open) j
           join artifacts a on a.tenant_id = $1 and a.job_id = j.job_id group by a.workspace_id
           union all
           select workspace_id, 'images', sum(size_bytes)::bigint from images
           where tenant_id = $1 group by workspace_id
           union all
           select workspace_id, 'sandboxes', sum(size_bytes)::bigint from sandbox_trees
           where tenant_id = $1 group by workspace_id""",
        session.scope.tenant_id,
    )
    return [(row["workspace_id"], row["kind"], row["bytes"]) for row in rows]


async def list_takings(session: TenantSession, ids: Sequence[UUID]) -> list[Taking]:
    """Tell what jobs take; of those that are no more nothing."""
    rows = await session.fetch(
        """select job_id, finished_at is null as open, started_at is not null as begun, sandbox_id is null as daily,
                  case when content_purged_at is null
                       then log_bytes + coalesce(octet_length(given_inputs), 0) + coalesce((
                           select sum(a.size_bytes) from artifacts a where a.tenant_id = $1 and a.job_id = j.job_id), 0)
                       else 0 end::bigint as kept_bytes
           from jobs j where tenant_id = $1 and job_id = any ($2::uuid[])""",
        session.scope.tenant_id,
        list(ids),
    )
    return [Taking(**row) for row in rows]
