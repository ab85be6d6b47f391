"""Frames: what was packed comes out however it is cut, and what is no frame comes to nothing."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.kit.frames import HEAD_BYTES, MOST_BYTES, Frame, FrameError, FrameReader, pack, unpack_head

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FRAMES = st.lists(st.builds(Frame, st.integers(0, 255), st.binary(max_size=300)), max_size=8)


@UNHURRIED
@given(frames=FRAMES, cuts=st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    raw = b"".join(pack(frame.kind, frame.payload) for frame in frames)
    found: list[Frame] = []
    reader, at, turn = FrameReader(), 0, 0
    while at < len(raw):
        size = cuts[turn % len(cuts)]
        found += reader.feed(raw[at : at + size])
        at, turn = at + size, turn + 1
    assert found == frames
    assert reader.rest == 0


@UNHURRIED
@given(raw=st.binary(max_size=2000))
def test_whatever_comes_no_more_is_held_than_has_come_and_nothing_else_is_raised(raw: bytes) -> None:
    found: list[Frame] = []
    reader = FrameReader()
    with contextlib.suppress(FrameError):
        found.extend(reader.feed(raw))
    assert sum(HEAD_BYTES + len(frame.payload) for frame in found) + reader.rest <= len(raw)


@UNHURRIED
@given(kind=st.integers(0, 255), length=st.integers(MOST_BYTES + 1, 2**32 - 1), before=FRAMES)
def test_a_payload_that_is_too_long_is_refused_unread_and_nothing_follows(
    kind: int, length: int, before: list[Frame]
) -> None:
    found: list[Frame] = []
    reader = FrameReader()
    raw = b"".join(pack(frame.kind, frame.payload) for frame in before)
    stream = reader.feed(raw + bytes([kind]) + length.to_bytes(4, "big"))
    with pytest.raises(FrameError):
        found.extend(stream)
    assert found == before
    assert reader.rest == 0
    with pytest.raises(FrameError):
        list(reader.feed(pack(1, b"fine")))


def test_what_cannot_be_read_again_is_not_written() -> None:
    for kind, payload in ((256, b""), (-1, b""), (1, bytes(MOST_BYTES + 1))):
        with pytest.raises(FrameError):
            pack(kind, payload)
    assert unpack_head(pack(7, bytes(MOST_BYTES))[:HEAD_BYTES]) == (7, MOST_BYTES)
    with pytest.raises(FrameError):
        unpack_head(b"\x01")
