"""Commands: what cannot be seen through is denied, no pattern is slow, and the words may be of any kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.rules.documents import Bundle, from_value
from tenantry.engines.rules.shell_unfold import unfold
from tenantry.engines.rules.types import Effect, JobFacts, Kind

SHELL = st.text(st.sampled_from("rm -rf/ \\'\"$`{}()|;&<>#\nacx=,*~!"), max_size=60)
FILLERS = st.sampled_from(["ls", "echo a", "true", "cd /tmp", "x=1", "# a\n", "cat f | wc -l", "'q'", "sleep 1 &", ""])


def commands(*blocked: str, patterns: tuple[str, ...] = ()) -> Bundle:
    return from_value(Kind.COMMAND, {"blocked_commands": list(blocked), "blocked_patterns": list(patterns)})


def effect(bundle: Bundle, *argv: str) -> Effect:
    return bundle.check_command(argv).effect


SEEDED = commands("rm -rf /", "curl * | bash", ":(){:|:&};:", patterns=(".*--privileged.*",))


@given(st.lists(SHELL | st.text(max_size=20), max_size=4))
def test_no_command_makes_a_check_raise(argv: list[str]) -> None:
    SEEDED.check_command(argv)
    SEEDED.check_command(["sh", "-c", *argv])


@given(st.lists(FILLERS, max_size=4), st.lists(FILLERS, max_size=4), st.sampled_from([";", "\n", " && ", "|"]))
def test_a_blocked_command_is_found_among_any_others(before: list[str], after: list[str], by: str) -> None:
    text = "\n".join([*before, by.join(["true", "rm -rf /"]), *after])
    assert effect(SEEDED, "sh", "-c", text) is Effect.DENY


@given(st.lists(FILLERS, max_size=4), st.sampled_from(["rm -rf /", "curl * | bash", "ls *"]))
def test_one_more_blocked_command_never_widens(fillers: list[str], more: str) -> None:
    argv = ("sh", "-c", "\n".join([*fillers, "echo b"]))
    if effect(commands("echo *"), *argv) is Effect.DENY:
        assert effect(commands("echo *", more), *argv) is Effect.DENY


def test_the_rule_and_what_was_asked_are_told() -> None:
    denied = SEEDED.check_command(["sh", "-c", "true; rm -fr /"]).decisive
    assert denied is not None
    assert denied.rule == "blocked_commands[0]: rm -rf /"
    assert "true; rm -fr /" in denied.message


def test_all_rules_that_match_are_told_in_order() -> None:
    verdict = SEEDED.check_command(["sh", "-c", "curl x --privileged | bash; rm -rf /"])
    assert [finding.rule.partition(":")[0] for finding in verdict.findings] == [
        "blocked_commands[0]",
        "blocked_commands[1]",
        "blocked_patterns[0]",
    ]


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)*b", "(.*a){30}b", r"(\w+\s?)*b", "(x+x+)+y"])
def test_patterns_that_take_others_forever_are_answered(pattern: str) -> None:
    bundle = commands(patterns=(pattern,))
    assert effect(bundle, "a" * 10_000 + "!") is Effect.ALLOW
    assert effect(commands(patterns=("(a+)+b",)), "a" * 10_000 + "b") is Effect.DENY


def test_what_is_nested_too_deep_is_denied_not_let_through() -> None:
    text = "rm -rf /"
    for _ in range(12):
        text = f"$({text})"
    denied = SEEDED.check_command(["sh", "-c", text]).decisive
    assert denied is not None
    assert (denied.rule, denied.effect) == ("command", Effect.DENY)
    assert "deeper" in denied.message


@pytest.mark.parametrize("text", ["x" * 140_000, "a=xx;" + "a=$a$a;" * 30 + "$a", "'" + "y " * 70_000 + "'"])
def test_what_is_too_long_is_denied_not_let_through(text: str) -> None:
    denied = SEEDED.check_command(["sh", "-c", text]).decisive
    assert denied is not None
    assert denied.rule == "command"


def test_half_a_surrogate_pair_is_denied() -> None:
    assert effect(SEEDED, "echo", "\ud800") is Effect.DENY


def test_a_pattern_crosses_line_breaks_and_sees_each_word() -> None:
    assert effect(SEEDED, "docker", "a\nb", "--privileged") is Effect.DENY
    whole = commands(patterns=("--force", "^-f$"))
    assert effect(whole, "git", "push", "--force") is Effect.DENY
    assert effect(whole, "git", "push", "-f") is Effect.DENY
    assert effect(whole, "git", "push", "--forced") is Effect.ALLOW


def test_a_glob_star_is_the_only_thing_that_is_special() -> None:
    bundle = commands("echo [ab]? *.x")
    assert effect(bundle, "sh", "-c", "echo [ab]? c.x") is Effect.DENY
    assert effect(bundle, "sh", "-c", "echo ab c.x") is Effect.ALLOW


def test_a_command_of_a_job_is_judged() -> None:
    assert SEEDED.check_job(JobFacts("x", ("rm", "-rf", "/"))).effect is Effect.DENY
    assert SEEDED.check_job(JobFacts("x", ())).effect is Effect.ALLOW
    assert SEEDED.check_image("rm -rf /").findings == ()


def test_a_usual_command_is_one_pipeline_and_is_not_read_as_text() -> None:
    pipelines, texts = unfold(["/usr/bin/python", "-m", "pytest"])
    assert ([tuple(one.words for one in pipeline) for pipeline in pipelines], texts) == (
        [(("python", "-m", "pytest"),)],
        ["/usr/bin/python -m pytest"],
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b'c d'\"e f\" g", ["a", "bc de f", "g"]),
        ("a > f 2>&1 b", ["a", "b"]),
        ("a 2x >f", ["a", "2x"]),
        ("a '' b", ["a", "", "b"]),
        ("a b#c #d", ["a", "b#c"]),
        ("x=1 y=$x a $y", ["a", "1"]),
        ("x='b c'; a $x \"$x\"", ["a", "b", "c", "b c"]),
        ("a ${u:-d} ${u:+e}", ["a", "d"]),
        ("a {b,c}{1,2}", ["a", "b1", "b2", "c1", "c2"]),
        ("a &>f b", ["a", "b"]),
        ("a <f b", ["a", "b"]),
        ('a "\\$x \\\\"', ["a", "$x \\"]),
    ],
)
def test_words_are_those_of_a_shell(text: str, words: list[str]) -> None:
    pipelines = [pipeline for pipeline in unfold(["sh", "-c", text]).pipelines if pipeline[0].words[0] == "a"]
    assert list(pipelines[0][0].words) == words


def test_a_document_may_not_hold_more_patterns_than_are_matched_at_once() -> None:
    large = [f"(?i).*{'(a|b|c)' * 60}.{{200}}{number}" for number in range(200)]
    with pytest.raises(ValueError, match="need more memory"):
        commands(patterns=tuple(large))
