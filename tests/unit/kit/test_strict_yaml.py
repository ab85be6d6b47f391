"""YAML that means the same as JSON: every value with its line, and by line what means more than it shows."""

import json
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.kit.strict_yaml import NotStrictYamlError, parse_yaml

TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufeff\u2028\u2029\x85"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def refused(content: str | bytes) -> tuple[int, str]:
    with pytest.raises(NotStrictYamlError) as told:
        parse_yaml(content.encode() if isinstance(content, str) else content)
    return told.value.line, told.value.rule


@given(JSON)
def test_json_reads_as_itself(value: Any) -> None:
    assert parse_yaml(json.dumps(value, ensure_ascii=False).encode()).value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("NO", "NO"),
        ("off", "off"),
        ("2025-01-12", "2025-01-12"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("'42'", "42"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("-7", -7),
        ("0", 0),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("9007199254740991", 2**53 - 1),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    read = parse_yaml(f"a: {text}\n".encode()).value["a"]
    assert (read, type(read)) == (value, type(value))


def test_every_key_and_item_has_its_line() -> None:
    document = parse_yaml(b"# first\na: 1\nb:\n  - x\n  - c: 2\n    d: 3\n")
    assert document.lines == {
        (): 2, ("a",): 2, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "c"): 5, ("b", 1, "d"): 6,
    }  # fmt: skip
    assert document.line_of(("b", 1, "missing", "deeper")) == 5


@pytest.mark.parametrize(
    ("content", "line", "rule"),
    [
        ("a: 1\nb: &x 2\n", 2, "anchors and aliases"),
        ("a: &x [1]\nb: *x\n", 1, "anchors and aliases"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases"),
        ("? &x a\n: 1\n", 1, "anchors and aliases"),
        ("a: 1\nb: !!python/object/apply:os.system [id]\n", 2, "tags"),
        ("a: !!str 1\n", 1, "tags"),
        ("a: !own 1\n", 1, "tags"),
        ("!!map\na: 1\n", 1, "tags"),
        ("a: 1\nb: 2\na: 3\n", 3, "stands twice, first on line 1"),
        ("a:\n  b: 1\n  'b': 2\n", 3, "stands twice, first on line 2"),
        ("1: a\n", 1, "a key must be text"),
        ("a: 1\ntrue: a\n", 2, "a key must be text"),
        ("? [a]\n: 1\n", 1, "a key must be text"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("", 1, "is empty"),
        ("# nothing\n", 1, "is empty"),
        ("a: 007\n", 1, "different readers"),
        ("a: 0x1f\n", 1, "different readers"),
        ("a: 0o17\n", 1, "different readers"),
        ("a: .inf\n", 1, "different readers"),
        ("a: .NaN\n", 1, "different readers"),
        ("a: 1e999\n", 1, "different readers"),
        ("a: 9007199254740992\n", 1, "is beyond"),
        ("a: -9007199254740992\n", 1, "is beyond"),
        ("a: " + "9" * 60_000 + "\n", 1, "is beyond"),
        ('a: 1\nb: "\\0"\n', 2, "NUL"),
        ('"a\\0": 1\n', 1, "NUL"),
        ('a: 1\nb: "\\uD800"\n', 2, "is not YAML"),
        ("a: 1\nb: \x07\n", 2, "a character that YAML does not allow"),
        ("a: [1\n", 2, "is not YAML"),
        ("a:\n\t- 1\n", 2, "is not YAML"),
        (b"a: 1\nb: \xff\n", 2, "UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, "UTF-8"),
    ],
)
def test_what_means_more_than_it_shows_is_refused_by_line(content: str | bytes, line: int, rule: str) -> None:
    found_line, found_rule = refused(content)
    assert rule in found_rule
    assert found_line == line


@pytest.mark.parametrize("content", ["[" * 60_000, "- " * 30_000 + "x", "{a: " * 15_000, "? " * 30_000 + "x"])
def test_nesting_is_bounded_before_anything_is_built(content: str) -> None:
    depth = sys.getrecursionlimit()
    started = time.perf_counter()
    refused(content)
    assert time.perf_counter() - started < 2
    assert sys.getrecursionlimit() == depth


def test_a_byte_order_mark_is_no_content() -> None:
    assert parse_yaml(b"\xef\xbb\xbfa: 1\n").value == {"a": 1}


def test_a_refusal_repeats_no_value() -> None:
    for content in ("a: &x hunter2\n", "a: hunter2\na: hunter2\n", "a: [hunter2\n", 'a: "hunter2\\0"\n'):
        assert "hunter2" not in str(refused(content))
