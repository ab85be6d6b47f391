"""A document of a kind becomes a bundle of compiled rules, or a list of all that is wrong with it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import rfc8785

from tenantry.engines.rules.commands import CommandRules, compile_commands
from tenantry.engines.rules.deployments import DeploymentRules, compile_deployments
from tenantry.engines.rules.errors import DocumentError, DocumentFault
from tenantry.engines.rules.expressions import Rules, compile_rules
from tenantry.engines.rules.images import ImageRules, compile_images
from tenantry.engines.rules.members import Members, Path, spelled
from tenantry.engines.rules.network import NetworkTable, compile_network
from tenantry.engines.rules.types import EMPTY, DeploymentFacts, JobFacts, Kind, Selector, Verdict
from tenantry.kit.canonical_json import canonical_json
from tenantry.kit.strict_yaml import NotStrictYamlError, parse_yaml

MAX_BYTES: Final = 256 * 1024

Compiled = ImageRules | CommandRules | NetworkTable | DeploymentRules | Rules
_COMPILERS: Final[Mapping[Kind, Callable[[Members, Mapping[str, Any]], Compiled | None]]] = {
    Kind.IMAGE: compile_images,
    Kind.COMMAND: compile_commands,
    Kind.NETWORK: compile_network,
    Kind.DEPLOYMENT: compile_deployments,
    Kind.RULES: compile_rules,
}


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A compiled document. `canonical` is its value, `digest` the SHA-256 of that in RFC 8785, in hex.

    Asked of what its kind says nothing about, or of what `applies_to` does not select, it answers an empty verdict.
    `check_image` and `check_command` know of no job, so they answer as for one that is selected.
    """

    kind: Kind
    applies_to: Selector
    canonical: Mapping[str, Any]
    digest: str
    compiled: Compiled

    def check_job(self, facts: JobFacts) -> Verdict:
        if isinstance(self.compiled, DeploymentRules) or not self.applies_to.matches(facts):
            return EMPTY
        return self.compiled.check_job(facts)

    def check_image(self, image: str, *, digest: str | None = None) -> Verdict:
        """Judge an image; `digest` is that of the content which the caller has resolved it to."""
        return self.compiled.check(image, digest) if isinstance(self.compiled, ImageRules) else EMPTY

    def check_command(self, argv: Sequence[str]) -> Verdict:
        return self.compiled.check(argv) if isinstance(self.compiled, CommandRules) else EMPTY

    def check_deployment(self, facts: DeploymentFacts) -> Verdict:
        if isinstance(self.compiled, DeploymentRules | Rules) and self.applies_to.matches(facts):
            return self.compiled.check_deployment(facts)
        return EMPTY

    @property
    def network(self) -> NetworkTable | None:
        """The table of a document of the kind network."""
        return self.compiled if isinstance(self.compiled, NetworkTable) else None

    @property
    def requires_approval(self) -> bool:
        return isinstance(self.compiled, DeploymentRules) and self.compiled.require_approval

    @property
    def engine_preference(self) -> str | None:
        return self.compiled.engine_preference if isinstance(self.compiled, DeploymentRules) else None


def load(kind: Kind, content: bytes) -> Bundle:
    """Compile a document in YAML or JSON, or raise DocumentError with the line of each fault."""
    if len(content) > MAX_BYTES:
        raise DocumentError([DocumentFault("", None, f"is larger than {MAX_BYTES // 1024} KiB")])
    try:
        document = parse_yaml(content)
    except NotStrictYamlError as error:
        raise DocumentError([DocumentFault(spelled(error.path), error.line, error.rule)]) from None
    return _compile(kind, document.value, document.line_of)


def from_value(kind: Kind, value: Any) -> Bundle:
    """Compile a plain value, as JSON or YAML would give it, or raise DocumentError without lines."""
    return _compile(kind, value, lambda _: None)


def _compile(kind: Kind, value: Any, line_of: Callable[[Path], int | None]) -> Bundle:
    members = Members(line_of)
    if not isinstance(value, dict):
        members.fault((), "must be a mapping")
    members.settle()
    applies_to = members.selector((), value)
    compiled = _COMPILERS[kind](members, value)
    members.settle()
    if compiled is None:
        raise AssertionError("a compiler gives rules, or notes what is wrong")
    try:
        canonical = canonical_json(value)
    except (rfc8785.CanonicalizationError, RecursionError):
        raise DocumentError([DocumentFault("", line_of(()), "holds a value that JSON cannot")]) from None
    if len(canonical) > MAX_BYTES:
        raise DocumentError([DocumentFault("", None, f"is larger than {MAX_BYTES // 1024} KiB")])
    return Bundle(kind, applies_to, json.loads(canonical), hashlib.sha256(canonical).hexdigest(), compiled)
