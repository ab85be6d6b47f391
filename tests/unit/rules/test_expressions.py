"""Custom rules: compiled at load, bounded, and denying whenever they cannot be evaluated."""

from decimal import Decimal
from typing import Any

import pytest

from tenantry.engines.rules.documents import Bundle, from_value, load
from tenantry.engines.rules.errors import DocumentError
from tenantry.engines.rules.types import Connection, DeploymentFacts, Effect, JobFacts, Kind, Phase

JOB = JobFacts(
    "python:3",
    ("python", "x.py"),
    environment="production",
    labels={"team": "a"},
    cpus=4,
    memory_mib=1024,
    timeout_seconds=60,
    env_names=("TOKEN",),
    network=(Connection(Phase.RUN, "a.example", 443),),
)


def rule(expression: str, **more: Any) -> Bundle:
    return from_value(Kind.RULES, {"rules": [{"name": "one", "expression": expression, "message": "no"} | more]})


@pytest.mark.parametrize(
    "expression",
    [
        "job.image == 'python:3'",
        "job.environment == 'production' && job.cpus > 2",
        "job.workflow == ''",
        "job.phase == 'run'",
        "'TOKEN' in job.env_names",
        "job.command.exists(word, word.endsWith('.py'))",
        "has(job.labels.team) && job.labels.team == 'a'",
        "!has(job.labels.owner)",
        "job.memory_mib >= 1024 && job.timeout_seconds <= 60.0",
        "job.network.exists(one, one.host == 'a.example' && one.port == 443)",
        "job.image.matches('^python:[0-9]+$')",
        "size(job.command) == 2 ? true : false",
        "job.image_digest == ''",
    ],
)
def test_a_rule_that_holds_denies_with_its_message(expression: str) -> None:
    (finding,) = rule(expression).check_job(JOB).findings
    assert (finding.rule, finding.effect, finding.message) == ("rules[0]: one", Effect.DENY, "no")


def test_a_rule_that_does_not_hold_says_nothing() -> None:
    assert rule("job.image == 'node'").check_job(JOB).findings == ()


def test_a_rule_may_warn() -> None:
    verdict = rule("job.cpus > 1", on_match="warn").check_job(JOB)
    assert (verdict.effect, verdict.decisive) == (Effect.WARN, verdict.findings[0])


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("job.labels.owner == 'x'", "cannot be evaluated"),
        ("job.labels['owner'] == 'x'", "cannot be evaluated"),
        ("job.nothing", "cannot be evaluated"),
        ("size(job.command) / 0 == 1", "cannot be evaluated"),
        ("job.image > 3", "cannot be evaluated"),
        ("job.command[7] == 'x'", "cannot be evaluated"),
        ("job.image.matches('(a{1000}){1000}')", "cannot be evaluated"),
        ("job.image.matches('[')", "cannot be evaluated"),
        ("job.image", "answers str"),
        ("size(job.command)", "answers int"),
        ("job.labels", "answers dict"),
    ],
)
@pytest.mark.parametrize("on_match", ["deny", "warn"])
def test_a_rule_that_errs_or_answers_no_boolean_denies(expression: str, said: str, on_match: str) -> None:
    (finding,) = rule(expression, on_match=on_match).check_job(JOB).findings
    assert finding.effect is Effect.DENY
    assert said in finding.message


def test_a_panic_of_the_evaluator_denies() -> None:
    class Panic(BaseException):
        pass

    class Program:
        def execute(self, _: object) -> None:
            raise Panic

    bundle = rule("job.cpus > 1")
    object.__setattr__(bundle.compiled.rules[0], "program", Program())  # type: ignore[union-attr]
    assert bundle.check_job(JOB).effect is Effect.DENY


def test_one_rule_that_errs_does_not_hide_the_others() -> None:
    bundle = from_value(
        Kind.RULES,
        {
            "rules": [
                {"name": "a", "expression": "job.labels.x == 'y'", "message": "a"},
                {"name": "b", "expression": "job.cpus > 1", "message": "b", "on_match": "warn"},
            ]
        },
    )
    assert [finding.effect for finding in bundle.check_job(JOB).findings] == [Effect.DENY, Effect.WARN]


def test_a_rule_looks_at_jobs_or_at_deployments() -> None:
    facts = DeploymentFacts(instances=3, monthly_cost_usd=Decimal("5.5"), resource_types=("vm",))
    bundle = rule("deployment.monthly_cost_usd > 5.0 && 'vm' in deployment.resource_types && deployment.instances == 3")
    assert bundle.check_deployment(facts).effect is Effect.DENY
    assert bundle.check_job(JOB).findings == ()


def test_a_rule_applies_where_it_says() -> None:
    bundle = rule("job.cpus > 1", applies_to={"environments": ["staging"]})
    assert bundle.check_job(JOB).findings == ()
    assert rule("job.cpus > 1", applies_to={"environments": ["prod*"]}).check_job(JOB).effect is Effect.DENY


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("1 +", "column 4"),
        ("job.cpus >", "Syntax error"),
        ("true", "must look at"),
        ("tenant.id == 'x'", "must look at"),
        ("job.cpus > deployment.instances", "must look at"),
        ("job.command.all(job, job == 'x')", "must look at"),
        ("now() > job.cpus", "uses 'now'"),
        ("[job.image].map(x, x + x) == []", "uses 'map'"),
        ("job.command.all(x, job.command.all(y, x == y))", "macro inside"),
        ("job.command.all(x, (job.command . exists ( y, x == y)))", "macro inside"),
        ("job.command.all(x, job.command. // hidden\n all(y, x == y))", "comment"),
        ('job.image == r"\\" || job.command.all(x, job.command.all(y, x == y)) || job.image == "\\""', "macro inside"),
        ("job.command.all(x, job.`command`.all(y, x == y))", "backquotes"),
        ("(" * 30 + "job.cpus" + ")" * 30 + " > 1", "nested deeper"),
        ("job.cpus > 1 ? " * 30 + "true" + " : true" * 30, "nested deeper"),
        ("job.cpus > 1 || " * 200 + "true", "longer than 2000"),
        ("", "empty"),
    ],
)
def test_an_expression_beyond_the_bounds_is_refused_with_the_reason(expression: str, said: str) -> None:
    with pytest.raises(DocumentError) as told:
        rule(expression)
    assert [fault.path for fault in told.value.faults] == ["rules[0].expression"]
    assert said in told.value.faults[0].rule


def test_brackets_in_texts_do_not_count() -> None:
    rule("job.image == '(((((((((((((((((((((((((((((((((((((' || job.image.contains('.all(x, y.all(')")


def test_the_fault_of_an_expression_has_its_line() -> None:
    text = b"rules:\n  - name: a\n    message: m\n    expression: 'job.cpus >'\n  - name: a\n    message: m\n"
    with pytest.raises(DocumentError) as told:
        load(Kind.RULES, text)
    assert [(fault.path, fault.line) for fault in told.value.faults] == [
        ("rules[0].expression", 4),
        ("rules[1].expression", 5),
    ]


@pytest.mark.parametrize(
    "item",
    [
        {"name": "A b", "expression": "job.cpus > 1", "message": "m"},
        {"name": "a", "expression": "job.cpus > 1"},
        {"name": "a", "expression": "job.cpus > 1", "message": "m", "on_match": "allow"},
        {"name": "a", "expression": "job.cpus > 1", "message": "m", "when": "x"},
        "job.cpus > 1",
    ],
)
def test_a_rule_of_another_shape_is_refused(item: Any) -> None:
    with pytest.raises(DocumentError):
        from_value(Kind.RULES, {"rules": [item]})


def test_two_rules_of_one_name_are_refused() -> None:
    item = {"name": "a", "expression": "job.cpus > 1", "message": "m"}
    with pytest.raises(DocumentError, match="second rule"):
        from_value(Kind.RULES, {"rules": [item, item | {"message": "n"}]})
