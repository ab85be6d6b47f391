"""Permissions, roles, decisions; the compiled form that `decide()` reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from tenantry.capabilities.access.types.permissions import (
    BUILT_IN_ROLES,
    INCLUDES,
    NEEDS,
    TENANT_WIDE_PERMISSIONS,
    TENANT_WIDE_ROLES,
    Permission,
)
from tenantry.capabilities.identity.types import Login
from tenantry.foundation.scope import Actor

__all__ = [
    "BUILT_IN_ROLES",
    "INCLUDES",
    "NEEDS",
    "TENANT_WIDE_PERMISSIONS",
    "TENANT_WIDE_ROLES",
    "Access",
    "Binding",
    "Bound",
    "Caller",
    "Circumstances",
    "Condition",
    "Decision",
    "Effect",
    "Group",
    "GroupMember",
    "Outcome",
    "Permission",
    "Role",
    "Rule",
    "Source",
]


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
