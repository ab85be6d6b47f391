"""A cursor opens for the list it was made for, in its time, unchanged; anything else reads as no cursor."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.kit.cursors import LIFETIME_SECONDS, decode_cursor, encode_cursor

KEY = bytes(range(32))
NOW = 1_800_000_000
POSITIONS = st.text(alphabet=st.characters(codec="utf-8"), max_size=200)
BINDINGS = st.text(alphabet=st.characters(codec="utf-8"), max_size=80)


def make(position: str = "01h455vb4pex5vsknk084sn02q", binding: str = "ten/jobs?status=queued") -> str:
    return encode_cursor(key=KEY, binding=binding, position=position, now=NOW)


def opened(cursor: str, *, binding: str = "ten/jobs?status=queued", key: bytes = KEY, now: int = NOW) -> str | None:
    return decode_cursor(key=key, binding=binding, cursor=cursor, now=now)


@given(position=POSITIONS, binding=BINDINGS)
def test_a_cursor_gives_its_position_back(position: str, binding: str) -> None:
    assert opened(make(position, binding), binding=binding) == position


@given(position=POSITIONS, first=BINDINGS, second=BINDINGS)
def test_a_cursor_of_one_list_does_not_open_in_another(position: str, first: str, second: str) -> None:
    if first != second:
        assert opened(make(position, first), binding=second) is None


def test_a_binding_cannot_run_over_into_the_position() -> None:
    """Joined by a separator alone, these two would have one signature."""
    position = f"{NOW + LIFETIME_SECONDS}:b"
    moved = make(f"a\0{position}", binding="list")
    assert opened(moved, binding=f"list\0{NOW + LIFETIME_SECONDS}:a") is None


@pytest.mark.parametrize("place", range(0, len(make()), 3))
def test_no_character_can_be_changed(place: int) -> None:
    cursor = make()
    for replacement in "A_":
        changed = cursor[:place] + replacement + cursor[place + 1 :]
        if changed != cursor:
            assert opened(changed) is None


@given(noise=st.text(max_size=300))
def test_noise_is_no_cursor(noise: str) -> None:
    assert opened(noise) is None


@pytest.mark.parametrize("cursor", ["", "=", "====", "a", "é", "\0", "A" * 100_000, "AA==AA", " ", "../..", "\ud800"])
def test_what_is_no_cursor_does_not_open(cursor: str) -> None:
    assert opened(cursor) is None


def test_another_key_does_not_open_it() -> None:
    assert opened(make(), key=bytes(32)) is None


def test_a_cursor_lives_for_a_day() -> None:
    assert opened(make("x"), now=NOW + LIFETIME_SECONDS) == "x"
    assert opened(make("x"), now=NOW + LIFETIME_SECONDS + 1) is None


def test_a_longer_life_cannot_be_written_into_it() -> None:
    raw = base64.urlsafe_b64decode(make("x") + "==")
    later = raw[:16] + f"{NOW + 10 * LIFETIME_SECONDS}:x".encode()
    assert opened(base64.urlsafe_b64encode(later).decode().rstrip("=")) is None
