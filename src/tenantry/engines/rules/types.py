"""What is asked and what is answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tenantry.kit.globs import any_match, star_match


class Kind(StrEnum):
    IMAGE = "image"
    COMMAND = "command"
    NETWORK = "network"
    DEPLOYMENT = "deployment"
    RULES = "rules"


class Phase(StrEnum):
    FETCH = "fetch"
    RUN = "run"
    PUBLISH = "publish"


class Effect(StrEnum):
    ALLOW = "allow"
    WARN = "warn"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Finding:
    """`rule` is where it stands and what it says: `blocked_images[0]: *:latest`; `remedy` is what would allow it."""

    rule: str
    effect: Effect
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Without findings nothing was asked of the subject, so it is allowed. An ALLOW names what allowed it."""

    findings: tuple[Finding, ...] = ()

    @property
    def effect(self) -> Effect:
        decisive = self.decisive
        return Effect.ALLOW if decisive is None else decisive.effect

    @property
    def decisive(self) -> Finding | None:
        """The first DENY, else the first WARN."""
        for effect in (Effect.DENY, Effect.WARN):
            for finding in self.findings:
                if finding.effect is effect:
                    return finding
        return None


EMPTY: Final = Verdict()


def deny(rule: str, message: str, remedy: str) -> Verdict:
    return Verdict((Finding(rule, Effect.DENY, message, remedy),))


@dataclass(frozen=True, slots=True)
class Connection:
    """What a job asks to reach: `host` is a name, an address, or `*.name` for all below a name."""

    phase: Phase
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """`image_digest` is that of the content which will be started, where the caller has resolved it.

    A job of several phases is judged by the facts of each of its programs.
    """

    image: str
    command: tuple[str, ...]
    environment: str | None = None
    workflow: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    env_names: tuple[str, ...] = ()
    cpus: float = 0
    memory_mib: int = 0
    timeout_seconds: float = 0
    network: tuple[Connection, ...] = ()
    image_digest: str | None = None
    phase: Phase = Phase.RUN


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """What there would be after the deployment: `instances` and `disk_size_gb` in sum, `monthly_cost_usd` of all."""

    resource_types: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    instances: int = 0
    disk_size_gb: float = 0
    monthly_cost_usd: Decimal = Decimal(0)
    engine: str = "terraform"
    action: str = "apply"
    environment: str | None = None
    workflow: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selector:
    """`applies_to`: every part that is there must match; of a list one glob, of the labels each. Absent reads as ""."""

    workflows: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def matches(self, facts: JobFacts | DeploymentFacts) -> bool:
        return (
            (not self.workflows or any_match(facts.workflow or "", self.workflows))
            and (not self.environments or any_match(facts.environment or "", self.environments))
            and all(name in facts.labels and star_match(facts.labels[name], glob) for name, glob in self.labels)
        )


EVERYTHING: Final = Selector()
