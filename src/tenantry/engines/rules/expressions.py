"""Custom rules in CEL: compiled at load, bounded in what they may cost; one that cannot be evaluated denies."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import cel

from tenantry.engines.rules.members import Members, Path, spelled
from tenantry.engines.rules.types import EMPTY, DeploymentFacts, Effect, Finding, JobFacts, Selector, Verdict

MAX_EXPRESSION: Final = 2000
MAX_NESTING: Final = 24
_MEMBERS: Final = ("name", "expression", "message", "on_match", "applies_to")
_SUBJECTS: Final = frozenset({"job", "deployment"})
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")
# `map` is not among them: a chain of them can make a text double at each link.
_FUNCTIONS: Final = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bool", "has"}
)
_MACROS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "filter"})
_OFFERED: Final = f"offered: {', '.join(sorted(_FUNCTIONS | _MACROS))}"
_TOKEN: Final = re.compile(
    r"(?:[rR][bB]?|[bB][rR])(?:\"\"\"(?s:.*?)\"\"\"|'''(?s:.*?)'''|\"[^\"]*\"|'[^']*')"  # a raw text
    r"|\"\"\"(?s:(?:\\.|[^\\])*?)\"\"\"|'''(?s:(?:\\.|[^\\])*?)'''|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"
    r"|(?P<hides>//|`)|\.\s*(?P<call>[A-Za-z_]\w*)\s*\(\s*(?P<bound>[A-Za-z_]\w*\s*,)?|(?P<opens>[(\[{?])|(?P<closes>[)\]}])"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`subject` is `job` or `deployment`, whichever the expression looks at."""

    name: str
    subject: str
    program: Any
    message: str
    effect: Effect
    applies_to: Selector


@dataclass(frozen=True, slots=True)
class Rules:
    rules: tuple[Rule, ...]

    def check_job(self, facts: JobFacts) -> Verdict:
        return self._check(facts, "job")

    def check_deployment(self, facts: DeploymentFacts) -> Verdict:
        return self._check(facts, "deployment")

    def _check(self, facts: JobFacts | DeploymentFacts, subject: str) -> Verdict:
        rules = [rule for rule in self.rules if rule.subject == subject and rule.applies_to.matches(facts)]
        if not rules:
            return EMPTY
        seen = {subject: _seen(facts)}
        found = tuple(finding for rule in rules if (finding := _evaluate(rule, seen)) is not None)
        return Verdict(found) if found else EMPTY


def _evaluate(rule: Rule, seen: Mapping[str, Any]) -> Finding | None:
    try:
        result = rule.program.execute(dict(seen))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the evaluator is no Exception, and must deny as well
        problem = f"cannot be evaluated here ({type(error).__name__}: {str(error)[:120]})"
    else:
        if result is False:
            return None
        if result is True:
            return Finding(rule.name, rule.effect, rule.message, "Change what the rule looks at.")
        problem = f"answers {type(result).__name__} instead of true or false"
    remedy = "Have the rule mended; `has(…)` asks whether a member is there."
    return Finding(rule.name, Effect.DENY, f"The rule {problem}.", remedy)


def _seen(facts: JobFacts | DeploymentFacts) -> dict[str, Any]:
    """Give the members that an expression may name, in types that CEL has."""
    seen = asdict(facts)
    for name, value in seen.items():
        if isinstance(value, tuple):
            seen[name] = list(value)
    seen["labels"] = dict(facts.labels)
    seen["environment"] = facts.environment or ""
    seen["workflow"] = facts.workflow or ""
    if isinstance(facts, JobFacts):
        seen["network"] = [{"phase": str(one.phase), "host": one.host, "port": one.port} for one in facts.network]
        seen["image_digest"], seen["phase"] = facts.image_digest or "", str(facts.phase)
        seen |= {name: float(seen[name]) for name in ("cpus", "timeout_seconds")}
    else:
        seen |= {name: float(seen[name]) for name in ("monthly_cost_usd", "disk_size_gb")}
    return seen


def compile_rules(members: Members, value: Mapping[str, Any]) -> Rules | None:
    """Compile a document, or note its faults and give None."""
    members.mapping((), value, ("applies_to", "rules"))
    rules = [_rule(members, path, item) for path, item in members.items(("rules",), value.get("rules", []))]
    names: set[str] = set()
    for index, rule in enumerate(rules):
        if rule is not None and rule.name.partition(": ")[2] in names:
            members.fault(("rules", index, "name"), "names a second rule")
        if rule is not None:
            names.add(rule.name.partition(": ")[2])
    return None if members.faults else Rules(tuple(rule for rule in rules if rule is not None))


def _rule(members: Members, at: Path, item: Any) -> Rule | None:
    read = members.mapping(at, item, _MEMBERS)
    before = len(members.faults)
    name = members.text((*at, "name"), read.get("name"))
    if name and not _NAME.fullmatch(name):
        members.fault((*at, "name"), "must be of a-z, 0-9, `-` and `_`, at most 64 characters")
    message = members.text((*at, "message"), read.get("message"))
    effect = Effect(members.choice(at, read, "on_match", (Effect.DENY, Effect.WARN)))
    applies_to = members.selector(at, read)
    place = (*at, "expression")
    expression = members.text(place, read.get("expression"), longest=MAX_EXPRESSION)
    if len(members.faults) > before:
        return None
    problem, bound = _bounds(expression)
    if problem:
        members.fault(place, problem)
        return None
    try:
        program = cel.compile(expression)
        subject = _subject(program, bound)
    except ValueError as error:
        members.fault(place, _syntax(str(error)))
        return None
    return Rule(f"{spelled(at)}: {name}", subject, program, message, effect, applies_to)


def _bounds(expression: str) -> tuple[str, set[str]]:
    """Say what makes an expression too costly, if anything, and which names its macros bind."""
    depth = 0
    bound: set[str] = set()
    inside: list[bool] = []
    for token in _TOKEN.finditer(expression):
        if token["hides"]:
            return "has a comment or a name in backquotes: neither is offered", bound
        if token["call"] or token["opens"]:
            if (token["call"] or "size") not in _FUNCTIONS | _MACROS:
                return f"uses {token['call']!r}; {_OFFERED}", bound
            macro = token["call"] in _MACROS
            if macro and any(inside):
                return "has a macro inside of a macro, which may cost the product of both", bound
            if token["bound"]:
                bound.add(token["bound"].rstrip(", \t\n"))
            if token["opens"] != "?":
                inside.append(macro)
            depth = max(depth, len(inside))
        elif token["closes"] and inside:
            inside.pop()
    if depth > MAX_NESTING or expression.count("?") > MAX_NESTING:
        return f"is nested deeper than {MAX_NESTING} levels", bound
    return "", bound


def _subject(program: Any, bound: set[str]) -> str:
    """Tell what an expression looks at; ValueError for names and functions that are not offered."""
    unknown = sorted(name for name in program.functions() if name[0].isalpha() and name not in _FUNCTIONS)
    if unknown:
        raise ValueError(f"uses {unknown[0]!r}; {_OFFERED}")
    names = set(program.variables())
    if bound & _SUBJECTS or (names - bound) - _SUBJECTS or len(names & _SUBJECTS) != 1:
        raise ValueError("must look at `job` or at `deployment`, at one of them and at no other name")
    return str(*(names & _SUBJECTS))


def _syntax(told: str) -> str:
    """Take from the parser's words what is wrong and where, without the expression."""
    found = re.search(r"<input>:(\d+):(\d+): (.{0,200})", told)
    return f"line {found[1]}, column {found[2]} of it: {found[3]}" if found else told[:300]
