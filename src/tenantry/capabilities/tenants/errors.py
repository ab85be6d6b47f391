"""What tenants and workspaces refuse."""

from collections.abc import Iterable, Sequence

from tenantry.capabilities.tenants.types import OverlayFault
from tenantry.foundation.errors import Conflict, Denied, Fault, Gone, Invalid, NotFound, Precondition, TenantryError


def tenant_not_found() -> NotFound:
    return NotFound("tenant_not_found", "no such tenant", layer="tenants")


def workspace_not_found() -> NotFound:
    return NotFound("not_found", "no such workspace", layer="tenants")


def slug_taken(slug: str) -> Conflict:
    return Conflict("slug_taken", f"the slug {slug!r} is taken: choose another", layer="tenants", field="slug")


def path_taken(path: str) -> Conflict:
    return Conflict("path_taken", f"a workspace with the path {path!r} exists", layer="tenants", field="path")


def path_owner_mismatch(path: str, folder: str) -> Invalid:
    return Invalid(
        "path_owner_mismatch",
        f"path: {path!r} does not fit the owner: it begins with {folder}/ for this type of owner",
        layer="tenants",
        field="path",
    )


def environment_not_found() -> NotFound:
    return NotFound("not_found", "no such environment", layer="tenants")


def environment_unknown(slug: str) -> Invalid:
    return Invalid(
        "environment_unknown",
        f"environment: the workspace has none named {slug!r}: add it first",
        layer="tenants",
        field="environment",
    )


def environment_taken(slug: str) -> Conflict:
    return Conflict("environment_taken", f"an environment {slug!r} exists here", layer="tenants", field="slug")


def version_mismatch(current: int) -> Precondition:
    return Precondition(
        "version_mismatch",
        "the resource has changed since it was read: read it again and repeat",
        layer="tenants",
        current=f'"{current}"',
    )


def state_conflict(noun: str, state: str, wanted: str) -> Conflict:
    return Conflict("state_conflict", f"the {noun} is {state}: it cannot be {wanted}", layer="tenants", current=state)


def workspace_closed(state: str) -> Denied:
    return Denied(
        f"workspace_{state}",
        f"this workspace is {state}: it can be read, and resumed by its administrator",
        layer="tenants",
        allow_with="POST …/resume",
    )


def unknown_plan(plan: str, known: tuple[str, ...]) -> Invalid:
    return Invalid(
        "plan_unknown", f"plan: {plan!r} is not in the catalogue", layer="tenants", field="plan", known=list(known)
    )


def unknown_region(region: str, known: tuple[str, ...]) -> Invalid:
    return Invalid(
        "region_unknown", f"region: {region!r} is not a region here", layer="tenants", field="region", known=list(known)
    )


def isolation_unavailable(isolation: str, offered: Iterable[str]) -> Invalid:
    known = sorted(offered)
    return Invalid(
        "isolation_unavailable",
        f"isolation: {isolation} is not offered in this region: name one that is ({', '.join(known)}), or give the "
        "server the region's owner_url, mover_url and, for database_level, provisioner_url",
        layer="tenants",
        field="isolation",
        known=known,
    )


def operation_not_found() -> NotFound:
    return NotFound("not_found", "no such operation", layer="tenants")


def operation_open() -> Conflict:
    return Conflict(
        "operation_open",
        "another operation on this tenant is open: wait for its end, or cancel it if it is a move",
        layer="tenants",
    )


def move_switched() -> Conflict:
    return Conflict(
        "move_switched",
        "the tenant is at its new place already and may have written there: nothing is called off any more. Wait until "
        "the operation has ended, then move it back: POST …/move",
        layer="tenants",
    )


def move_overdue(waited_for: str, *, seconds: int) -> Fault:
    """Give up a move whose tenant does not come to rest."""
    return Fault(
        "move_overdue",
        f"after tenants.drain_seconds ({seconds}) the tenant has not come to rest: {waited_for}",
        layer="tenants",
    )


def tenant_erased(*, reading: bool) -> TenantryError:
    """Say that there is nothing left to read, or to change."""
    kind = Gone if reading else Conflict
    return kind("erased", "this tenant was erased: GET …/certificate tells what was", layer="tenants")


def erasure_begun() -> Conflict:
    return Conflict("erasure_begun", "the erasure of this tenant has begun: nothing takes it back", layer="tenants")


def certificate_not_found() -> NotFound:
    return NotFound("not_found", "no certificate: this tenant has not been erased", layer="tenants")


def tenant_here(name: str) -> Conflict:
    return Conflict(
        "tenant_here",
        f"the tenant {name} is, or was, on this installation: it cannot be imported here",
        layer="tenants",
    )


def workspace_here() -> Conflict:
    return Conflict(
        "workspace_here", "a workspace of the archive is another tenant's here: it cannot be imported", layer="tenants"
    )


def archive_refused(rule: str, message: str) -> Invalid:
    """Refuse an archive; nothing of it has been, or is, kept."""
    return Invalid("archive_refused", f"the archive: {message}", layer="tenants", field="body", rule=rule)


def export_key_wrong() -> Invalid:
    return Invalid(
        "export_key_wrong",
        "X-Export-Key: does not open this archive: give the key that GET …/exports/{export} told",
        layer="tenants",
        field="X-Export-Key",
    )


def export_not_ready(status: str) -> Conflict:
    return Conflict("export_not_ready", f"the export is {status}: ask again", layer="tenants", current=status)


def export_gone() -> Gone:
    return Gone("export_gone", "this export is no longer kept: make another", layer="tenants")


def move_nowhere(region: str, isolation: str) -> Invalid:
    return Invalid(
        "move_nowhere",
        f"isolation, region: the tenant is {isolation} in {region} already: name another",
        layer="tenants",
        field="isolation",
    )


def confirmer_same() -> Denied:
    return Denied(
        "confirmer_same",
        "whoever asked for it cannot confirm it: another administrator, of the installation or the tenant, must",
        layer="tenants",
        allow_with=("tenant-admin", "platform-admin"),
    )


def region_fixed(region: str) -> Invalid:
    return Invalid(
        "region_fixed",
        f"region: a workspace takes the region of its tenant, which is {region!r}",
        layer="tenants",
        field="region",
    )


def overlay_invalid(faults: Sequence[OverlayFault], *, field: str) -> Invalid:
    """Name every fault by field and rule; values are not repeated."""
    named = [{"field": f"{field}.{each.field}", "rule": each.rule, "message": each.message} for each in faults[:20]]
    return Invalid(
        "overlay_invalid",
        f"{named[0]['field']}: {named[0]['message']}",
        layer="tenants",
        field=named[0]["field"],
        rule=named[0]["rule"],
        errors=named,
    )


def usage_unknown(name: str, known: tuple[str, ...]) -> Invalid:
    return Invalid(
        "usage_unknown", f"usage: {name[:80]!r} is not a counter", layer="tenants", field="name", known=list(known)
    )


def usage_amount_invalid() -> Invalid:
    return Invalid(
        "usage_amount_invalid",
        "usage: the amount must be a whole number of at most 2^53 - 1",
        layer="tenants",
        field="amount",
    )


def usage_out_of_range(name: str) -> Conflict:
    return Conflict(
        "usage_out_of_range",
        f"usage: {name} would go below zero or beyond 2^53 - 1; nothing was counted",
        layer="tenants",
        field="amount",
    )
