"""What is put into a head, beside another reader: only values, only where a placeholder was, and nothing else moves."""

import base64
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.egress import (
    Authority,
    Injection,
    Injector,
    is_injectable,
    is_injectable_header,
    trusting_context,
)
from tenantry.engines.egress.injection import inject, refuse_in_clear
from tenantry.engines.egress.requests import Request, parse_request
from tenantry.engines.egress.types import Barred
from tenantry.kit.hosts import parse_host

HOST = parse_host("api.example.com")
MARK = "tnt-placeholder-00112233445566778899"
OTHER_MARK = "tnt-placeholder-ffeeddccbbaa99887766"


def rule(value: str = "the-value", **fields: Any) -> Injection:
    return Injection(**{"name": "TOKEN", "host": HOST, "placeholder": MARK, "value": value, **fields})


def request(*lines: str, first: str = "GET / HTTP/1.1") -> Request:
    return parse_request("\r\n".join([first, "Host: api.example.com", *lines, "", ""]).encode("latin-1"))


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(head)
    event = reader.next_event()
    assert isinstance(event, h11.Request), event
    return [(bytes(name), bytes(value)) for name, value in event.headers]


def expected_of(name: bytes, value: bytes, puts: dict[str, str]) -> bytes:
    scheme, _, rest = value.partition(b" ")
    if name.lower() == b"authorization" and scheme.lower() == b"basic" and b"-" not in rest and b"!" not in rest:
        return scheme + b" " + base64.b64encode(expected_of(b"", base64.b64decode(rest), puts)) if rest else value
    for mark, put in puts.items():
        value = value.replace(mark.encode(), put.encode())
    return value


VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F), min_size=1, max_size=60).filter(is_injectable)
SAYS = st.sampled_from([
    MARK, OTHER_MARK, MARK[:-1], MARK.upper(), f"Bearer {MARK}", f"{MARK}{MARK}", "a", "", f"x {OTHER_MARK} y {MARK}",
    "Basic " + base64.b64encode(f"u:{MARK}".encode()).decode(), "Basic !!!", f"Basic {MARK}", "basic dTpw", "é",
])  # fmt: skip
NAMES = st.sampled_from(["Authorization", "authorization", "X-Api-Key", "x_api_key", "Cookie", "X", "Accept-Encoding",
                         "Connection", "TE", "Expect"])  # fmt: skip


@given(st.lists(st.tuples(NAMES, SAYS), max_size=6), VALUES, VALUES)
def test_nothing_but_a_placeholder_becomes_anything_else(said: list[tuple[str, str]], one: str, two: str) -> None:
    before = request(*(f"{name}: {value}" for name, value in said))
    after, used = inject(before, [rule(one), rule(two, name="OTHER", placeholder=OTHER_MARK)])
    assert len(after.fields) == len(before.fields)
    for (name, was), (named, now) in zip(before.fields, after.fields, strict=True):
        assert name == named
        ours = name.lower() in (b"accept-encoding", b"connection", b"te", b"expect")
        assert now == (was if ours else expected_of(name, was, {MARK: one, OTHER_MARK: two}))
    assert (after.target, after.host, after.length, after.chunked) == (before.target, before.host, 0, False)
    again = parse_request(after.wire())
    assert again.host == before.host
    changed = {n for n, (a, b) in enumerate(zip(before.fields, after.fields, strict=True)) if a != b}
    assert bool(used) == bool(changed)


@given(VALUES, st.lists(st.sampled_from(["X-Api-Key: a", "x_api_key: b", "X-API-KEY: c", "X: d"]), max_size=4))
def test_a_header_that_is_set_is_there_once_with_the_value(value: str, lines: list[str]) -> None:
    after, used = inject(request(*lines), [rule(value, header="X-Api-Key")])
    found = [got for name, got in fields_of(after.wire()) if name.replace(b"_", b"-") == b"x-api-key"]
    assert found == [value.encode()]
    assert used == ("TOKEN",)


@given(st.text(max_size=30))
def test_no_value_that_goes_in_ends_a_line(value: str) -> None:
    if not is_injectable(value):
        with pytest.raises(ValueError, match="cannot lie in a header"):
            rule(value)
        return
    after, _ = inject(request(f"X: {MARK}", "Y: z"), [rule(value)])
    assert fields_of(after.wire())[1:] == [(b"x", value.encode()), (b"y", b"z")]


@pytest.mark.parametrize("value", ["", " a", "a ", "a\n", "a\r\nX: b", "a\0", "\x7f", "a\tb\x01", "a" * 4097, "\t"])
def test_values_that_cannot_lie_in_a_header(value: str) -> None:
    assert not is_injectable(value)
    if len(value) > 1:
        with pytest.raises(ValueError, match="cannot lie") as raised:
            rule(value)
        assert str(raised.value) == "the value cannot lie in a header"


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Transfer-Encoding", "Connection", "TE", "Upgrade", "X_Key", "X:", "", "X\r\nY", "1a"],
)
def test_headers_that_may_not_be_set(name: str) -> None:
    assert not is_injectable_header(name)
    with pytest.raises(ValueError, match="no header"):
        rule(header=name)


def test_a_placeholder_in_the_target_is_refused_whatever_the_rule() -> None:
    for each in (rule(), rule(header="X-Api-Key")):
        with pytest.raises(Barred) as raised:
            inject(request(first=f"GET /?key={MARK} HTTP/1.1"), [each])
        assert raised.value.decision.rule == "inject_target"


def test_a_head_that_would_grow_too_long_is_refused() -> None:
    lines = [f"X: {' '.join([MARK] * 4)}"] * 10
    with pytest.raises(Barred) as raised:
        inject(request(*lines), [rule("v" * 4096)])
    assert raised.value.status == 431
    inject(request(*lines), [rule("v" * 1000)])


def test_in_clear_a_placeholder_is_refused_in_whatever_form_it_would_have_counted() -> None:
    basic = base64.b64encode(f"u:{MARK}".encode()).decode()
    for lines, first in (
        ([f"X: {MARK}"], "GET / HTTP/1.1"),
        ([f"Authorization: Basic {basic}"], "GET / HTTP/1.1"),
        ([], f"GET /{MARK} HTTP/1.1"),
    ):
        with pytest.raises(Barred) as raised:
            refuse_in_clear(request(*lines, first=first), [rule()])
        assert raised.value.decision.rule == "inject_clear"
    refuse_in_clear(request("X: y"), [rule()])


def test_no_text_of_a_rule_has_its_value_or_placeholder() -> None:
    assert "the-value" not in repr(rule())
    assert MARK not in repr(rule())


def test_rules_are_for_their_very_host_at_the_port_of_https() -> None:
    injector = Injector([rule()], authority=Authority([HOST], seconds=60), trust=trusting_context())
    assert len(injector.rules_for(HOST)) == 1
    for host in ("a.api.example.com", "example.com", "api.example.com.evil.example.net"):
        assert injector.rules_for(parse_host(host)) == ()
    assert injector.rules_for(HOST, 8443) == ()


def test_handshakes_take_their_turns() -> None:
    injector = Injector([rule()], authority=Authority([HOST], seconds=60), trust=trusting_context())
    waits = [injector.wait_seconds(1000.0) for _ in range(150)]
    assert waits[:50] == [0.0] * 50
    assert waits[149] == pytest.approx(1.0)
    assert injector.wait_seconds(1100.0) == 0.0
