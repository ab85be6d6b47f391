"""Documents: strict YAML or JSON, all faults with their lines, one canonical form, and kinds that mind their own."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.rules.documents import MAX_BYTES, from_value, load
from tenantry.engines.rules.errors import MAX_FAULTS, DocumentError, DocumentFault
from tenantry.engines.rules.types import (
    Connection,
    DeploymentFacts,
    Effect,
    Finding,
    JobFacts,
    Kind,
    Phase,
    Selector,
    Verdict,
)

IMAGE = b"""\
# image-policy.yaml
allowed_images:
  - "python:*"
  - "node:*"
  - "golang:*"
  - "postgres:*"
  - "redis:*"
  - "ghcr.io/myorg/*"

blocked_images:
  - "*:latest"  # Require pinned versions
  - "docker:*-dind"  # No Docker-in-Docker

require_digest: true  # Require image@sha256:...
"""
COMMAND = b"""\
blocked_commands:
  - "rm -rf /"
  - "curl * | bash"
  - "wget * | sh"
  - ":(){:|:&};:"  # Fork bomb

blocked_patterns:
  - ".*--privileged.*"
  - ".*--net=host.*"
  - ".*--pid=host.*"
"""
NETWORK = b"""\
allow_internet: false  # Default deny

allowed_hosts:
  - "packages.example.org"
  - "modules.example.org"
  - "github.com"
  - "*.githubusercontent.com"

blocked_ports:
  - 22  # SSH
  - 3389  # RDP
"""
DEPLOYMENT = b"""\
max_budget_monthly: 1000.0
max_instances: 10
max_disk_size_gb: 500
allowed_instance_types: []
allowed_resource_types: []
require_approval: false
iac_engine_preference: terraform
"""
RULES = b"rules: [{name: a, expression: job.cpus > 1.0, message: m}]"
EVERY = {
    Kind.IMAGE: IMAGE,
    Kind.COMMAND: COMMAND,
    Kind.NETWORK: NETWORK,
    Kind.DEPLOYMENT: DEPLOYMENT,
    Kind.RULES: RULES,
}
WRONG = JobFacts("evil", ("rm", "-rf", "/"), cpus=4, network=(Connection(Phase.RUN, "evil.example", 443),))
DIGEST = "sha256:" + "ab" * 32


def refused(kind: Kind, text: str) -> list[tuple[str, int | None]]:
    with pytest.raises(DocumentError) as told:
        load(kind, text.encode())
    return [(fault.path, fault.line) for fault in told.value.faults]


@pytest.mark.parametrize("kind", Kind)
def test_a_usual_document_of_each_kind_is_taken_as_it_stands(kind: Kind) -> None:
    bundle = load(kind, EVERY[kind])
    assert bundle.kind is kind
    assert bundle.digest == hashlib.sha256(rfc8785.dumps(bundle.canonical)).hexdigest()


@pytest.mark.parametrize("kind", Kind)
def test_json_and_a_plain_value_are_the_same_document(kind: Kind) -> None:
    bundle = load(kind, EVERY[kind])
    again = load(kind, json.dumps(bundle.canonical, indent=3).encode())
    assert again.digest == bundle.digest == from_value(kind, bundle.canonical).digest


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.COMMAND, Kind.NETWORK, Kind.RULES])
def test_a_job_is_judged_by_what_its_kind_looks_at_and_only_where_it_applies(kind: Kind) -> None:
    bundle = load(kind, EVERY[kind])
    assert bundle.check_job(WRONG).effect is Effect.DENY
    elsewhere = from_value(kind, {**bundle.canonical, "applies_to": {"environments": ["production"]}})
    assert elsewhere.check_job(WRONG).findings == ()


def test_a_bundle_says_nothing_of_what_its_kind_does_not_look_at() -> None:
    for kind, text in EVERY.items():
        bundle = load(kind, text)
        assert (kind is Kind.IMAGE) == bool(bundle.check_image("evil").findings)
        assert (kind is Kind.COMMAND) == bool(bundle.check_command(["rm", "-rf", "/"]).findings)
        assert (kind is Kind.DEPLOYMENT) == bool(bundle.check_deployment(DeploymentFacts(instances=11)).findings)
        assert (kind is Kind.NETWORK) == (bundle.network is not None)


def test_a_deployment_is_judged_only_where_the_document_applies() -> None:
    bundle = from_value(Kind.DEPLOYMENT, {"max_instances": 1, "applies_to": {"labels": {"tier": "gold*"}}})
    assert bundle.check_deployment(DeploymentFacts(instances=2)).findings == ()
    assert bundle.check_deployment(DeploymentFacts(instances=2, labels={"tier": "golden"})).effect is Effect.DENY


def test_all_faults_are_told_at_once_each_with_its_line() -> None:
    text = "allowed_images:\n  - a b\n  - python\n  - docker.io/library/python\nrequire_digest: 1\nblocked: []\n"
    assert sorted(refused(Kind.IMAGE, text)) == [
        ("allowed_images[0]", 2),
        ("allowed_images[2]", 4),
        ("blocked", 6),
        ("require_digest", 5),
    ]


def test_no_more_than_twenty_faults_are_told() -> None:
    text = "blocked_images:\n" + "".join(f"  - bad image {number}\n" for number in range(50))
    assert len(refused(Kind.IMAGE, text)) == MAX_FAULTS


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.IMAGE, "allowed_images: []"),
        (Kind.IMAGE, "allowed_images: python"),
        (Kind.IMAGE, "allowed_images:"),
        (Kind.IMAGE, "allowed_images: [python, python]"),
        (Kind.IMAGE, "blocked_images: [Python]"),
        (Kind.IMAGE, "blocked_images: ['python:']"),
        (Kind.IMAGE, "blocked_images: ['a//b']"),
        (Kind.IMAGE, "blocked_images: ['python@sha256:*']"),
        (Kind.IMAGE, "blocked_images: ['[a-z]*']"),
        (Kind.IMAGE, "require_digest: yes"),
        (Kind.COMMAND, "blocked_commands: ['']"),
        (Kind.COMMAND, 'blocked_commands: ["a\\u0001"]'),
        (Kind.COMMAND, "blocked_patterns: ['(?=a)']"),
        (Kind.COMMAND, "blocked_patterns: ['(a)\\1']"),
        (Kind.COMMAND, f"blocked_patterns: ['{'a' * 1001}']"),
        (Kind.COMMAND, f"blocked_patterns: {[f'a{n}' for n in range(201)]}"),
        (Kind.NETWORK, "allow_internet: 'false'"),
        (Kind.NETWORK, "allowed_hosts: ['*']"),
        (Kind.NETWORK, "allowed_hosts: ['127.1']"),
        (Kind.NETWORK, "allowed_hosts: ['0x7f.0.0.1']"),
        (Kind.NETWORK, "allowed_hosts: ['10.0.0.1/8']"),
        (Kind.NETWORK, "allowed_hosts: ['10.0.0.0/255.0.0.0']"),
        (Kind.NETWORK, "allowed_hosts: ['::ffff:10.0.0.0/104']"),
        (Kind.NETWORK, "allowed_hosts: ['a.example', 'A.example.']"),
        (Kind.NETWORK, "allowed_hosts: ['a.example:443']"),
        (Kind.NETWORK, "allowed_ports: []"),
        (Kind.NETWORK, "blocked_ports: [0]"),
        (Kind.NETWORK, "blocked_ports: [65536]"),
        (Kind.NETWORK, "blocked_ports: ['22']"),
        (Kind.NETWORK, "blocked_ports: [true]"),
        (Kind.NETWORK, "phases: {build: {}}"),
        (Kind.NETWORK, "phases: {run: {phases: {}}}"),
        (Kind.NETWORK, "phases:"),
        (Kind.RULES, "rules: {}"),
        (Kind.IMAGE, "applies_to: {}"),
        (Kind.IMAGE, "applies_to: {workflows: []}"),
        (Kind.IMAGE, "applies_to: {labels: {}}"),
        (Kind.IMAGE, "applies_to: {labels: {a: 1}}"),
        (Kind.IMAGE, "applies_to: {teams: [a]}"),
        (Kind.IMAGE, "- a"),
        (Kind.IMAGE, "a"),
        (Kind.IMAGE, ""),
        (Kind.IMAGE, "require_digest: true\nrequire_digest: false"),
        (Kind.IMAGE, "allowed_images: &a [x]\nblocked_images: *a"),
        (Kind.IMAGE, "allowed_images: !!python/name:os.system"),
        (Kind.IMAGE, "a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}}}}}}}}}"),
        (Kind.IMAGE, "{}\n---\n{}"),
        (Kind.IMAGE, "#" * (MAX_BYTES + 1)),
    ],
)
def test_what_is_no_document_of_its_kind_is_refused(kind: Kind, text: str) -> None:
    assert refused(kind, text)


@pytest.mark.parametrize(
    "value", [None, [], "a", {1: 2}, {"applies_to": {"labels": {1: "a", "b": "c"}}}, {"rules": {1}}]
)
def test_a_plain_value_that_is_none_is_refused(value: Any) -> None:
    for kind in Kind:
        with pytest.raises(DocumentError):
            from_value(kind, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 70_000) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["allowed_images", "blocked_images", "require_digest", "blocked_commands", "blocked_patterns", "allowed_hosts",
     "allowed_ports", "phases", "max_instances", "rules", "applies_to", "allow_internet"]
)  # fmt: skip


@given(st.sampled_from(Kind), st.dictionaries(NAMES, JSON | st.lists(st.text(max_size=12)), max_size=3))
def test_any_value_is_compiled_or_refused_with_its_faults(kind: Kind, value: Any) -> None:
    faults: Sequence[DocumentFault] | None = None
    try:
        from_value(kind, value).check_job(WRONG)
    except DocumentError as error:
        faults = error.faults
    assert faults != ()


@given(st.sampled_from(Kind), st.binary(max_size=60))
def test_any_bytes_are_compiled_or_refused_with_their_faults(kind: Kind, content: bytes) -> None:
    faults: Sequence[DocumentFault] | None = None
    try:
        load(kind, content).check_job(WRONG)
    except DocumentError as error:
        faults = error.faults
    assert faults != ()


def test_the_order_of_members_does_not_change_the_digest_and_their_values_do() -> None:
    one, other = {"require_digest": True, "forbid_unpinned": False}, {"forbid_unpinned": False, "require_digest": True}
    assert from_value(Kind.IMAGE, one).digest == from_value(Kind.IMAGE, other).digest
    assert from_value(Kind.IMAGE, one).digest != from_value(Kind.IMAGE, {"require_digest": True}).digest


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        (Selector(), True),
        (Selector(workflows=("build*",)), True),
        (Selector(workflows=("deploy", "build")), True),
        (Selector(workflows=("deploy",)), False),
        (Selector(environments=("prod*",)), False),
        (Selector(environments=("*",)), True),
        (Selector(labels=(("team", "a?"),)), True),
        (Selector(labels=(("team", "a?"), ("tier", "*"))), False),
        (Selector(workflows=("build",), environments=("x",)), False),
    ],
)
def test_a_selector_selects_by_every_part_it_has(selector: Selector, selects: bool) -> None:
    assert selector.matches(JobFacts("x", (), workflow="build", labels={"team": "ab"})) is selects


def test_the_first_denial_decides_then_the_first_warning() -> None:
    allow, warn, deny = (Finding(effect, effect, "", "") for effect in Effect)
    assert Verdict((allow, warn, deny, deny)).decisive is deny
    assert Verdict((allow, warn)).decisive is warn
    assert (Verdict((allow,)).decisive, Verdict((allow,)).effect) == (None, Effect.ALLOW)
    assert (Verdict().decisive, Verdict().effect) == (None, Effect.ALLOW)
