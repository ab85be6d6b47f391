"""Permissions, the roles that are built in, and what includes or needs what."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """`resource:action`; the whole list, also of rooms that are not built yet, so that roles are settled."""

    TENANT_READ = "tenant:read"
    TENANT_ADMIN = "tenant:admin"
    WORKSPACE_READ = "workspace:read"
    WORKSPACE_CREATE = "workspace:create"
    WORKSPACE_UPDATE = "workspace:update"
    WORKSPACE_ADMIN = "workspace:admin"
    MEMBER_READ = "member:read"
    MEMBER_ADMIN = "member:admin"
    KEY_READ = "key:read"
    KEY_ADMIN = "key:admin"
    GRANT_REQUEST = "grant:request"
    GRANT_READ = "grant:read"
    GRANT_ADMIN = "grant:admin"
    ROLE_READ = "role:read"
    ROLE_ADMIN = "role:admin"
    SANDBOX_READ = "sandbox:read"
    SANDBOX_CREATE = "sandbox:create"
    SANDBOX_UPDATE = "sandbox:update"
    SANDBOX_START = "sandbox:start"
    SANDBOX_STOP = "sandbox:stop"
    SANDBOX_DELETE = "sandbox:delete"
    SANDBOX_EXEC = "sandbox:exec"
    SANDBOX_CONNECT = "sandbox:connect"
    JOB_READ = "job:read"
    JOB_CREATE = "job:create"
    JOB_CANCEL = "job:cancel"
    ARTIFACT_READ = "artifact:read"
    ARTIFACT_CREATE = "artifact:create"
    ARTIFACT_DELETE = "artifact:delete"
    IMAGE_READ = "image:read"
    IMAGE_ADMIN = "image:admin"
    WORKFLOW_READ = "workflow:read"
    WORKFLOW_CREATE = "workflow:create"
    WORKFLOW_PUBLISH = "workflow:publish"
    WORKFLOW_CANCEL = "workflow:cancel"
    RUN_READ = "run:read"
    RUN_CREATE = "run:create"
    RUN_CANCEL = "run:cancel"
    RUN_DELETE = "run:delete"
    SECRET_READ = "secret:read"
    SECRET_ADMIN = "secret:admin"
    SECRET_USE = "secret:use"
    APPROVAL_READ = "approval:read"
    APPROVAL_DECIDE = "approval:decide"
    POLICY_READ = "policy:read"
    POLICY_CREATE = "policy:create"
    POLICY_ADMIN = "policy:admin"
    LIMIT_READ = "limit:read"
    LIMIT_ADMIN = "limit:admin"
    USAGE_READ = "usage:read"
    CONNECTOR_READ = "connector:read"
    CONNECTOR_ADMIN = "connector:admin"
    PROVIDER_KEY_READ = "provider_key:read"
    PROVIDER_KEY_ADMIN = "provider_key:admin"
    LLM_CALL = "llm:call"
    VAULT_READ = "vault:read"
    VAULT_CREATE = "vault:create"
    PROJECT_READ = "project:read"
    PROJECT_ADMIN = "project:admin"
    DEPLOYMENT_READ = "deployment:read"
    DEPLOYMENT_PLAN = "deployment:plan"
    DEPLOYMENT_APPLY = "deployment:apply"
    DEPLOYMENT_DESTROY = "deployment:destroy"
    STATE_READ = "state:read"
    STATE_WRITE = "state:write"
    STATE_UNLOCK = "state:unlock"
    SESSION_READ = "session:read"
    SESSION_ADMIN = "session:admin"
    AUDIT_READ = "audit:read"
    EVIDENCE_READ = "evidence:read"
    EVIDENCE_ADMIN = "evidence:admin"
    INSIGHT_READ = "insight:read"
    ALERT_READ = "alert:read"
    ALERT_ADMIN = "alert:admin"
    PLATFORM_ADMIN = "platform:admin"


_ALL: Final = frozenset(Permission)
_PLATFORM: Final = frozenset({Permission.PLATFORM_ADMIN})
_TENANT: Final = frozenset({Permission.TENANT_READ, Permission.TENANT_ADMIN})


def _expand(*names: str) -> frozenset[Permission]:
    """Spell out `job:*`; an unknown name is an error at import."""
    found: set[Permission] = set()
    for name in names:
        resource, _, action = name.partition(":")
        if action == "*":
            found |= {p for p in Permission if p.partition(":")[0] == resource}
        else:
            found.add(Permission(name))
    return frozenset(found)


_VIEWER: Final = _expand(
    *"workspace:read sandbox:read job:read artifact:read image:read workflow:read run:read project:read".split(),
    *"deployment:read usage:read grant:request grant:read".split(),
)
BUILT_IN_ROLES: Final[Mapping[str, frozenset[Permission]]] = {
    "workspace-admin": _ALL - _PLATFORM - _TENANT,
    "operator": _expand(
        *"workspace:read sandbox:* job:* artifact:* image:read workflow:* run:read run:create run:cancel".split(),
        *"policy:read limit:read usage:read connector:read secret:read secret:use llm:call vault:create".split(),
        *"vault:read project:read deployment:read deployment:plan approval:read evidence:read session:read".split(),
        *"insight:read alert:read grant:request grant:read".split(),
    ),
    "approver": _expand(
        *"workspace:read approval:read approval:decide run:read job:read artifact:read workflow:read".split(),
        *"deployment:read policy:read audit:read evidence:read grant:request grant:read".split(),
    ),
    "auditor": frozenset(p for p in Permission if p.endswith(":read"))
    - _expand("secret:read", "vault:read", "state:read"),
    "integration-admin": _expand(
        *"workspace:read workspace:update connector:* provider_key:* secret:read secret:admin".split(),
        *"grant:request grant:read".split(),
    ),
    "viewer": _VIEWER,
    "deployer": _VIEWER | _expand(*"deployment:plan deployment:apply project:read state:write approval:read".split()),
    "ci": _expand(
        *"workspace:read sandbox:read job:read job:create job:cancel artifact:read artifact:create".split(),
        *"image:read workflow:read run:read run:create run:cancel".split(),
    ),
    "tenant-admin": _ALL - _PLATFORM,
    "platform-admin": _PLATFORM,
}
"""Vocabulary of the product, exactly. `workspace:admin` includes every workspace permission, `tenant:admin` all."""

TENANT_WIDE_ROLES: Final = frozenset({"tenant-admin", "platform-admin"})
"""Roles that cannot be bound to, or held by a key of, one workspace."""

TENANT_WIDE_PERMISSIONS: Final = frozenset({Permission.TENANT_ADMIN, Permission.PLATFORM_ADMIN})
"""Permissions that mean nothing in one workspace: a role that holds one is bound in the whole tenant."""

INCLUDES: Final[Mapping[Permission, frozenset[Permission]]] = {
    Permission.WORKSPACE_ADMIN: BUILT_IN_ROLES["workspace-admin"],
    Permission.TENANT_ADMIN: BUILT_IN_ROLES["tenant-admin"],
}


NEEDS: Final[Mapping[Permission, frozenset[Permission]]] = {
    Permission.JOB_CREATE: frozenset({Permission.SANDBOX_READ}),
    Permission.WORKFLOW_CREATE: frozenset({Permission.JOB_CREATE}),
    Permission.DEPLOYMENT_APPLY: frozenset({Permission.DEPLOYMENT_PLAN}),
}
"""What makes no sense alone: a role that holds the one without the others is refused when it is defined."""
