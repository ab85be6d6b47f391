"""Strict JSON reads what `json` writes, and refuses what two readers could read differently."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.kit.strict_json import MAX_DEPTH, NotStrictError, parse_json

TEXTS = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


@given(value=VALUES, ascii_only=st.booleans(), indent=st.none() | st.integers(0, 4))
def test_what_json_writes_is_read_as_it_was(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    for form in (text, text.encode()):
        assert parse_json(form) == value
        assert type(parse_json(form)) is type(value)


@given(noise=st.binary(max_size=200) | st.text(max_size=200))
def test_noise_is_refused_or_read_as_json_reads_it(noise: bytes | str) -> None:
    try:
        value = parse_json(noise)
    except NotStrictError:
        return
    assert value == json.loads(noise)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"a": 1, "a": 1}', "'a' stands twice"),
        ('[{"x": {"b": 1, "b": 2}}]', "'b' stands twice"),
        ('{"\\u0061": 1, "a": 2}', "'a' stands twice"),
        ('{"": 1, "": 2}', "stands twice"),
        ("NaN", "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ("1e999", "too large a number"),
        ("-1e999", "too large a number"),
        ('"\\u0000"', "NUL"),
        ('{"a\\u0000": 1}', "NUL"),
        ('["\\ud800"]', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("{} {}", "not JSON"),
        ("{'a': 1}", "not JSON"),
        ('{"a": 1,}', "not JSON"),
        ("[1 /* two */]", "not JSON"),
        ("01", "not JSON"),
        (".5", "not JSON"),
        ("0x10", "not JSON"),
        ("+1", "not JSON"),
        ('"a\nb"', "not JSON"),
        ("9" * 5000, "not JSON"),
        (b"\xff", "not JSON"),
        (b'"\xc0\x80"', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ("{}".encode("utf-16"), "not JSON"),
        ("{}".encode("utf-16-le"), "not JSON"),
        ("{}".encode("utf-32"), "not JSON"),
    ],
)
def test_what_is_not_strict_is_refused_with_its_rule(text: str | bytes, rule: str) -> None:
    with pytest.raises(NotStrictError, match=rule):
        parse_json(text)


@pytest.mark.parametrize("opening", ['{"a":', "["])
def test_depth_is_bounded(opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]

    def nested(depth: int) -> str:
        return opening * depth + "1" + closing * depth

    assert parse_json(nested(MAX_DEPTH)) is not None
    for depth in (MAX_DEPTH + 1, 1000, 100_000):
        with pytest.raises(NotStrictError, match=f"deeper than {MAX_DEPTH}"):
            parse_json(nested(depth))


def test_a_refusal_does_not_repeat_a_long_key() -> None:
    key = "k" * 10_000
    with pytest.raises(NotStrictError) as refused:
        parse_json(json.dumps({key: 1})[:-1] + f', "{key}": 2}}')
    assert len(str(refused.value)) < 200


def test_numbers_keep_what_json_says_of_them() -> None:
    assert parse_json("1e2") == 100.0
    assert math.copysign(1, parse_json("-0.0")) == -1
    assert parse_json("9007199254740993") == 9007199254740993
    assert parse_json(json.dumps("\U0001f600")) == "\U0001f600"
