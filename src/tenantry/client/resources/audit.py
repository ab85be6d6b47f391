from pathlib import Path
from typing import TypeVar

from tenantry.client.calls import Call, get
from tenantry.client.log_types import Anchor, Checkpoint, ConsistencyProof, InclusionProof, Root
from tenantry.client.operations import Download, Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.saving import Saving
from tenantry.client.types import AuditEvent

T = TypeVar("T")


class Audit(Resource[T]):
    """Who did what to which resource, with which outcome."""

    @Listing
    def query(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        resource: str | None = None,
        outcome: str | None = None,
        since: str | None = None,
        until: str | None = None,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[AuditEvent]:
        """`since` (inclusive) and `until` (exclusive) are RFC 3339; `outcome` is `success`, `denied` or `error`."""
        query = {
            "actor": actor,
            "action": action,
            "resource": resource,
            "outcome": outcome,
            "since": since,
            "until": until,
            "workspace": workspace,
            "tenant": tenant,
        }
        return Plan(call=get("audit", query=query), limit=limit, cursor=cursor)

    @Operation
    def checkpoint(self) -> Call[Checkpoint]:
        """Read the newest signed checkpoint of the tenant's log; raise ApiError 503 before the first."""
        return get("audit", "checkpoint")

    @Operation
    def proof(self, event: str) -> Call[InclusionProof]:
        """Read the proof that an event is in the log; raise ApiError 503 for a second after it, a retry is safe."""
        return get("audit", "proof", event)

    @Operation
    def consistency(self, size: int) -> Call[ConsistencyProof]:
        """Read the proof that the newest checkpoint's log begins with its first `size` events; 409 where it cannot."""
        return get("audit", "consistency", query={"size": size})

    @Listing
    def roots(self) -> Plan[Root]:
        """Read the newest signed root of each region's log; for the installation's operator."""
        return Plan(call=get("platform", "audit", "roots"), limit=None, cursor=None)

    @Operation
    def anchor(self, tenant: str) -> Call[Anchor]:
        """Read the proof that a tenant's newest checkpoint is in its region's log; for the installation's operator."""
        return get("tenants", tenant, "audit-root")

    @Download
    def export(self, *, to: Path) -> Saving:
        """Write the whole log to the file `to`, for `tenantry audit verify`; whole or not at all."""
        return Saving(call=get("audit", "export", query={"format": "bundle"}), to=to)
