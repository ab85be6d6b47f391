from collections.abc import Mapping
from typing import TypeVar

from tenantry.client.calls import Call, delete, get, given, post
from tenantry.client.evidence_types import Evidence, EvidenceCollection, EvidenceIndex, LegalHold
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan

T = TypeVar("T")


class EvidenceOfWork(Resource[T]):
    """Signed proof of what ran, and what keeps it."""

    @Listing
    def list(
        self,
        workspace: str,
        *,
        state: str | None = None,
        subject: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[Evidence]:
        """Newest first; `state` is `wip`, `locked` or `tampered`, `subject` the id of a job."""
        call = get("workspaces", workspace, "evidence", query={"state": state, "subject": subject})
        return Plan(call=call, limit=limit, cursor=cursor)

    @Operation
    def get(self, workspace: str, evidence: str) -> Call[Evidence]:
        """Have it examined, and read it with its `bundle`."""
        return get("workspaces", workspace, "evidence", evidence)

    @Listing
    def export(self, workspace: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[Evidence]:
        """Read all of it with its bundles, newest first, as it is stored."""
        return Plan(call=get("workspaces", workspace, "evidence", "export"), limit=limit, cursor=cursor)

    @Operation
    def lock(self, workspace: str, evidence: str) -> Call[Evidence]:
        """Lock it now; raise ApiError 409 while its work goes on, or for two seconds after its end: a retry is safe."""
        return post("workspaces", workspace, "evidence", evidence, "lock")

    @Operation
    def index(self, workspace: str) -> Call[EvidenceIndex]:
        """Count by tenant and state."""
        return get("workspaces", workspace, "evidence", "index")

    @Operation
    def examine(self, workspace: str) -> Call[EvidenceIndex]:
        """Have what is locked examined now, at most 1000; what does not hold is `tampered` from then on."""
        return post("workspaces", workspace, "evidence", "index")

    @Operation
    def collect(self, workspace: str, *, dry_run: bool = True) -> Call[EvidenceCollection]:
        """Tell what would be deleted, or with `dry_run` False delete it; at most 500 pieces at once."""
        return post("workspaces", workspace, "evidence", "gc", json={"dry_run": dry_run})


class LegalHolds(Resource[T]):
    """What keeps evidence, and what jobs have left, beyond their time."""

    @Operation
    def place(
        self,
        workspace: str,
        *,
        case_id: str,
        reason: str,
        subject: str | None = None,
        label: Mapping[str, str] | None = None,
        since: str | None = None,
        until: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[LegalHold]:
        """Keep all of the workspace, or what all that is given select: a job, one label, a span of time (RFC 3339)."""
        body = given(
            case_id=case_id,
            reason=reason,
            subject=subject,
            label=dict(label) if label else None,
            since=since,
            until=until,
        )
        return post("workspaces", workspace, "evidence", "holds", json=body, idempotency_key=idempotency_key)

    @Listing
    def list(
        self, workspace: str, *, active: bool | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Plan[LegalHold]:
        """Newest first, also those that were released unless `active` says which."""
        call = get("workspaces", workspace, "evidence", "holds", query={"active": active})
        return Plan(call=call, limit=limit, cursor=cursor)

    @Operation
    def release(self, workspace: str, hold: str, *, reason: str | None = None) -> Call[LegalHold]:
        """For good."""
        return delete("workspaces", workspace, "evidence", "holds", hold, query={"reason": reason})
