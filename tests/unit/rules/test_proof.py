"""Proofs: None means that nothing is newly allowed; anything else is a true example, asked of both documents."""

import builtins
import ipaddress
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.engines.rules import proof
from tenantry.engines.rules.documents import from_value
from tenantry.engines.rules.errors import ProverMissingError, Unproven
from tenantry.engines.rules.proof import Counterexample, widening
from tenantry.engines.rules.proof_network import public_ranges
from tenantry.engines.rules.types import Connection, Effect, Kind, Phase
from tenantry.kit.public_addresses import is_public

DIGEST, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
LISTS: dict[str, Any] = {
    "allowed_images": ["python:*", "node:*", "ghcr.io/myorg/*"],
    "blocked_images": ["*:latest", "docker:*-dind"],
    "require_digest": True,
}
HOSTS: dict[str, Any] = {"allowed_hosts": ["github.com", "*.githubusercontent.com"], "blocked_ports": [22]}


def compared(kind: Kind, old: dict[str, Any], new: dict[str, Any]) -> Counterexample | None:
    return widening(from_value(kind, old), from_value(kind, new))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"require_digest": False}, "require_digest"),
        ({"allowed_images": [*LISTS["allowed_images"], "quay.io/*"]}, "allowed_images"),
        ({"allowed_images": ["*"]}, "allowed_images"),
        ({"allowed_images": ["python:*", "node*:*"]}, "allowed_images"),
        ({"blocked_images": ["docker:*-dind"]}, "blocked_images[0]: *:latest"),
        ({"blocked_images": ["*:latest?", "docker:*-dind"]}, "blocked_images[0]: *:latest"),
    ],
)
def test_a_wider_list_of_images_is_shown_by_an_image(change: dict[str, Any], rule: str) -> None:
    found = compared(Kind.IMAGE, LISTS, LISTS | change)
    assert found is not None
    assert found.image is not None
    assert rule in found.denied.rule
    assert from_value(Kind.IMAGE, LISTS).check_image(found.image).effect is Effect.DENY
    assert from_value(Kind.IMAGE, LISTS | change).check_image(found.image).effect is Effect.ALLOW


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"allowed_images": ["python:3*"]},
        {"allowed_images": [*LISTS["allowed_images"], "ghcr.io/myorg/team/*", "docker.io/library/python:3"]},
        {"allowed_images": [*LISTS["allowed_images"], "*:latest"]},
        {"blocked_images": ["*:*a*", "*:latest", "docker:*-dind"]},
        {"blocked_images": ["*:latest"]},
        {"blocked_images": ["*:lat*", "docker:*"]},
        {"forbid_unpinned": True},
    ],
)
def test_a_list_of_images_that_is_no_wider_is_proven(change: dict[str, Any]) -> None:
    assert compared(Kind.IMAGE, LISTS, LISTS | change) is None


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        (
            {"allowed_hosts": ["github.com", "*.githubusercontent.com", "githubusercontent.com"]},
            "githubusercontent.com:",
        ),
        ({"blocked_ports": [], "allowed_ports": [22, 80]}, ":22 "),
        ({"allowed_ports": [443, 8080]}, ":8080 "),
        ({"allow_internet": True}, ""),
        ({"phases": {"publish": {"allowed_hosts": ["x.example"]}}}, "x.example:"),
        ({"allowed_hosts": ["10.0.0.0/8"]}, "10."),
        ({"allowed_hosts": ["fd00::/8"]}, "fd"),
    ],
)
def test_a_wider_network_is_shown_by_a_connection(change: dict[str, Any], subject: str) -> None:
    found = compared(Kind.NETWORK, HOSTS, HOSTS | change)
    assert found is not None
    assert subject in found.subject
    assert found.connection is not None


@pytest.mark.parametrize(
    "change",
    [
        {"allowed_hosts": ["github.com", "raw.githubusercontent.com", "*.x.githubusercontent.com"]},
        {"blocked_ports": [22, 443]},
        {"allowed_ports": [443]},
        {"phases": {"fetch": {"allowed_hosts": []}}},
        {"allowed_hosts": []},
    ],
)
def test_a_network_that_is_no_wider_is_proven(change: dict[str, Any]) -> None:
    assert compared(Kind.NETWORK, HOSTS, HOSTS | change) is None


@pytest.mark.parametrize(
    ("hosts", "wider"),
    [(["8.8.8.0/24"], False), (["a.example.org"], False), (["10.0.0.1"], True), (["localhost"], True), (["::1"], True)],
)
def test_the_internet_holds_what_is_public_and_no_more(hosts: list[str], wider: bool) -> None:
    assert (compared(Kind.NETWORK, {"allow_internet": True}, {"allowed_hosts": hosts}) is not None) is wider


def test_public_ranges_are_those_of_single_addresses() -> None:
    for version, of in ((4, ipaddress.IPv4Address), (6, ipaddress.IPv6Address)):
        ranges = public_ranges(version)
        for first, last in ranges:
            assert is_public(of(first))
            assert is_public(of(last))
        edges = {edge for first, last in ranges for edge in (first - 1, last + 1) if edge >= 0}
        end = 1 << (32 if version == 4 else 128)
        assert all(
            any(first <= edge <= last for first, last in ranges) == is_public(of(edge)) for edge in edges - {end}
        )


NAMES = ["python", "node", "ghcr.io/a/b", "ghcr.io/a"]
TAGS = ["", ":latest", ":LATEST", ":1", ":2"]
ALL_IMAGES = [f"{n}{t}{d}" for n, t, d in itertools.product(NAMES, TAGS, ["", f"@{DIGEST}", f"@{OTHER}"])]
GLOBS = st.sampled_from(
    ["python", "python:*", "python:1", "*:latest", "ghcr.io/*", "ghcr.io/a/*", "*:?", f"node@{DIGEST}"]
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "allowed_images": st.lists(GLOBS, unique=True, min_size=1, max_size=2),
        "blocked_images": st.lists(GLOBS, unique=True, min_size=1, max_size=2),
        "require_digest": st.booleans(),
        "forbid_unpinned": st.booleans(),
    },
)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_a_proof_about_images_agrees_with_asking_for_each(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = from_value(Kind.IMAGE, old), from_value(Kind.IMAGE, new)
    found = widening(before, after)
    wider = [
        image
        for image in ALL_IMAGES
        if after.check_image(image).effect is Effect.ALLOW and before.check_image(image).effect is Effect.DENY
    ]
    assert not wider or found is not None, wider


NETWORKS = st.fixed_dictionaries(
    {},
    optional={
        "allow_internet": st.booleans(),
        "allowed_hosts": st.lists(
            st.sampled_from(["a.example.org", "*.example.org", "b.org", "10.0.0.0/8", "8.8.8.8", "::1", "localhost"]),
            unique=True,
            max_size=3,
        ),
        "allowed_ports": st.lists(st.sampled_from([22, 80, 443]), unique=True, min_size=1),
        "blocked_ports": st.lists(st.sampled_from([22, 80]), unique=True),
    },
)


@settings(max_examples=60, deadline=None)
@given(NETWORKS, NETWORKS)
def test_a_proof_about_the_network_agrees_with_asking_for_each(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = from_value(Kind.NETWORK, old), from_value(Kind.NETWORK, new)
    assert before.network is not None
    assert after.network is not None
    hosts = [
        "a.example.org",
        "x.example.org",
        "example.org",
        "b.org",
        "10.9.9.9",
        "8.8.8.8",
        "9.9.9.9",
        "::1",
        "localhost",
    ]
    wider = [
        (host, port)
        for host, port in itertools.product(hosts, [22, 80, 443, 8080])
        if after.network.decide(Phase.RUN, host, port).effect is Effect.ALLOW
        and before.network.decide(Phase.RUN, host, port).effect is Effect.DENY
    ]
    assert not wider or widening(before, after) is not None, wider


def test_the_first_document_widens_nothing() -> None:
    assert widening(None, from_value(Kind.IMAGE, {})) is None


def test_documents_that_apply_elsewhere_are_not_compared() -> None:
    old = LISTS | {"applies_to": {"environments": ["production"]}}
    with pytest.raises(Unproven, match="applies_to"):
        compared(Kind.IMAGE, LISTS, old)
    assert compared(Kind.IMAGE, old, LISTS) is None
    assert compared(Kind.IMAGE, old, old | {"blocked_images": ["*"]}) is None


def test_other_kinds_are_not_compared() -> None:
    with pytest.raises(Unproven):
        compared(Kind.COMMAND, {}, {})


def test_what_is_not_settled_in_time_is_said_to_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "SECONDS", 0.0)
    with pytest.raises(Unproven, match="seconds"):
        compared(Kind.IMAGE, LISTS, {})


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "z3":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ProverMissingError, match="proof"):
        compared(Kind.IMAGE, LISTS, {})


def test_an_example_that_the_documents_judge_otherwise_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "image_questions", lambda *_: [([], lambda _: "python:3")])
    monkeypatch.setattr(proof, "connection_questions", lambda *_: [([], lambda _: Connection(Phase.RUN, "x.org", 80))])
    with pytest.raises(Unproven, match="otherwise"):
        compared(Kind.IMAGE, {}, LISTS)
    with pytest.raises(Unproven, match="otherwise"):
        compared(Kind.NETWORK, HOSTS, HOSTS | {"blocked_ports": [23]})
