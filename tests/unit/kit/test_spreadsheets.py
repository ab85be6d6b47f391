"""CSV says what it was given, and no spreadsheet runs any of it."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.kit.spreadsheets import csv_lines, harmless

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1", "=cmd|' /C calc'!A0", '=1","x']


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_stays_a_text(text: str) -> None:
    assert harmless(text) == f"'{text}"
    (row,) = csv.reader(io.StringIO(csv_lines([[text, "x"]]), newline=""))
    assert row == [f"'{text}", "x"]


@pytest.mark.parametrize("text", ["", "0", "1.500", "a=b", "a-b", "2026-01-01T00:00:00Z", "ws_1", "é"])
def test_what_is_no_formula_is_left_as_it_is(text: str) -> None:
    assert harmless(text) == text


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2)))
def test_every_row_comes_back(rows: list[list[str]]) -> None:
    found = list(csv.reader(io.StringIO(csv_lines(rows), newline="")))
    assert found == [[harmless(cell) for cell in row] for row in rows]


def test_lines_end_as_the_rfc_has_it() -> None:
    assert csv_lines([["a", "b,c"], ["d", 'e"f']]) == 'a,"b,c"\r\nd,"e""f"\r\n'
