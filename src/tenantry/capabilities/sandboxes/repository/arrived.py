"""All SQL that looks at what an archive says of jobs and sandboxes."""

import dataclasses
from datetime import datetime
from typing import Final
from uuid import UUID

from tenantry.capabilities.sandboxes.types import CONTENT, ClaimedArtifact
from tenantry.capabilities.sandboxes.types.living import MOST_SNAPSHOTS, TREES, KeptTree
from tenantry.foundation.database.session import TenantSession

_TREE: Final = tuple(field.name for field in dataclasses.fields(KeptTree))
_CONTRADICTIONS: Final = {
    "evidence is of another workspace than its job": """
        select from evidence e join jobs j on j.tenant_id = e.tenant_id and j.job_id = e.subject_id
        where e.tenant_id = $1 and e.subject_kind = 'job' and e.workspace_id <> j.workspace_id""",
    "an artifact is of another workspace than its job": """
        select from artifacts a join jobs j using (tenant_id, job_id)
        where tenant_id = $1 and a.workspace_id <> j.workspace_id""",
    "files are kept of a sandbox that its workspace does not have": """
        select from sandbox_trees t where t.tenant_id = $1 and not exists (
            select from sandboxes s where s.tenant_id = $1 and s.sandbox_id = t.sandbox_id
                and s.workspace_id = t.workspace_id)""",
    "a sandbox begins from files of another workspace": """
        select from sandboxes s join sandbox_trees t using (tenant_id, tree_id)
        where tenant_id = $1 and s.workspace_id <> t.workspace_id""",
    "a sandbox that keeps nothing, or is deleted, has something": """
        select from sandboxes where tenant_id = $1 and (tree_id is not null and persistence_mode <> 'full'
            or deleted_at is not null and (tree_id is not null or given is not null))""",
    "a sandbox lives by a job that is not its own": """
        select from sandboxes s where s.tenant_id = $1 and s.job_id is not null and not exists (
            select from jobs j where j.tenant_id = $1 and j.job_id = s.job_id and j.sandbox_id = s.sandbox_id
                and j.workspace_id = s.workspace_id)""",
    "a snapshot is of another workspace than its sandbox or files": """
        select from sandbox_snapshots n join sandboxes s using (tenant_id, sandbox_id)
            join sandbox_trees t on t.tenant_id = n.tenant_id and t.tree_id = n.tree_id
        where n.tenant_id = $1 and (n.workspace_id <> s.workspace_id or n.workspace_id <> t.workspace_id)""",
    "files that something begins from are to be forgotten": f"""
        select from queue.purges p where p.tenant_id = $1 and p.kind = '{TREES}' and (
            exists (select from sandboxes s where s.tenant_id = $1 and s.tree_id = p.item_id)
            or exists (select from sandbox_snapshots n where n.tenant_id = $1 and n.tree_id = p.item_id))""",
    "a sandbox has more snapshots than any may": f"""
        select from sandbox_snapshots where tenant_id = $1 group by sandbox_id having count(*) > {MOST_SNAPSHOTS}""",
}


async def contradictions_of(session: TenantSession) -> list[str]:
    """Name what the rows of jobs and sandboxes say of each other that cannot be."""
    asked = " union all ".join(
        f"select '{what}' as what where exists ({query})" for what, query in _CONTRADICTIONS.items()
    )
    return [row["what"] for row in await session.fetch(asked, session.scope.tenant_id)]


async def list_places(session: TenantSession) -> list[tuple[UUID, str]]:
    """Tell by workspace in which folders jobs and sandboxes keep what they have."""
    rows = await session.fetch(
        """select workspace_id, place from jobs where tenant_id = $1
           union select workspace_id, place from sandboxes where tenant_id = $1
           union select workspace_id, place from sandbox_trees where tenant_id = $1""",
        session.scope.tenant_id,
    )
    return [(row["workspace_id"], row["place"]) for row in rows]


async def list_claimed_artifacts(session: TenantSession, *, now: datetime) -> list[ClaimedArtifact]:
    """List the artifacts whose content is said to be kept, and whether it is to go now anyway."""
    rows = await session.fetch(
        """select j.place, a.job_id, a.artifact_id, a.size_bytes, exists (
                   select from queue.purges p where p.tenant_id = $1 and p.kind = $2 and p.item_id = a.job_id
                       and p.due_at <= $3) as due
           from artifacts a join jobs j on j.tenant_id = a.tenant_id and j.job_id = a.job_id
           where a.tenant_id = $1 and j.content_purged_at is null""",
        session.scope.tenant_id,
        CONTENT,
        now,
    )
    return [ClaimedArtifact(**row) for row in rows]


async def list_claimed_trees(session: TenantSession, *, now: datetime) -> list[tuple[KeptTree, bool]]:
    """List all kept trees, and whether each is to go now anyway."""
    rows = await session.fetch(
        f"""select {", ".join(f"t.{name}" for name in _TREE)}, exists (
                   select from queue.purges p where p.tenant_id = $1 and p.kind = $2 and p.item_id = t.tree_id
                       and p.due_at <= $3) as due
            from sandbox_trees t where t.tenant_id = $1 order by t.tree_id""",
        session.scope.tenant_id,
        TREES,
        now,
    )
    return [(KeptTree(**{name: row[name] for name in _TREE}), row["due"]) for row in rows]
