from pathlib import Path
from typing import Any, TypeVar, Unpack

from tenantry.client.calls import Call, get, post
from tenantry.client.log_types import (
    Anchor,
    AuditDay,
    AuditFilters,
    Checkpoint,
    ConsistencyProof,
    Forgetting,
    InclusionProof,
    Root,
    SequencePage,
)
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
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        **filters: Unpack[AuditFilters],
    ) -> Plan[AuditEvent]:
        """Newest first. Of several filters all must hold.

        `actor`, `actor_type`, `action` (a prefix, with `exact=True` the whole name), `resource` (an id, or a type),
        `resource_type`, `outcome` (`success`, `denied` or `error`), `since` (inclusive) and `until` (exclusive), both
        RFC 3339, `workspace`, `trace`, `q` (words, all of which stand in the event).
        """
        query: dict[str, Any] = {**filters, "tenant": tenant}
        return Plan(call=get("audit", query=query), limit=limit, cursor=cursor)

    @Operation
    def sequence(
        self, *, after: int = 0, limit: int = 200, tenant: str | None = None, **filters: Unpack[AuditFilters]
    ) -> Call[SequencePage]:
        """Read some events in the order of the sequence, from behind a place; filters are those of `query`.

        None is ever skipped: go on from the answer's `reached`, also where it has no items, and where it has come to
        the end (`next_cursor` None) a moment later.
        """
        query: dict[str, Any] = {**filters, "tenant": tenant, "order": "sequence", "after": after, "limit": limit}
        return get("audit", query=query)

    @Listing
    def days(self, *, limit: int | None = None, cursor: str | None = None) -> Plan[AuditDay]:
        """Days (UTC) that have events, the newest first."""
        return Plan(call=get("audit", "days"), limit=limit, cursor=cursor)

    @Download
    def day(self, day: str, *, to: Path) -> Saving:
        """Write the events of a day, `YYYY-MM-DD`, to a file of flat JSON lines; whole or not at all."""
        return Saving(call=get("audit", "days", day), to=to)

    @Operation
    def forget(self, principal: str, *, idempotency_key: str | None = None) -> Call[Forgetting]:
        """Have forgotten what lies beside all events that name a user, service account or key, also one that is gone.

        The events and their proofs stay. Follow it with `forgetting`; while it is open another call gives the same.
        Raises ApiError 409 `legal_hold` while a hold is active in the tenant.
        """
        return post("audit", "forgettings", json={"principal": principal}, idempotency_key=idempotency_key)

    @Listing
    def forgettings(self, *, limit: int | None = None, cursor: str | None = None) -> Plan[Forgetting]:
        """Read requests to forget somebody, the newest first."""
        return Plan(call=get("audit", "forgettings"), limit=limit, cursor=cursor)

    @Operation
    def forgetting(self, forgetting: str) -> Call[Forgetting]:
        """Read how far a request is."""
        return get("audit", "forgettings", forgetting)

    @Operation
    def checkpoint(self) -> Call[Checkpoint]:
        """Read the newest signed checkpoint of the tenant's log; raise ApiError 503 before the first."""
        return get("audit", "checkpoint")

    @Operation
    def event(self, event: str) -> Call[AuditEvent]:
        """Read one event; raise ApiError 410 `event_erased` for one that has left the log after its time."""
        return get("audit", "events", event)

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
