"""The short way writes what the library writes, byte for byte, and refuses what it refuses."""

import enum
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tenantry.kit.canonical_json import canonical_json

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(alphabet=st.characters())
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class _Named(enum.StrEnum):
    ONE = "one"


def _written(write: Any, value: Any) -> bytes | type[ValueError]:
    try:
        written: bytes = write(value)
    except ValueError:
        return ValueError
    return written


@given(_VALUES)
def test_it_is_what_the_library_writes(value: Any) -> None:
    assert _written(canonical_json, value) == _written(rfc8785.dumps, value)


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": [True, None, 'é\x00\x1f\x7f\u2028"\\/']},
        {"\U0001f600": 1, "\ufb33": 2},  # sorted by UTF-16, not by code points
        {"n": 1.0, "m": 1e21, "z": -0.0},
        {"most": 2**53 - 1},
        {"too much": 2**53},
        {"surrogate": "\ud800"},
        {"named": _Named.ONE},
        {_Named.ONE: 1},
    ],
)
def test_what_is_special_is_as_the_library_has_it(value: Any) -> None:
    assert _written(canonical_json, value) == _written(rfc8785.dumps, value)


def test_a_set_and_a_name_that_is_none_are_refused() -> None:
    for value in ({"a": {1}}, {1: "a"}):
        with pytest.raises(ValueError, match=r".+"):
            canonical_json(value)
