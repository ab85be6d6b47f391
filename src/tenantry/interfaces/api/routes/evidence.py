"""Evidence of a workspace: listed, shown, exported, locked early, counted, examined, collected."""

from typing import Any

from fastapi import Query, Request

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.evidence.types import State
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.evidence_forms import (
    CollectionAnswer,
    CollectionBody,
    EvidenceAnswer,
    EvidenceBundleAnswer,
    EvidenceKeyAnswer,
    ExaminedIndexAnswer,
    IndexAnswer,
    IndexSummary,
    TenantCounts,
    render,
    render_report,
    rendered,
    subject_of,
)
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import CursorText, Limit, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_BASE = "/workspaces/{ws}/evidence"


@routes.get(_BASE, needs=Permission.EVIDENCE_READ)
async def list_evidence(
    request: Request,
    ws: str,
    state: State | None = None,
    subject: str | None = Query(default=None, max_length=60, description="id of what it is of: `job_…`"),
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[EvidenceAnswer]:
    """The evidence of the workspace, newest first."""
    unit, filters = unit_of(request), f"{state}/{subject}"
    service = unit.evidence
    found = await service.list_evidence(
        workspace_id=unit.workspace_id,
        before=after(unit, cursor, filters=filters),
        limit=limit + 1,
        state=state,
        subject_id=subject_of(subject)[1] if subject else None,
    )
    items = [render(each, subject=service.subject_id(each)) for each in found]
    ids = [each.evidence_id for each in found]
    return Page[EvidenceAnswer](**page(unit, items, ids=ids, limit=limit, filters=filters))


@routes.get(f"{_BASE}/index", needs=Permission.EVIDENCE_READ)
async def get_index(request: Request, ws: str) -> IndexAnswer:
    """How much evidence there is, by tenant and state, as the last examinations have found."""
    unit = unit_of(request)
    return IndexAnswer(**await _index(unit))


async def _no_replay(unit: Unit, _resource_id: str) -> IndexAnswer:
    return IndexAnswer(**await _index(unit))


@routes.post(f"{_BASE}/index", needs=Permission.EVIDENCE_ADMIN, replay=_no_replay, closed_too=True)
async def examine_index(request: Request, ws: str) -> ExaminedIndexAnswer:
    """Examine what is locked, now; what does not hold is `tampered` from then on.

    At most 1000 pieces at once, those first that were not examined for longest.
    """
    unit = unit_of(request)
    service, keyset = unit.evidence, await unit.keyset()
    examined = await service.examine_oldest(workspace_id=unit.workspace_id, keyset=keyset)
    tampered = [one for one in examined if one.faults]
    await _record(unit, "evidence.examined", {"examined": len(examined), "tampered": len(tampered)})
    return ExaminedIndexAnswer(
        **await _index(unit),
        examined=len(examined),
        tampered=[
            render(one.evidence, subject=service.subject_id(one.evidence), faults=one.faults) for one in tampered
        ],
    )


@routes.get(f"{_BASE}/export", needs=Permission.EVIDENCE_READ, feature=Feature.COMPLIANCE)
async def export_evidence(
    request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[EvidenceBundleAnswer]:
    """Bundles, newest first, as they are stored: whether they hold is for whoever verifies them."""
    unit = unit_of(request)
    service, keyset = unit.evidence, await unit.keyset()
    found = await service.export(
        workspace_id=unit.workspace_id, before=after(unit, cursor), limit=limit + 1, keyset=keyset
    )
    items = [
        EvidenceBundleAnswer(**rendered(each.evidence, subject=service.subject_id(each.evidence)), bundle=each.bundle)
        for each in found
    ]
    ids = [each.evidence.evidence_id for each in found]
    return Page[EvidenceBundleAnswer](**page(unit, items, ids=ids, limit=limit))


@routes.post(f"{_BASE}/gc", needs=Permission.EVIDENCE_ADMIN, replay=None, closed_too=True)
async def collect_evidence(request: Request, ws: str, body: CollectionBody) -> CollectionAnswer:
    """Delete what neither days, floor nor a hold keeps any longer, which else happens by itself; or tell what it would.

    At most 500 pieces at once; `left` says how many are for the next time.
    """
    unit = unit_of(request)
    report = await unit.collector.collect(workspace_id=unit.workspace_id, dry_run=body.dry_run)
    answer = render_report(report)
    told = {name: value for name, value in answer.model_dump().items() if name != "by_state"}
    await _record(unit, "evidence.collection", told)
    return answer


@routes.get(f"{_BASE}/{{evidence}}", needs=Permission.EVIDENCE_READ)
async def get_evidence(request: Request, ws: str, evidence: str) -> EvidenceBundleAnswer:
    """One piece of evidence, examined just now, and the bundle that proves it without this server."""
    unit = unit_of(request)
    service, keyset = unit.evidence, await unit.keyset()
    found = await service.get(parse_id(Prefix.EVIDENCE, evidence), workspace_id=unit.workspace_id, keyset=keyset)
    subject = service.subject_id(found.evidence)
    return EvidenceBundleAnswer(**rendered(found.evidence, subject=subject, faults=found.faults), bundle=found.bundle)


async def _locked_again(unit: Unit, resource_id: str) -> EvidenceAnswer:
    service, keyset = unit.evidence, await unit.keyset()
    found = await service.lock(parse_id(Prefix.EVIDENCE, resource_id), workspace_id=unit.workspace_id, keyset=keyset)
    return render(found, subject=service.subject_id(found))


@routes.post(f"{_BASE}/{{evidence}}/lock", needs=Permission.EVIDENCE_ADMIN, replay=_locked_again, closed_too=True)
async def lock_evidence(request: Request, ws: str, evidence: str) -> EvidenceAnswer:
    """Lock it now, which else happens by itself within seconds of the end. What is locked stays as it is."""
    unit = unit_of(request)
    return await _locked_again(unit, evidence)


async def _index(unit: Unit) -> dict[str, Any]:
    service = unit.evidence
    counts = await service.count(workspace_id=unit.workspace_id)
    total = sum(counts.values())
    by_state = {state.value: number for state, number in counts.items()}
    tenant = format_id(Prefix.TENANT, unit.scope.tenant_id)
    by_tenant = {tenant: TenantCounts(count=total, **by_state)} if total else {}
    return {
        "summary": IndexSummary(count=total, by_tenant=by_tenant),
        "keys": [
            EvidenceKeyAnswer(key=str(key), valid_from=key.valid_from, valid_until=key.valid_until)
            for key in service.keys
        ],
        "floor_days": await unit.collector.floor(),
    }


async def _record(unit: Unit, action: str, details: dict[str, Any]) -> None:
    await unit.audit.record(
        action,
        resource_type="workspace",
        resource_id=format_id(Prefix.WORKSPACE, unit.workspace_id),
        details=details,
    )
