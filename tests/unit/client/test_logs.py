import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tenantry.client import ApiError, AsyncClient, BadAnswer, Client, ConnectionFailed, JobEnd, LogLine
from tenantry.client.sse import LONGEST_EVENT_BYTES, EventDecoder

if TYPE_CHECKING:
    from tests.unit.client.conftest import Server

AT = "2030-01-01T00:00:00Z"


def line(seq: int, text: str) -> LogLine:
    return LogLine(seq=seq, stream="stdout", at=AT, text=text)


def log(seq: int, text: str = "x\n") -> bytes:
    data = json.dumps({"seq": seq, "stream": "stdout", "at": AT, "text": text}, ensure_ascii=False)
    return f"event: log\nid: {seq}\ndata: {data}\n\n".encode()


def end(status: str = "succeeded", exit_code: int | None = 0) -> bytes:
    return f"event: end\ndata: {json.dumps({'status': status, 'exit_code': exit_code})}\n\n".encode()


def test_a_dropped_stream_is_resumed_after_the_last_line_seen(server: "Server", client: Client) -> None:
    server.streams(log(1, "a\n"), log(2, "b\n"), b"event: log\nid: 3\ndata: {half", breaks=True)
    server.streams(log(2, "b\n"), log(3, "c\n"), end("failed", 3))
    events = list(client.jobs.follow("ws_1", "job_1"))
    assert events == [line(1, "a\n"), line(2, "b\n"), line(3, "c\n"), JobEnd("failed", 3)]
    assert "last-event-id" not in server.received[0].headers
    assert server.received[1].headers["last-event-id"] == "2"
    assert len(server.slept) == 1


async def test_the_asynchronous_client_resumes_as_the_other_does(server: "Server", async_client: AsyncClient) -> None:
    server.streams(log(1, "a\n"), breaks=True)
    server.refuses(503)
    server.streams(log(2, "b\n"), end())
    events = [event async for event in async_client.jobs.follow("ws_1", "job_1")]
    assert events == [line(1, "a\n"), line(2, "b\n"), JobEnd("succeeded", 0)]
    assert [each.headers.get("last-event-id") for each in server.received] == [None, "1", "1"]


def test_a_stream_closed_in_peace_is_asked_for_again_as_often_as_it_takes(server: "Server", client: Client) -> None:
    for _ in range(9):
        server.streams(b": nothing new\n\n")
    server.streams(end("timed_out", None))
    assert list(client.jobs.follow("ws_1", "job_1", after_seq=7)) == [JobEnd("timed_out", None)]
    assert {each.headers["last-event-id"] for each in server.received} == {"7"}
    assert server.slept[0] < server.slept[-1] <= 8.0


def test_the_servers_retry_is_waited_for(server: "Server", client: Client) -> None:
    server.streams(b"retry: 3000\n\n")
    server.streams(end())
    list(client.jobs.follow("ws_1", "job_1"))
    assert server.slept == [3.0]


def test_a_stream_that_never_opens_fails_after_a_bounded_number_of_attempts(server: "Server", client: Client) -> None:
    for _ in range(4):
        server.refuses(503, code="store_down")
    with pytest.raises(ApiError, match="store_down"):
        list(client.jobs.follow("ws_1", "job_1"))


def test_a_server_that_went_away_for_good_is_told(server: "Server", client: Client) -> None:
    del server
    with Client(url="http://127.0.0.1:1", key="k", sleep=lambda _: None) as nowhere, pytest.raises(ConnectionFailed):
        list(nowhere.jobs.follow("ws_1", "job_1"))
    assert client.transport.url


def test_content_no_longer_kept_is_an_error_at_once(server: "Server", client: Client) -> None:
    server.refuses(410, code="content_gone")
    with pytest.raises(ApiError) as caught:
        list(client.jobs.follow("ws_1", "job_1"))
    assert caught.value.status == 410
    assert server.slept == []


def test_a_stream_refused_midway_ends_with_the_refusal(server: "Server", client: Client) -> None:
    server.streams(log(1), b'event: refused\ndata: {"code": "key_revoked"}\n\n')
    server.refuses(401, code="key_revoked")
    events = client.jobs.follow("ws_1", "job_1")
    assert next(events) == line(1, "x\n")
    with pytest.raises(ApiError, match="key_revoked"):
        next(events)


def test_a_page_is_not_taken_for_a_stream(server: "Server", client: Client) -> None:
    server.sends(b"<html>", media_type="text/html")
    with pytest.raises(BadAnswer):
        list(client.jobs.follow("ws_1", "job_1"))


def test_a_follower_may_leave_early(server: "Server", client: Client) -> None:
    server.streams(log(1), log(2), end())
    with closing(client.jobs.follow("ws_1", "job_1")) as events:
        assert next(events) == line(1, "x\n")


def test_finished_logs_come_in_pages(server: "Server", client: Client) -> None:
    first = {"seq": 1, "stream": "stdout", "at": AT, "text": "a"}
    server.answers(200, {"items": [first], "next_cursor": "c1"})
    server.answers(200, {"items": [{**first, "seq": 2}], "next_cursor": None})
    assert [each.seq for each in client.jobs.logs("ws_1", "job_1")] == [1, 2]
    assert server.received[0].query == [("follow", "false"), ("limit", "100")]
    assert ("cursor", "c1") in server.received[1].query


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_are_the_same_in_any_portions(size: int) -> None:
    stream = b"event: log\r\nid: 5\r\ndata: a\xe2\x80\xa8b\r\ndata:c\r\rdata: \xc3\xa9\n\n: ping\n\nid: 6\n\n"
    decoder = EventDecoder()
    portions = [stream[start : start + size] for start in range(0, len(stream), size)]
    events = [event for portion in portions for event in decoder.feed(portion)]
    assert [(each.name, each.id, each.data) for each in events] == [("log", "5", "a\u2028b\nc"), ("message", "5", "é")]


def test_an_event_without_end_does_not_fill_the_memory() -> None:
    decoder = EventDecoder()
    list(decoder.feed(b"data: " + bytes(LONGEST_EVENT_BYTES - 6)))
    with pytest.raises(BadAnswer):
        list(decoder.feed(b"\ndata: x"))
