"""Many patterns in one pass: no text is taken for unmatched because the matcher had no memory for it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.rules.errors import Unjudged
from tenantry.engines.rules.matching import PatternError, TextSet, require_pattern
from tenantry.kit.globs import star_match


def test_the_numbers_of_all_patterns_that_match_the_whole_are_given() -> None:
    matched = TextSet(["a.*", ".*b", "ab", "c"])
    assert sorted(matched.match("ab")) == [0, 1, 2]
    assert sorted(matched.match("a\nb")) == [0, 1]
    assert matched.match("xa") == []
    assert TextSet([]).match("x") == []


def test_where_not_even_the_witness_matches_nothing_has_been_judged() -> None:
    matched = TextSet(["a"])
    matched._match = lambda _: []
    with pytest.raises(Unjudged):
        matched.match("a")


def test_patterns_that_need_too_much_memory_are_refused_before_any_text() -> None:
    with pytest.raises(PatternError):
        TextSet(["a.{100}z"] * 20, memory=20_000)


@pytest.mark.parametrize("pattern", ["(?=a)", "(?<!a)b", r"(a)\1", "[", "a{1001}", "((((", "(?P<n"])
def test_what_re2_does_not_take_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        require_pattern(pattern)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_a_glob_matches_as_its_regular_expression(glob: str, text: str) -> None:
    written = re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".")
    assert star_match(text, glob) == (re.fullmatch(written, text) is not None)
