"""SQL of the last decisions of each workspace."""

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.policies.types import MOST_DECISIONS, Decision
from tenantry.engines.rules.types import Effect
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_DECISION: Final = (
    "decision_id, workspace_id, at, principal, subject, verdict, layer, rule, reasons, shadow_verdict, shadow_rule, "
    "shadow_of"
)


async def insert_decision(session: TenantSession, decision: Decision) -> None:
    """Insert one, and delete those that are more than are kept; what another is deleting just now is left to it."""
    await session.execute(
        f"""with old as (
                select tenant_id, decision_id from policy_decisions
                where tenant_id = $1 and workspace_id = $3
                order by decision_id desc offset {MOST_DECISIONS - 1} for update skip locked
            ), gone as (
                delete from policy_decisions d using old
                where d.tenant_id = old.tenant_id and d.decision_id = old.decision_id
            )
            insert into policy_decisions (tenant_id, {_DECISION})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)""",
        session.scope.tenant_id,
        decision.decision_id,
        decision.workspace_id,
        decision.at,
        decision.principal,
        dict(decision.subject),
        decision.verdict.value,
        decision.layer,
        decision.rule,
        [dict(reason) for reason in decision.reasons],
        decision.shadow_verdict.value if decision.shadow_verdict else None,
        decision.shadow_rule,
        decision.shadow_of,
    )


async def list_shadowed(session: TenantSession, workspace_id: UUID, shadow_of: str) -> list[Decision]:
    """List, newest first, those made while just this was in shadow."""
    rows = await session.fetch(
        f"""select {_DECISION} from policy_decisions
            where tenant_id = $1 and workspace_id = $2 and shadow_of = $3 order by decision_id desc""",
        session.scope.tenant_id,
        workspace_id,
        shadow_of,
    )
    return [_decision(row) for row in rows]


async def find_decision_of(session: TenantSession, workspace_id: UUID, job: str) -> Decision | None:
    """Find what was decided of a job, while it is kept."""
    row = await session.fetchrow(
        f"""select {_DECISION} from policy_decisions
            where tenant_id = $1 and workspace_id = $2 and subject ->> 'job' = $3 order by decision_id desc limit 1""",
        session.scope.tenant_id,
        workspace_id,
        job,
    )
    return _decision(row) if row is not None else None


def _decision(row: "asyncpg.Record") -> Decision:
    values: dict[str, Any] = dict(row)
    values["verdict"] = Effect(values["verdict"])
    values["shadow_verdict"] = Effect(values["shadow_verdict"]) if values["shadow_verdict"] else None
    return Decision(**values)
