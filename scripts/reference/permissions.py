from collections import Counter

from scripts.reference.markdown import code, page, table

from tenantry.capabilities.access.types import BUILT_IN_ROLES, INCLUDES, TENANT_WIDE_ROLES, Permission
from tenantry.interfaces.api.routes import ALL_ROUTES

_INTRODUCTION = """
What a role holds (●). A role is bound to a principal, or held by an API key, in one workspace or in the whole tenant;
{wide} only in the whole tenant. *Routes* counts those that ask for the permission: one that none
asks for yet is settled here so that roles do not change under those who hold them.
"""


def render() -> str:
    asked = Counter(spec.needs for spec in ALL_ROUTES)
    roles = list(BUILT_IN_ROLES)
    rows = [
        [
            code(permission),
            str(asked[permission] or ""),
            *("●" if permission in BUILT_IN_ROLES[r] else "" for r in roles),
        ]
        for permission in Permission
    ]
    includes = "\n".join(
        f"- `{permission}` includes all {len(held)} permissions of `{_holder(held)}`."
        for permission, held in INCLUDES.items()
    )
    wide = " and ".join(code(role) for role in sorted(TENANT_WIDE_ROLES))
    return page(
        "Permissions and roles",
        _INTRODUCTION.format(wide=wide),
        table(["Permission", "Routes", *map(code, roles)], rows),
        "## What includes what",
        includes,
    )


def _holder(held: frozenset[Permission]) -> str:
    return next(role for role, permissions in BUILT_IN_ROLES.items() if permissions == held)
