"""What access refuses."""

from collections.abc import Iterable

from tenantry.capabilities.access.types import Decision, Permission
from tenantry.capabilities.access.types.grants import (
    GRANT_LEVELS,
)
from tenantry.foundation.errors import Conflict, Denied, Invalid, NotFound, Precondition


def permission_missing(permission: Permission, decision: Decision) -> Denied:
    return Denied(
        "permission_missing",
        decision.reason,
        layer="access",
        missing=permission.value,
        allow_with=decision.allow_with,
        **({"denied_by": decision.source} if decision.source else {}),
    )


def role_unknown(role: str, known: Iterable[str]) -> Invalid:
    return Invalid("role_unknown", f"roles: {role!r} is not a role here", layer="access", field="roles", known=[*known])


def role_not_for_workspace(role: str) -> Invalid:
    return Invalid(
        "role_not_for_workspace",
        f"roles: {role} holds in a whole tenant, not in a workspace",
        layer="access",
        field="roles",
    )


def permission_unknown(permission: str) -> Invalid:
    return Invalid(
        "permission_unknown", f"permissions: {permission!r} is not a permission", layer="access", field="permissions"
    )


def grant_exceeds_own(missing: Iterable[Permission]) -> Denied:
    return Denied(
        "grant_exceeds_own",
        "nobody grants more than they hold here",
        layer="access",
        missing=sorted(p.value for p in missing),
    )


def binding_not_found() -> NotFound:
    return NotFound("not_found", "no such binding", layer="access")


def principal_not_found() -> NotFound:
    return NotFound("not_found", "no such principal", layer="access")


def binding_exists() -> Conflict:
    return Conflict("binding_exists", "this principal has this role here already", layer="access")


def last_admin() -> Conflict:
    return Conflict(
        "last_admin",
        "nobody else is tenant-admin of the whole tenant: bind another user first",
        layer="access",
    )


def role_not_found() -> NotFound:
    return NotFound("not_found", "no such role of this place's own", layer="access")


def role_exists(slug: str) -> Conflict:
    return Conflict("role_exists", f"slug: a role named {slug!r} exists in this tenant", layer="access", field="slug")


def role_in_use(slug: str) -> Conflict:
    return Conflict(
        "role_in_use", f"{slug} is bound, or held by a key: take it away there first", layer="access", field="role"
    )


def role_slug_invalid(slug: str) -> Invalid:
    return Invalid(
        "role_slug_invalid",
        f"slug: {slug[:60]!r} is not 2 to 40 of a-z, 0-9 and `-`, beginning with a letter",
        layer="access",
        field="slug",
    )


def role_incomplete(reason: str) -> Invalid:
    return Invalid("role_incomplete", reason, layer="access", field="permissions")


def permission_not_for_role(permission: Permission) -> Invalid:
    return Invalid(
        "permission_not_for_role",
        f"permissions: {permission} cannot be in a role of this place",
        layer="access",
        field="permissions",
    )


def too_many_roles(limit: int) -> Conflict:
    return Conflict("too_many_roles", f"a tenant has at most {limit} roles of its own", layer="access", limit=limit)


def group_not_found() -> NotFound:
    return NotFound("not_found", "no such group", layer="access")


def group_name_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"a group named {name!r} exists here", layer="access", field="name")


def member_exists() -> Conflict:
    return Conflict("member_exists", "this principal is in the group already", layer="access")


def member_not_found() -> NotFound:
    return NotFound("not_found", "no such member", layer="access")


def denies_the_mightier(missing: Iterable[Permission]) -> Denied:
    return Denied(
        "denies_the_mightier",
        "nobody denies anything to somebody who holds more than themselves here",
        layer="access",
        missing=sorted(p.value for p in missing),
    )


def version_mismatch(current: int) -> Precondition:
    return Precondition(
        "version_mismatch",
        f"If-Match: the present version is {current}: read it again",
        layer="access",
        current=current,
    )


def grant_not_found() -> NotFound:
    return NotFound("not_found", "no such grant", layer="access")


def grant_too_long(*, most: int, asked: int) -> Invalid:
    return Invalid(
        "grant_too_long",
        f"minutes: a grant lasts at most {most} here, its extensions included",
        layer="access",
        field="minutes",
        limit=most,
        current=asked,
    )


def level_unknown(level: str) -> Invalid:
    return Invalid(
        "level_unknown",
        f"role: {level!r} is no level at a provider",
        layer="access",
        field="role",
        known=[*GRANT_LEVELS],
    )


def grant_not_active(status: str) -> Conflict:
    return Conflict("grant_not_active", f"this grant is {status}: ask for another", layer="access", current=status)


def grant_over() -> Denied:
    return Denied("grant_over", "the grant that allowed this has just ended: ask for another", layer="access")


def extension_pending() -> Conflict:
    return Conflict("extension_pending", "an extension of this grant waits for its approval", layer="access")
