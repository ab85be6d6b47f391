"""Sealed streams: cut, reordered, repeated, spliced or moved, they do not open."""

from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.envelope.streams import PART_BYTES, open_stream, seal_stream, sealed_bytes
from tenantry.foundation.errors import Fault, Gone

KEYSET = Keyset.create()
PLACE = b"owner|log|1"
HEADER = 17
CANARY = b"CANARY-7f3a"


async def chunks(content: bytes, size: int = 10_007) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def sealed(content: bytes, place: bytes = PLACE, keyset: Keyset = KEYSET) -> bytes:
    return b"".join([piece async for piece in seal_stream(chunks(content), keyset=keyset, associated=place)])


async def opened(content: bytes, place: bytes = PLACE, keyset: Keyset = KEYSET, size: int = 10_007) -> bytes:
    return b"".join([piece async for piece in open_stream(chunks(content, size), keyset=keyset, associated=place)])


def parts_of(content: bytes) -> list[bytes]:
    parts, at = [], HEADER
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big") & 0x7FFFFFFF
        parts.append(content[at : at + 4 + length])
        at += 4 + length
    return parts


LENGTHS = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("size", [4_999, 10_000_000])
async def test_content_of_any_length_comes_back_however_it_is_cut(length: int, size: int) -> None:
    content = bytes(range(251)) * (length // 251 + 1)
    assert await opened(await sealed(content[:length]), size=size) == content[:length]


@pytest.mark.parametrize("length", LENGTHS)
async def test_how_long_sealed_content_is_follows_from_its_length(length: int) -> None:
    assert len(await sealed(bytes(length))) == sealed_bytes(length)


async def test_single_bytes_at_a_time_open_as_well() -> None:
    assert await opened(await sealed(CANARY), size=1) == CANARY


def swapped(parts: list[bytes]) -> list[bytes]:
    return [parts[1], parts[0], *parts[2:]]


def promoted(parts: list[bytes]) -> list[bytes]:
    first = int.from_bytes(parts[0][:4], "big") | 1 << 31
    return [first.to_bytes(4, "big") + parts[0][4:]]


def demoted(parts: list[bytes]) -> list[bytes]:
    last = int.from_bytes(parts[-1][:4], "big") & 0x7FFFFFFF
    return [*parts[:-1], last.to_bytes(4, "big") + parts[-1][4:], parts[-1]]


ATTACKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "last part dropped": lambda parts: parts[:-1],
    "first part dropped": lambda parts: parts[1:],
    "middle part dropped": lambda parts: [parts[0], *parts[2:]],
    "parts swapped": swapped,
    "part repeated": lambda parts: [parts[0], *parts],
    "last part repeated": lambda parts: [*parts, parts[-1]],
    "end moved forward": promoted,
    "end taken away": demoted,
    "everything dropped": lambda parts: parts[:0],
    "bytes appended": lambda parts: [*parts, b"x"],
    "cut in a part": lambda parts: [*parts[:-1], parts[-1][:-1]],
    "huge length": lambda parts: [b"\x7f\xff\xff\xff", *parts],
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_rearranged_stream_does_not_open(attack: str) -> None:
    whole = await sealed(CANARY + bytes(4 * PART_BYTES))
    with pytest.raises(Fault) as refused:
        await opened(whole[:HEADER] + b"".join(ATTACKS[attack](parts_of(whole))))
    assert refused.value.code == "sealed_unreadable"
    assert "CANARY" not in f"{refused.value!r}{refused.value.fields}"


async def test_a_length_that_would_fill_the_memory_is_refused_before_anything_is_read_for_it() -> None:
    whole = await sealed(CANARY)

    async def endless() -> AsyncIterator[bytes]:
        yield whole[:HEADER] + b"\xff\xff\xff\xff"
        raise AssertionError

    with pytest.raises(Fault):
        await anext(open_stream(endless(), keyset=KEYSET, associated=PLACE))


async def test_a_part_of_another_stream_of_the_same_place_and_key_does_not_fit() -> None:
    one, other = await sealed(bytes(3 * PART_BYTES)), await sealed(b"\x01" * 3 * PART_BYTES)
    mixed = [parts_of(one)[0], parts_of(other)[1], parts_of(one)[2]]
    with pytest.raises(Fault):
        await opened(one[:HEADER] + b"".join(mixed))


async def test_a_stream_opens_in_its_place_alone_and_is_no_value() -> None:
    whole = await sealed(CANARY)
    with pytest.raises(Fault):
        await opened(whole, place=b"owner|log|2")
    with pytest.raises(Fault):
        await opened(whole, keyset=Keyset.create())
    part = parts_of(whole)[0][4:]
    bound = whole[1:HEADER] + bytes(8) + b"\x01" + PLACE
    with pytest.raises(Fault):
        KEYSET.open(part, bound)
    value = KEYSET.seal(CANARY, bound)
    with pytest.raises(Fault):
        await opened(whole[:HEADER] + (len(value) | 1 << 31).to_bytes(4, "big") + value)


async def test_a_stream_of_a_destroyed_key_is_gone() -> None:
    whole = await sealed(CANARY)
    rotated = KEYSET.rotated()
    assert await opened(whole, keyset=rotated) == CANARY
    with pytest.raises(Gone):
        await opened(whole, keyset=rotated.retired(1))


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(deadline=None, max_examples=200)
async def test_no_single_byte_can_change(at: int, flip: int) -> None:
    whole = bytearray(await sealed(CANARY))
    whole[at % len(whole)] ^= flip
    with pytest.raises(Fault):
        await opened(bytes(whole))
