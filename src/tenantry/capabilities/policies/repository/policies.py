"""SQL of policies and their versions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.policies.types import LIVE, LivePolicy, Policy, State
from tenantry.engines.rules.types import Kind
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import new_id

if TYPE_CHECKING:
    import asyncpg

_POLICY: Final = (
    "policy_id, workspace_id, kind, version, state, digest, document, source, created_at, created_by, changed_at"
)
_OF_PLACE: Final = "tenant_id = $1 and workspace_id is not distinct from $2 and kind = $3"


async def list_live(session: TenantSession) -> list[LivePolicy]:
    """List all that are enforced or in shadow, of the tenant and its workspaces."""
    rows = await session.fetch(
        """select workspace_id, kind, version, state, digest, document from policies
           where tenant_id = $1 and state = any($2) order by kind, policy_id""",
        session.scope.tenant_id,
        [state.value for state in LIVE],
    )
    return [
        LivePolicy(
            row["workspace_id"],
            Kind(row["kind"]),
            row["version"],
            State(row["state"]),
            row["digest"],
            row["document"],
        )
        for row in rows
    ]


async def lock_kind(session: TenantSession, workspace_id: UUID | None, kind: Kind) -> int:
    """Let nobody else make or promote versions of a place and kind until the end; tells the newest, 0 for none."""
    place = (workspace_id or session.scope.tenant_id).hex
    await session.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"policies/{place}/{kind}")
    newest = await session.fetchval(
        f"select coalesce(max(version), 0) from policies where {_OF_PLACE}",
        session.scope.tenant_id,
        workspace_id,
        kind.value,
    )
    return int(newest)


async def insert_policy(
    session: TenantSession,
    *,
    workspace_id: UUID | None,
    kind: Kind,
    version: int,
    digest: str,
    document: Mapping[str, Any],
    source: str,
    now: datetime,
) -> Policy:
    """Insert a draft."""
    row = await session.fetchrow(
        f"""insert into policies (tenant_id, policy_id, workspace_id, kind, version, state, digest, document, source,
                created_at, created_by, changed_at)
            values ($1, $2, $3, $4, $5, 'draft', $6, $7, $8, $9, $10, $9) returning {_POLICY}""",
        session.scope.tenant_id,
        new_id(),
        workspace_id,
        kind.value,
        version,
        digest,
        dict(document),
        source,
        now,
        session.scope.actor.id,
    )
    if row is None:
        raise AssertionError("an insert returns its row")
    return _policy(row)


async def set_state(session: TenantSession, policy: Policy, state: State, *, now: datetime) -> Policy:
    """Bring a version into a state; the one that was in a live state of that name retires."""
    place = (session.scope.tenant_id, policy.workspace_id, policy.kind.value)
    if state in LIVE:
        await session.execute(
            f"""update policies set state = 'retired', changed_at = $6
                where {_OF_PLACE} and state = $4 and version <> $5""",
            *place,
            state.value,
            policy.version,
            now,
        )
    row = await session.fetchrow(
        f"update policies set state = $4, changed_at = $6 where {_OF_PLACE} and version = $5 returning {_POLICY}",
        *place,
        state.value,
        policy.version,
        now,
    )
    if row is None:
        raise AssertionError("a version does not go")
    return _policy(row)


async def find_policy(
    session: TenantSession, workspace_id: UUID | None, kind: Kind, *, version: int | None = None
) -> Policy | None:
    """Find a version; without a number that in force, else that in shadow, else the newest."""
    row = await session.fetchrow(
        f"""select {_POLICY} from policies where {_OF_PLACE} and ($4::bigint is null or version = $4)
            order by state = 'enforced' desc, state = 'shadow' desc, version desc limit 1""",
        session.scope.tenant_id,
        workspace_id,
        kind.value,
        version,
    )
    return _policy(row) if row is not None else None


async def list_policies(
    session: TenantSession,
    workspace_id: UUID | None,
    *,
    kinds: Sequence[Kind],
    before: UUID | None,
    limit: int,
) -> list[Policy]:
    """Newest first."""
    rows = await session.fetch(
        f"""select {_POLICY} from policies
            where tenant_id = $1 and workspace_id is not distinct from $2 and kind = any($3)
              and ($4::uuid is null or policy_id < $4)
            order by policy_id desc limit $5""",
        session.scope.tenant_id,
        workspace_id,
        [kind.value for kind in kinds],
        before,
        limit,
    )
    return [_policy(row) for row in rows]


def _policy(row: "asyncpg.Record") -> Policy:
    values: dict[str, Any] = dict(row)
    values["kind"], values["state"] = Kind(values["kind"]), State(values["state"])
    return Policy(**values)
