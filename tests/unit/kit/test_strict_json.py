"""Strict JSON reads what `json` reads, less what two readers could understand differently."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tenantry.kit.strict_json import MAX_DEPTH, NotStrictError, parse_json

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=12)


@examples(deadline=None, max_examples=60)
@given(document=DOCUMENTS, ascii_only=st.booleans())
def test_a_valid_document_reads_as_json_reads_it(document: Any, ascii_only: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    assert parse_json(text) == json.loads(text) == document
    assert parse_json(text.encode()) == document


@examples(deadline=None)
@given(text=st.text(max_size=60) | st.binary(max_size=60))
def test_whatever_comes_is_read_as_json_reads_it_or_refused(text: str | bytes) -> None:
    try:
        read = parse_json(text)
    except NotStrictError:
        return
    assert read == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '{"a":1,"b":2,"a":3}', '[{"x":{"a":1,"a":2}}]', '{"a":1,"\\u0061":2}', '{"":1,"":2}'],
)
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(NotStrictError, match="stands twice"):
        parse_json(text)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]", '{"a":-Infinity}'])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(NotStrictError, match="is not JSON"):
        parse_json(text)


@pytest.mark.parametrize("text", ["1e999", "-1e999", '{"a":[1.5E+400]}'])
def test_a_number_beyond_all_floats_is_refused(text: str) -> None:
    with pytest.raises(NotStrictError, match="too large a number"):
        parse_json(text)


def test_a_whole_number_of_5000_digits_is_refused() -> None:
    with pytest.raises(NotStrictError):
        parse_json("1" * 5000)


@pytest.mark.parametrize(
    ("opening", "inside", "closing"),
    [("[", "", "]"), ("[", "1", "]"), ('{"a":', "{}", "}"), ('{"a":', "1", "}")],
    ids=["empty arrays", "arrays", "empty objects", "objects"],
)
def test_32_levels_are_read_and_33_refused(opening: str, inside: str, closing: str) -> None:
    own = 1 if inside == "{}" else 0
    deepest = MAX_DEPTH - own
    parse_json(opening * deepest + inside + closing * deepest)
    with pytest.raises(NotStrictError, match="nested deeper than 32"):
        parse_json(opening * (deepest + 1) + inside + closing * (deepest + 1))


def test_a_hundred_thousand_levels_are_refused_like_33() -> None:
    with pytest.raises(NotStrictError, match="nested deeper than 32"):
        parse_json("[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize("text", [r'"\ud800"', r'"a\udfff"', r'{"a":["\udc00"]}', r'{"\ud800":1}', r'[{"a\udc00":1}]'])
def test_half_a_surrogate_pair_is_refused_in_values_and_keys(text: str) -> None:
    with pytest.raises(NotStrictError, match="surrogate"):
        parse_json(text)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert parse_json(r'{"\ud83d\ude00":"\ud83d\ude00"}') == {"😀": "😀"}


@pytest.mark.parametrize("text", [r'"\u0000"', r'{"a":"b\u0000"}', r'{"\u0000":1}', r'[{"a\u0000b":1}]'])
def test_nul_is_refused_in_values_and_keys(text: str) -> None:
    with pytest.raises(NotStrictError, match="NUL"):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1,]", b"{'a':1}", b"// c\n1", b"01", b"+1", b"1 2", b'"\t"', b"\xff", b"\xef\xbb\xbf{}"],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(NotStrictError):
        parse_json(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_no_encoding_but_utf_8_is_guessed(encoding: str) -> None:
    with pytest.raises(NotStrictError):
        parse_json('{"a":1}'.encode(encoding))
