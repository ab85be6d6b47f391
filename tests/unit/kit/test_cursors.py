"""A cursor opens the one list it was made for, until it expires; everything else opens nothing."""

import base64

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tenantry.kit.cursors import LIFETIME_SECONDS, decode_cursor, encode_cursor

KEY = b"k" * 32
BINDING = "ten_a/GET/jobs?status=failed"
NOW = 1_800_000_000
POSITION = "2026-01-02T03:04:05Z|job_01"
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def cursor() -> str:
    return encode_cursor(key=KEY, binding=BINDING, position=POSITION, now=NOW)


@examples(deadline=None)
@given(key=st.binary(min_size=1, max_size=64), binding=WORDS, position=WORDS, now=st.integers(0, 2**40))
def test_a_cursor_gives_back_the_position_it_was_made_with(key: bytes, binding: str, position: str, now: int) -> None:
    made = encode_cursor(key=key, binding=binding, position=position, now=now)
    assert decode_cursor(key=key, binding=binding, cursor=made, now=now) == position


def test_a_cursor_travels_in_a_query_string_as_it_is() -> None:
    assert set(cursor()) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_no_changed_byte_of_a_cursor_opens() -> None:
    raw = base64.urlsafe_b64decode(cursor() + "=" * (-len(cursor()) % 4))
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        text = base64.urlsafe_b64encode(changed).decode().rstrip("=")
        assert decode_cursor(key=KEY, binding=BINDING, cursor=text, now=NOW) is None


@pytest.mark.parametrize(
    "binding",
    [
        "ten_b/GET/jobs?status=failed",
        "ten_a/GET/jobs?status=running",
        "ten_a/GET/jobs",
        "ten_a/GET/artifacts?status=failed",
        "",
    ],
)
def test_a_cursor_opens_no_list_of_another_tenant_route_or_filter(binding: str) -> None:
    assert decode_cursor(key=KEY, binding=binding, cursor=cursor(), now=NOW) is None


def test_a_binding_cannot_run_over_into_the_position() -> None:
    """Joined by a separator alone, what the one says of its position would belong to the other's list."""
    body = f"{NOW + LIFETIME_SECONDS}:"
    made = encode_cursor(key=KEY, binding="list", position=f"a\0{body}b", now=NOW)
    raw = base64.urlsafe_b64decode(made + "=" * (-len(made) % 4))
    moved = base64.urlsafe_b64encode(raw[:16] + f"{body}b".encode()).decode().rstrip("=")
    assert decode_cursor(key=KEY, binding=f"list\0{body}a", cursor=moved, now=NOW) is None


def test_a_cursor_of_another_installation_does_not_open() -> None:
    assert decode_cursor(key=b"K" * 32, binding=BINDING, cursor=cursor(), now=NOW) is None


def test_a_cursor_lives_for_a_day_and_no_second_more() -> None:
    last = NOW + LIFETIME_SECONDS
    assert LIFETIME_SECONDS == 86_400
    assert decode_cursor(key=KEY, binding=BINDING, cursor=cursor(), now=last) == POSITION
    assert decode_cursor(key=KEY, binding=BINDING, cursor=cursor(), now=last + 1) is None


@pytest.mark.parametrize("text", ["", "=", "a", "ab", "!!!!", "é" * 8, "\0", "\ud800", "A" * 4096, " " * 40])
def test_what_is_no_cursor_opens_nothing(text: str) -> None:
    assert decode_cursor(key=KEY, binding=BINDING, cursor=text, now=NOW) is None


@examples(deadline=None)
@given(text=st.text(max_size=200))
def test_no_invented_cursor_opens_or_raises(text: str) -> None:
    assert decode_cursor(key=KEY, binding=BINDING, cursor=text, now=NOW) is None
