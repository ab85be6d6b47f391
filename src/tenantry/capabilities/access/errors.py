"""What access refuses."""

from collections.abc import Iterable

from tenantry.capabilities.access.types import Decision, Permission
from tenantry.foundation.errors import Conflict, Denied, Invalid, NotFound


def permission_missing(permission: Permission, decision: Decision) -> Denied:
    return Denied(
        "permission_missing", decision.reason, layer="access", missing=permission.value, allow_with=decision.allow_with
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
