import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.egress.dns import HTTPS, A, Code, NoQueryError, Query, parse_query

NAME = b"\x03api\x07example\x03com\x00"
LONGEST = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\x00"
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"


def answer_to(data: bytes) -> bytes:
    try:
        query = parse_query(data)
    except NoQueryError as error:
        return error.reply
    assert isinstance(query, Query)
    return query.answer(Code.OK, "127.1.0.1")


def packet(
    *, name: bytes = NAME, kind: int = 1, group: int = 1, flags: int = 0x0100, counts: tuple[int, ...] = (1, 0, 0, 0),
    behind: bytes = b"",
) -> bytes:  # fmt: skip
    return struct.pack(">HHHHHH", 7, flags, *counts) + name + struct.pack(">HH", kind, group) + behind


@pytest.mark.parametrize(
    ("made", "name", "kind"),
    [
        (packet(), "api.example.com", A),
        (packet(kind=HTTPS), "api.example.com", HTTPS),
        (packet(name=b"\x03ApI\x00"), "ApI", A),
        (packet(name=b"\x00"), "", A),
        (packet(flags=0), "api.example.com", A),
        (packet(flags=0x0120), "api.example.com", A),
        (packet(counts=(1, 0, 0, 1), behind=OPT), "api.example.com", A),
        (packet(counts=(1, 0, 0, 1), behind=OPT[:-2] + b"\x00\x03abc"), "api.example.com", A),
        (packet(name=LONGEST), ".".join(["a" * 63] * 3 + ["a" * 61]), A),
    ],
)  # fmt: skip
def test_an_ordinary_query_is_read(made: bytes, name: str, kind: int) -> None:
    query = parse_query(made)
    assert (query.name, query.kind, query.ident) == (name, kind, 7)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (packet(flags=0x0800), Code.NOT_IMPLEMENTED),
        (packet(flags=0x2800), Code.NOT_IMPLEMENTED),
        (packet(flags=0x0300), Code.FORMAT),
        (packet(group=3), Code.REFUSED),
        (packet(group=255), Code.REFUSED),
        (packet(counts=(0, 0, 0, 0)), Code.FORMAT),
        (packet(counts=(2, 0, 0, 0), behind=NAME + b"\x00\x01\x00\x01"), Code.FORMAT),
        (packet(counts=(1, 1, 0, 0), behind=OPT), Code.FORMAT),
        (packet(counts=(1, 0, 1, 0), behind=OPT), Code.FORMAT),
        (packet(counts=(1, 0, 0, 2), behind=OPT + OPT), Code.FORMAT),
        (packet(counts=(1, 0, 0, 1)), Code.FORMAT),
        (packet(counts=(1, 0, 0, 1), behind=OPT + b"x"), Code.FORMAT),
        (packet(counts=(1, 0, 0, 1), behind=OPT[:-2] + b"\x00\x09abc"), Code.FORMAT),
        (packet(counts=(1, 0, 0, 1), behind=b"\x00\x00\x01" + OPT[3:]), Code.FORMAT),
        (packet(behind=b"x"), Code.FORMAT),
        (packet()[:-1], Code.FORMAT),
        (packet(name=b"\xc0\x0c"), Code.FORMAT),
        (packet(name=b"\x03api\xc0\x0c"), Code.FORMAT),
        (packet(name=b"\x40" + b"a" * 64 + b"\x00"), Code.FORMAT),
        (packet(name=(b"\x3f" + b"a" * 63) * 4 + b"\x00"), Code.FORMAT),
        (packet(name=b"\x03a.b\x00"), Code.FORMAT),
        (packet(name=b"\x03a\xffb\x00"), Code.FORMAT),
        (packet(name=b"\x05api"), Code.FORMAT),
        (packet(behind=bytes(1300)), Code.FORMAT),
    ],
)
def test_another_query_is_refused_in_its_own_words(made: bytes, code: Code) -> None:
    with pytest.raises(NoQueryError) as refused:
        parse_query(made)
    ident, flags, *counts = struct.unpack(">HHHHHH", refused.value.reply)
    assert (ident, flags & 0x800F, counts) == (7, 0x8000 | code, [0, 0, 0, 0])


@pytest.mark.parametrize("made", [b"", b"\x00" * 11, packet(flags=0x8180)])
def test_what_is_no_query_at_all_gets_no_answer(made: bytes) -> None:
    with pytest.raises(NoQueryError) as refused:
        parse_query(made)
    assert refused.value.reply == b""


def test_an_answer_repeats_the_question_as_it_was_asked() -> None:
    query = parse_query(packet(name=b"\x03ApI\x00"))
    assert query.answer(Code.OK, "127.1.0.1") == (
        b"\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x03ApI\x00\x00\x01\x00\x01"
        b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x01\x00\x01"
    )
    assert query.answer(Code.NO_SUCH_NAME)[2:8] == b"\x81\x83\x00\x01\x00\x00"


@given(st.binary(max_size=600) | st.binary(max_size=200).map(lambda tail: packet()[:12] + tail))
def test_no_bytes_break_the_reader_and_no_answer_is_larger_than_its_question(data: bytes) -> None:
    said = answer_to(data)
    assert len(said) <= len(data) + 16
    assert not said or said[:2] == data[:2]


@given(st.integers(0, len(packet()) - 1), st.integers(0, 255))
def test_no_change_of_one_byte_breaks_the_reader(at: int, byte: int) -> None:
    data = bytearray(packet())
    data[at] = byte
    with contextlib.suppress(NoQueryError):
        parse_query(bytes(data))
