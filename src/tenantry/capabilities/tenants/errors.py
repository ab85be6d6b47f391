"""What tenants and workspaces refuse."""

from tenantry.foundation.errors import Conflict, Denied, Invalid, NotFound, Precondition


def tenant_not_found() -> NotFound:
    return NotFound("tenant_not_found", "no such tenant", layer="tenants")


def workspace_not_found() -> NotFound:
    return NotFound("not_found", "no such workspace", layer="tenants")


def slug_taken(slug: str) -> Conflict:
    return Conflict("slug_taken", f"the slug {slug!r} is taken: choose another", layer="tenants", field="slug")


def path_taken(path: str) -> Conflict:
    return Conflict("path_taken", f"a workspace with the path {path!r} exists", layer="tenants", field="path")


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


def isolation_unavailable(isolation: str) -> Invalid:
    return Invalid(
        "isolation_unavailable",
        f"isolation: {isolation} is not offered by this installation: row_level is",
        layer="tenants",
        field="isolation",
        known=["row_level"],
    )


def region_fixed(region: str) -> Invalid:
    return Invalid(
        "region_fixed",
        f"region: a workspace takes the region of its tenant, which is {region!r}",
        layer="tenants",
        field="region",
    )
