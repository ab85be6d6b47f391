"""Images: names are completed as Docker does, and every list, digest and tag is judged on the completed name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.rules.documents import Bundle, from_value
from tenantry.engines.rules.types import Effect, JobFacts, Kind
from tenantry.kit.image_references import NoReferenceError, parse_reference

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
COMPONENTS = st.from_regex(r"[a-z0-9]{1,4}([._-][a-z0-9]{1,3})?", fullmatch=True)
REFERENCES = st.builds(
    lambda registry, path, tag, digest: f"{registry}{'/'.join(path)}{tag}{digest}",
    st.sampled_from(["", "docker.io/", "index.docker.io/", "ghcr.io/", "GHCR.io:443/", "localhost:5000/", "a.b:1/"]),
    st.lists(COMPONENTS, min_size=1, max_size=3),
    st.sampled_from(["", ":latest", ":Latest", ":3.12", ":24-dind"]),
    st.sampled_from(["", f"@{DIGEST}", f"@{OTHER}"]),
)
GLOBS = st.sampled_from(
    ["*", "python", "python:*", "*:latest", "*:3*", "docker.io/*", "ghcr.io/*", "ghcr.io/a*/*", "*a*", "a", "a:3.12",
     "a/b:*", "*.io/*", "localhost:5000/*", f"a@{DIGEST}", "?:*", "*:24-*", "a.b:1/*"]
)  # fmt: skip
LISTS = st.lists(GLOBS, unique=True, max_size=4)


def images(**value: Any) -> Bundle:
    return from_value(Kind.IMAGE, value)


def effect(bundle: Bundle, image: str, digest: str | None = None) -> Effect:
    return bundle.check_image(image, digest=digest).effect


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3", "docker.io/library/python:3"),
        ("org/app", "docker.io/org/app:latest"),
        ("index.docker.io/python", "docker.io/library/python:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("LOCALHOST:5000/app", "localhost:5000/app:latest"),
        ("reg.example:443/app:1", "reg.example/app:1"),
        ("reg.example:8443/app:1", "reg.example:8443/app:1"),
        (f"python@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        (f"python:3@{DIGEST}", f"docker.io/library/python:3@{DIGEST}"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("host", "docker.io/library/host:latest"),
        ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
    ],
)
def test_a_name_is_completed_as_docker_does(text: str, completed: str) -> None:
    assert str(parse_reference(text)) == completed


@given(REFERENCES)
def test_completing_twice_changes_nothing(text: str) -> None:
    once = parse_reference(text)
    assert parse_reference(str(once)) == once


@given(st.text(max_size=80) | REFERENCES)
def test_no_text_makes_a_check_raise(text: str) -> None:
    bundle = images(allowed_images=["python:*"], blocked_images=["*:latest"], require_digest=True)
    verdict = bundle.check_image(text, digest=text)
    try:
        parse_reference(text)
    except NoReferenceError:
        assert verdict.effect is Effect.DENY


@given(REFERENCES, LISTS, LISTS)
def test_blocked_wins_over_allowed(image: str, allowed: list[str], blocked: list[str]) -> None:
    value = {"allowed_images": allowed} if allowed else {}
    if effect(images(blocked_images=blocked), image) is Effect.DENY:
        assert effect(images(blocked_images=blocked, **value), image) is Effect.DENY


@given(REFERENCES, LISTS.filter(bool), GLOBS)
def test_one_more_allowed_glob_never_narrows(image: str, allowed: list[str], more: str) -> None:
    if effect(images(allowed_images=allowed), image) is Effect.ALLOW:
        assert effect(images(allowed_images=list(dict.fromkeys([*allowed, more]))), image) is Effect.ALLOW


@given(REFERENCES, LISTS, GLOBS)
def test_one_more_blocked_glob_never_widens(image: str, blocked: list[str], more: str) -> None:
    if effect(images(blocked_images=blocked), image) is Effect.DENY:
        assert effect(images(blocked_images=list(dict.fromkeys([*blocked, more]))), image) is Effect.DENY


def test_an_allowed_image_is_told_by_which_glob() -> None:
    (finding,) = images(allowed_images=["node:*", "python:*"]).check_image("python:3").findings
    assert (finding.rule, finding.effect) == ("allowed_images[1]: python:*", Effect.ALLOW)


def test_all_that_speaks_against_an_image_is_told_and_the_block_first() -> None:
    verdict = images(allowed_images=["node:*"], blocked_images=["*:latest"], require_digest=True).check_image("python")
    assert [finding.rule for finding in verdict.findings] == [
        "blocked_images[0]: *:latest",
        "allowed_images",
        "require_digest: true",
    ]
    assert verdict.decisive is verdict.findings[0]


def test_without_rules_every_reference_is_allowed_and_nothing_else() -> None:
    assert effect(images(), "python") is Effect.ALLOW
    assert effect(images(), "a b") is Effect.DENY


def test_a_reference_by_digest_must_be_resolved_to_it() -> None:
    assert effect(images(), f"python@{DIGEST}", DIGEST) is Effect.ALLOW
    assert effect(images(), f"python@{DIGEST}", OTHER) is Effect.DENY
    assert effect(images(), "python", "sha256:short") is Effect.DENY


def test_a_resolved_digest_does_not_stand_in_for_one_in_the_reference() -> None:
    assert effect(images(require_digest=True), "python:3", DIGEST) is Effect.DENY
    assert effect(images(allowed_images=[f"python@{DIGEST}"]), "python:3", DIGEST) is Effect.DENY


def test_blocked_content_is_found_under_any_tag_once_it_is_resolved() -> None:
    bundle = images(blocked_images=[f"python@{OTHER}"], allowed_images=["python:*"])
    assert effect(bundle, "python:3", DIGEST) is Effect.ALLOW
    assert effect(bundle, "python:3", OTHER) is Effect.DENY
    facts = JobFacts("python:3", (), image_digest=OTHER)
    assert bundle.check_job(facts).effect is Effect.DENY


def test_host_is_denied_with_a_way_out_where_a_digest_is_required() -> None:
    denied = images(require_digest=True).check_image("host").decisive
    assert denied is not None
    assert "has no digest" in denied.remedy
