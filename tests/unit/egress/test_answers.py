"""Answers, beside another reader: as long as they were, however they are cut, and without the pieces."""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantry.engines.egress.answers import Answers, BadAnswerError
from tenantry.engines.egress.masking import LevelMask

PIECES = (b"secret", b"secret-and-more", b"cretin", b"ababab", b"morem")
ALPHABET = st.sampled_from([b"s", b"secre", b"secret", b"cret", b"in", b"-and-more", b"m", b"ab", b"a", b"x", b"\r\n"])
TEXTS = st.lists(ALPHABET, max_size=25).map(b"".join)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


def hidden(text: bytes) -> bytes:
    """The same, said slowly: every byte that some piece covers."""
    shown = bytearray(text)
    for piece in PIECES:
        for at in range(len(text)):
            if text.startswith(piece, at):
                shown[at : at + len(piece)] = b"*" * len(piece)
    return bytes(shown)


@given(TEXTS, st.lists(st.integers(0, 9), max_size=30))
@example(b"-and-morem", [10, 0])  # what is hidden of a held end stays hidden when nothing comes
def test_a_mask_hides_every_piece_however_the_stream_is_cut(text: bytes, sizes: list[int]) -> None:
    mask = LevelMask(PIECES)
    got = b"".join(mask.feed(piece) for piece in cut(text, sizes)) + mask.feed(b"", last=True)
    assert got == hidden(text)
    assert LevelMask(PIECES).whole(text) == hidden(text)


@given(TEXTS, st.binary(min_size=1, max_size=4))
def test_a_mask_holds_back_only_what_could_become_a_piece(text: bytes, end: bytes) -> None:
    mask = LevelMask(PIECES)
    given_out = mask.feed(text + end + b"\n")
    assert len(given_out) == len(text + end) + 1


BODIES = st.tuples(st.sampled_from(["length", "chunked"]), TEXTS, st.lists(st.integers(1, 7), max_size=10))


def written(kind: str, body: bytes, sizes: list[int]) -> bytes:
    if kind == "length":
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    chunks = b"".join(b"%X;a=b\r\n%b\r\n" % (len(one), one) for one in cut(body, sizes) if one)
    return (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nX: a secret b\r\n\r\n" + chunks + b"0\r\nT: secret\r\n\r\n"
    )


@given(st.lists(BODIES, min_size=1, max_size=3), st.lists(st.integers(0, 40), max_size=40))
def test_answers_are_what_they_were_without_the_pieces(
    said: list[tuple[str, bytes, list[int]]], sizes: list[int]
) -> None:
    answers, stream = Answers(PIECES), b"".join(written(*each) for each in said)
    for _ in said:
        answers.expect("GET")
    out = b"".join(answers.feed(piece) for piece in cut(b"HTTP/1.1 100 Continue\r\n\r\n" + stream, sizes))
    assert not answers.due()
    assert not answers.midway
    assert answers.end() == b""
    reader = h11.Connection(h11.CLIENT)
    got = []
    reader.receive_data(out)
    for _ in said:
        reader.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        reader.send(h11.EndOfMessage())
        body = b""
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            body += bytes(event.data) if isinstance(event, h11.Data) else b""
        assert event.headers == []
        got.append(body)
        reader.start_next_cycle()
    assert got == [hidden(body) for _, body, _ in said]
    assert b"a secret b" not in out


def test_a_body_without_an_end_of_its_own_ends_with_the_connection() -> None:
    answers = Answers(PIECES)
    answers.expect("GET")
    out = answers.feed(b"HTTP/1.0 200 OK\r\n\r\nit is secr") + answers.feed(b"et-and-m")
    assert answers.midway
    assert (out + answers.end()).endswith(b"it is ******-and-m")


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200"), ("GET", "204"), ("GET", "304")])
def test_some_answers_have_no_body_whatever_they_say(method: str, status: str) -> None:
    answers = Answers(PIECES)
    answers.expect(method)
    answers.expect("GET")
    one = f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n".encode()
    two = b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"
    assert answers.feed(one + two) == one + two
    assert not answers.due()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/2 200\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n", b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"x" * (200 << 10),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_into_is_not_passed_on(said: bytes) -> None:
    answers = Answers(PIECES)
    answers.expect("GET")
    with pytest.raises(BadAnswerError):
        answers.feed(said)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"]
)
def test_what_is_cut_is_seen_to_be_cut(said: bytes) -> None:
    answers = Answers(PIECES)
    answers.expect("GET")
    answers.feed(said)
    with pytest.raises(BadAnswerError):
        answers.end()


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    answers = Answers(PIECES)
    answers.expect("GET")
    try:
        answers.feed(b"HTTP/1.1 200 OK\r\n" + data)
    except BadAnswerError:
        return
