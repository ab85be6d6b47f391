"""Policies, exemptions, and what they decide."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from tenantry.engines.rules.documents import Bundle
from tenantry.engines.rules.types import Effect, JobFacts, Kind
from tenantry.foundation.ids import Prefix, format_id

MOST_DECISIONS: Final = 200
"""So many are kept of each workspace."""
MOST_EXEMPTION_DAYS: Final = 366
UNJUDGED: Final = frozenset({"image", "command", "document"})
"""Rules by which the engine says that it could not judge: nothing else was looked at, so nothing lifts them."""
EXEMPTIBLE: Final = frozenset({Kind.IMAGE, Kind.COMMAND, Kind.DEPLOYMENT, Kind.RULES})
"""Kinds whose verdict names every rule that denies; of a connection only the first is named."""


class Layer(StrEnum):
    """Who says so, from the widest to the narrowest."""

    PLATFORM = "platform"
    TENANT = "tenant"
    WORKSPACE = "workspace"


class State(StrEnum):
    DRAFT = "draft"
    SHADOW = "shadow"
    ENFORCED = "enforced"
    RETIRED = "retired"


LIVE: Final = (State.SHADOW, State.ENFORCED)


@dataclass(frozen=True, slots=True)
class Policy:
    """A version of a document; `source` is the text as it was written, `document` its value. `workspace_id` None: of
    the tenant as a whole.
    """

    policy_id: UUID
    workspace_id: UUID | None
    kind: Kind
    version: int
    state: State
    digest: str
    document: Mapping[str, Any]
    source: str
    created_at: datetime
    created_by: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class LivePolicy:
    """What is known of one that is enforced or in shadow."""

    workspace_id: UUID | None
    kind: Kind
    version: int
    state: State
    digest: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exemption:
    """Lifts the rules of a kind whose name begins with `rule`, until its end."""

    exemption_id: UUID
    workspace_id: UUID | None
    kind: Kind
    rule: str
    owner: str
    reason: str
    expires_at: datetime
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A compiled document where it stands; without a `bundle` it could not be compiled any more, and denies.

    `version` 0 is no version of anybody's: a file of the installation, or a workspace's settings.
    """

    layer: Layer
    kind: Kind
    bundle: Bundle | None
    version: int = 0
    prefix: str = ""

    @property
    def name(self) -> str:
        return f"{self.layer}/{self.kind}@{self.version}"


@dataclass(frozen=True, slots=True)
class Reason:
    """What one rule of one layer says; lifted where an exemption is named."""

    layer: Layer
    kind: Kind
    rule: str
    effect: Effect
    message: str
    remedy: str
    exempted_by: UUID | None = None

    def summary(self) -> dict[str, str]:
        """Tell it without the words of the message, which may repeat content."""
        told = {"layer": self.layer, "kind": self.kind, "rule": self.rule, "effect": self.effect, "remedy": self.remedy}
        return {name: str(value) for name, value in told.items()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all layers say together, the widest first."""

    reasons: tuple[Reason, ...] = ()
    requires_approval: bool = False

    @property
    def decision(self) -> Effect:
        return Effect.ALLOW if self.decisive is None else self.decisive.effect

    @property
    def denied(self) -> bool:
        return self.decision is Effect.DENY

    @property
    def decisive(self) -> Reason | None:
        """The first that denies, else the first that warns; of those that nothing lifts."""
        standing = [reason for reason in self.reasons if reason.exempted_by is None]
        for effect in (Effect.DENY, Effect.WARN):
            for reason in standing:
                if reason.effect is effect:
                    return reason
        return None

    @property
    def exempted_by(self) -> tuple[UUID, ...]:
        return tuple(dict.fromkeys(reason.exempted_by for reason in self.reasons if reason.exempted_by is not None))


Judge = Callable[[UUID, Sequence[JobFacts]], Outcome]
"""(workspace, facts) → what policies say now."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An outcome, and beside it what it would be with what is in shadow; None where nothing is."""

    outcome: Outcome
    shadow: Outcome | None = None
    shadow_of: tuple[str, ...] = ()
    asked: tuple[tuple[str, str], ...] = ()
    """Name with version, and digest, of each document that decided, the widest first."""

    def record(self) -> dict[str, Any]:
        """Tell for evidence what was asked and what it said: names, versions and digests, no words of a message."""
        told: dict[str, Any] = {
            "verdict": self.outcome.decision.value,
            "policies": [{"name": name, "sha256": digest} for name, digest in self.asked],
            "reasons": [reason.summary() for reason in self.outcome.reasons],
            "exempted_by": [format_id(Prefix.EXEMPTION, each) for each in self.outcome.exempted_by],
        }
        if self.shadow is not None:
            told["shadow"] = {"verdict": self.shadow.decision.value, "policies": list(self.shadow_of)}
        return told


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of something, and by which rule; `subject` holds no content beyond what the workspace keeps."""

    decision_id: UUID
    workspace_id: UUID
    at: datetime
    principal: str
    subject: Mapping[str, Any]
    verdict: Effect
    layer: str | None
    rule: str | None
    reasons: Sequence[Mapping[str, str]]
    shadow_verdict: Effect | None
    shadow_rule: str | None
    shadow_of: str | None


@dataclass(frozen=True, slots=True)
class Past:
    """Something that policies were asked of, by the id of the job it became."""

    job: str
    at: datetime
    principal: str
    facts: tuple[JobFacts, ...]
    content_kept: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that would be another with what is in shadow. `decision_id` is None where nothing was remembered of it
    then: it is asked anew, of what is enforced now and of what is in shadow.
    """

    decision_id: UUID | None
    at: datetime
    principal: str
    subject: Mapping[str, Any]
    verdict: Effect
    layer: str | None
    rule: str | None
    shadow_verdict: Effect
    shadow_rule: str | None


@dataclass(frozen=True, slots=True)
class ShadowDiff:
    """`decisions` is how many of the last were looked at; `changed` are those that would be others."""

    shadow_of: tuple[str, ...]
    decisions: int
    changed: tuple[Difference, ...]
