"""Connections: denied unless a rule allows them, blocked ports first, each phase by its own rules."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.rules.documents import from_value
from tenantry.engines.rules.network import NetworkTable
from tenantry.engines.rules.types import Connection, Effect, JobFacts, Kind, Phase
from tenantry.kit.hosts import NoHostError, parse_host

NAMES = st.sampled_from(["a.example", "b.a.example", "example", "x.org", "10.1.2.3", "8.8.8.8", "::1", "2001:db8::1"])
PATTERNS = st.sampled_from(["a.example", "*.example", "*.a.example", "x.org", "10.0.0.0/8", "::1", "0.0.0.0/0"])
PORTS = st.sampled_from([22, 80, 443, 8080])
PORT_LISTS = st.lists(PORTS, unique=True, min_size=1, max_size=3)


def table(**value: Any) -> NetworkTable:
    network = from_value(Kind.NETWORK, value).network
    assert network is not None
    return network


def effect(network: NetworkTable, host: str, port: int = 443, phase: Phase = Phase.RUN) -> Effect:
    return network.decide(phase, host, port).effect


def test_a_table_that_allows_nothing_is_empty() -> None:
    assert table().is_empty
    assert table(blocked_ports=[22], allow_internet=False, allowed_hosts=[]).is_empty
    assert not table(allow_internet=True).is_empty
    assert not table(phases={"fetch": {"allowed_hosts": ["a.example"]}}).is_empty


@given(st.text(max_size=40), st.integers(-5, 70_000))
def test_no_host_makes_a_decision_raise(host: str, port: int) -> None:
    verdict = table(allow_internet=True, allowed_hosts=["*.example"]).decide(Phase.RUN, host, port)
    try:
        parse_host(host, wildcard=True)
    except NoHostError:
        assert verdict.effect is Effect.DENY


@given(st.text("aAbB.-_xn1é。", max_size=20) | NAMES)
def test_a_host_in_canonical_spelling_stays_as_it_is(text: str) -> None:
    try:
        once = parse_host(text, wildcard=True)
    except NoHostError:
        return
    assert parse_host(str(once), wildcard=True) == once


@given(NAMES, PORTS, st.lists(PATTERNS, unique=True), PORT_LISTS, PORT_LISTS)
def test_a_blocked_port_wins(host: str, port: int, hosts: list[str], allowed: list[int], blocked: list[int]) -> None:
    network = table(allow_internet=True, allowed_hosts=hosts, allowed_ports=allowed, blocked_ports=blocked)
    assert port not in blocked or effect(network, host, port) is Effect.DENY


@given(NAMES, PORTS, st.lists(PATTERNS, unique=True), PATTERNS)
def test_one_more_allowed_host_never_narrows(host: str, port: int, hosts: list[str], more: str) -> None:
    if effect(table(allowed_hosts=hosts), host, port) is Effect.ALLOW:
        assert effect(table(allowed_hosts=list(dict.fromkeys([*hosts, more]))), host, port) is Effect.ALLOW


def test_a_phase_that_is_not_named_has_the_common_rules() -> None:
    network = table(allowed_hosts=["a.example"], phases={"fetch": {"allowed_hosts": ["b.example"]}})
    assert [effect(network, "a.example", phase=phase) for phase in Phase] == [Effect.DENY, Effect.ALLOW, Effect.ALLOW]
    assert effect(network, "b.example", phase=Phase.FETCH) is Effect.ALLOW


def test_a_phase_may_not_open_a_port_that_is_blocked_for_all() -> None:
    network = table(blocked_ports=[22], phases={"fetch": {"allowed_hosts": ["a.example"], "allowed_ports": [22]}})
    assert effect(network, "a.example", 22, Phase.FETCH) is Effect.DENY


def test_a_port_that_is_not_allowed_is_told_with_those_that_are() -> None:
    denied = table(allowed_hosts=["a.example"]).decide(Phase.RUN, "a.example", 8080).decisive
    assert denied is not None
    assert (denied.rule, "80, 443" in denied.remedy) == ("allowed_ports", True)


def test_a_job_is_judged_by_all_that_it_asks_to_reach() -> None:
    bundle = from_value(Kind.NETWORK, {"allowed_hosts": ["a.example"]})
    reach = tuple(Connection(Phase.RUN, host, 443) for host in ("a.example", "b.example"))
    verdict = bundle.check_job(JobFacts("x", (), network=reach))
    assert [finding.effect for finding in verdict.findings] == [Effect.ALLOW, Effect.DENY]
    assert bundle.check_job(JobFacts("x", ())).findings == ()


@pytest.mark.parametrize("asked", ["*.a.example", "*.b.a.example"])
def test_all_below_a_name_may_be_asked_for_where_all_of_it_is_allowed(asked: str) -> None:
    network = table(allowed_hosts=["*.a.example", "c.d.example"])
    assert effect(network, asked) is Effect.ALLOW
    assert effect(network, "*.example") is Effect.DENY
    assert effect(network, "*.c.d.example") is Effect.DENY
