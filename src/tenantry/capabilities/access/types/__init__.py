"""Permissions, roles, decisions; the compiled form that `decide()` reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.identity.types import Login
from tenantry.foundation.scope import Actor


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
    SANDBOX_START = "sandbox:start"
    SANDBOX_STOP = "sandbox:stop"
    SANDBOX_DELETE = "sandbox:delete"
    SANDBOX_EXEC = "sandbox:exec"
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


class Outcome(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Effect(StrEnum):
    """What a binding does with the permissions of its role. A denial weighs more than whatever allows."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer and its reason. `allow_with` names roles that hold what is missing, smallest first.

    `source` is the id of the binding, grant or key that decided. `grant_id` is set where nothing but a just-in-time
    grant allows: it ends with that. `conditional` marks a refusal that might be another answer if environment and
    labels of the thing were told: who knows them asks again.
    """

    outcome: Outcome
    reason: str
    allow_with: tuple[str, ...] = ()
    source: str | None = None
    grant_id: UUID | None = None
    conditional: bool = False

    @property
    def allowed(self) -> bool:
        return self.outcome is Outcome.ALLOW


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a question is about, besides its place: the workspace's path, and what the thing itself says.

    `told` says whether environment and labels are those of the thing, perhaps none; before, they are not known.
    """

    path: str | None = None
    told: bool = False
    environment: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condition:
    """When a binding counts: whatever of these is named must hold.

    `environments` are slugs, one of which is the thing's. `labels` names for each label the values of which it has one.
    `paths` are beginnings of a workspace's path, component by component, `*` for any one: `teams/core`, `teams/*/prod`.
    """

    environments: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paths: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.environments or self.labels or self.paths)

    def holds(self, about: Circumstances) -> bool | None:
        """Say whether it holds; None while that depends on what the question has not told."""
        if self.paths and not any(_begins(about.path, beginning) for beginning in self.paths):
            return False
        if not (self.environments or self.labels):
            return True
        if not about.told:
            return None
        if self.environments and about.environment not in self.environments:
            return False
        return all(about.labels.get(name) in values for name, values in self.labels.items())

    def as_json(self) -> dict[str, Any]:
        named = {
            "environments": list(self.environments),
            "labels": {name: list(values) for name, values in self.labels.items()},
            "paths": list(self.paths),
        }
        return {name: value for name, value in named.items() if value}


def _begins(path: str | None, beginning: str) -> bool:
    if path is None:
        return False
    parts, wanted = path.split("/"), beginning.split("/")
    return len(wanted) <= len(parts) and all(want in ("*", part) for want, part in zip(wanted, parts, strict=False))


@dataclass(frozen=True, slots=True)
class Source:
    """What gives or takes permissions. `place` None: in the whole tenant. `until`: it counts before that moment."""

    place: UUID | None
    reason: str
    permissions: Iterable[Permission]
    effect: Effect = Effect.ALLOW
    condition: Condition | None = None
    until: datetime | None = None
    source: str | None = None
    grant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What one source says of one permission that some source denies, or allows under a condition only."""

    place: UUID | None
    effect: Effect
    condition: Condition | None
    decision: Decision


@dataclass(frozen=True, slots=True)
class Access:
    """What a credential may do, compiled: permission to its decision, for the whole tenant and for each workspace.

    `special` holds what the mappings cannot say: all rules of each permission that is denied or conditional somewhere;
    such a permission stands in neither mapping. `places` are those where anything is allowed, None the whole tenant.
    `within` is what the credential is a part of (its owner, the credential it was made by): both must allow.
    """

    tenant: Mapping[Permission, Decision]
    workspaces: Mapping[UUID, Mapping[Permission, Decision]] = field(default_factory=dict)
    special: Mapping[Permission, tuple[Rule, ...]] = field(default_factory=dict)
    places: frozenset[UUID | None] = frozenset()
    within: "Access | None" = None

    def knows(self, workspace_id: UUID) -> bool:
        """Whether the credential has any say in that workspace; else it reads as absent."""
        own = workspace_id in self.places or None in self.places
        return own and (self.within is None or self.within.knows(workspace_id))

    @property
    def wide(self) -> bool:
        """Whether something holds in the whole tenant, perhaps not everywhere in it."""
        return None in self.places and (self.within is None or self.within.wide)

    def holds_anywhere(self, permission: Permission) -> bool:
        """Whether anything allows it in some place, perhaps under a condition."""
        own = (
            permission in self.tenant
            or any(permission in held for held in self.workspaces.values())
            or any(rule.effect is Effect.ALLOW for rule in self.special.get(permission, ()))
        )
        return own and (self.within is None or self.within.holds_anywhere(permission))

    @property
    def named_workspaces(self) -> frozenset[UUID]:
        """The workspaces that something names: perhaps a say in them, perhaps none within what this is part of."""
        own = frozenset(place for place in self.places if place is not None)
        return own | (self.within.named_workspaces if self.within is not None else frozenset())


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the tenant's own. `workspace_id` None: of the whole tenant; else bound in that workspace alone."""

    slug: str
    workspace_id: UUID | None
    description: str
    permissions: tuple[str, ...]
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Group:
    """Principals that share bindings. `workspace_id` None: of the whole tenant."""

    group_id: UUID
    workspace_id: UUID | None
    name: str
    description: str
    version: int
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class GroupMember:
    principal_type: str
    principal_id: str
    added_at: datetime
    added_by: str


@dataclass(frozen=True, slots=True)
class Binding:
    """`workspace_id` None: in the whole tenant. `kept_by`: nobody, or the identity provider whose claims give it."""

    binding_id: UUID
    workspace_id: UUID | None
    principal_type: str
    principal_id: str
    role: str
    created_at: datetime
    created_by: str
    effect: Effect = Effect.ALLOW
    condition: Condition = Condition()
    kept_by: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """A principal with all roles that are bound, or denied, to it in one workspace."""

    principal_type: str
    principal_id: str
    roles: tuple[str, ...]
    denied: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated credential: who, where, and what it may do.

    `workspace_id` is the one workspace of a workspace key; None for a key of the tenant or the platform.
    `expires_at` is when anything it rests on ends first: the credential, a grant. `key_id` None: it is no API key.
    """

    actor: Actor
    tenant_id: UUID
    tenant_slug: str
    region: str
    workspace_id: UUID | None
    access: Access
    key_id: UUID | None
    expires_at: datetime | None
    allowed_networks: tuple[str, ...]
    principal: str
    roles: tuple[str, ...]
    login: Login | None = None
    """The login that the credential belongs to; keys belong to none."""
    clock_skew_ms: int = 0
    """How far ahead a clock that signs calls of this tenant may be."""
    credential_id: str = ""
    """What it came with, of whatever kind."""
    public_key: bytes | None = field(default=None, repr=False)
    """Of one that signs its requests: by it each is checked anew."""
