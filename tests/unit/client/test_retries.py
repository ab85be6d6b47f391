import socket
from typing import TYPE_CHECKING

import pytest

from tenantry.client import ApiError, AsyncClient, BadAnswer, Client, ConnectionFailed

if TYPE_CHECKING:
    from tests.unit.client.conftest import Server

JOB = {"id": "job_1", "status": "queued"}


def test_a_post_is_sent_again_with_its_idempotency_key_after_the_connection_broke(
    server: "Server", client: Client
) -> None:
    server.breaks_off()
    server.answers(202, JOB)
    assert client.jobs.create("ws_1", command=["true"]) == JOB
    first, second = server.received
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


def test_two_posts_have_two_idempotency_keys(server: "Server", client: Client) -> None:
    client.jobs.create("ws_1", command=["true"])
    client.jobs.create("ws_1", command=["true"])
    first, second = (each.headers["idempotency-key"] for each in server.received)
    assert first != second
    assert len(first) >= 32


def test_a_caller_may_bring_the_idempotency_key_of_an_earlier_process(server: "Server", client: Client) -> None:
    client.jobs.create("ws_1", command=["true"], idempotency_key="deploy-42")
    assert server.received[0].headers["idempotency-key"] == "deploy-42"


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_read_is_repeated_while_the_server_is_away(server: "Server", client: Client, status: int) -> None:
    server.refuses(status)
    server.refuses(status)
    server.answers(200, JOB)
    assert client.jobs.get("ws_1", "job_1") == JOB
    assert len(server.received) == 3
    assert 0.125 <= server.slept[0] <= 0.25 <= server.slept[1] * 1.01 <= 0.51


def test_attempts_are_bounded_and_the_last_refusal_is_raised(server: "Server", client: Client) -> None:
    for _ in range(4):
        server.refuses(503, code="store_down", detail="the store does not answer")
    with pytest.raises(ApiError, match="store_down"):
        client.jobs.get("ws_1", "job_1")
    assert len(server.slept) == 3


def test_retry_after_is_waited_for(server: "Server", client: Client) -> None:
    server.answers(429, {"code": "rate_exceeded"}, {"Retry-After": "7"})
    server.answers(200, JOB)
    client.jobs.get("ws_1", "job_1")
    assert server.slept == [7.0]


def test_retry_after_as_a_date_is_measured_by_the_servers_clock(server: "Server", client: Client) -> None:
    headers = {"Retry-After": "Wed, 21 Oct 2015 07:28:05 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    server.answers(503, {}, headers)
    client.jobs.get("ws_1", "job_1")
    assert len(server.slept) == 1
    assert server.slept[0] <= 5.0


def test_a_retry_after_beyond_patience_is_raised_with_its_seconds(server: "Server", client: Client) -> None:
    server.answers(429, {"code": "quota_exceeded"}, {"Retry-After": "3600"})
    with pytest.raises(ApiError) as caught:
        client.jobs.get("ws_1", "job_1")
    assert caught.value.retry_after_seconds == 3600
    assert server.slept == []


def test_a_quota_without_retry_after_is_not_asked_again(server: "Server", client: Client) -> None:
    server.refuses(429, code="quota_exceeded", limit=5, current=5)
    with pytest.raises(ApiError):
        client.jobs.create("ws_1", command=["true"])
    assert len(server.received) == 1


def test_a_change_without_idempotency_key_is_not_repeated_when_its_effect_is_unknown(
    server: "Server", client: Client
) -> None:
    server.breaks_off()
    with pytest.raises(ConnectionFailed):
        client.tenants.update("acme", {"name": "x"})
    server.refuses(503)
    with pytest.raises(ApiError):
        client.tenants.delete("acme")
    assert len(server.received) == 2


def test_a_server_that_is_not_there_is_tried_a_bounded_number_of_times() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        slept: list[float] = []
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url=url, key="secret-key", sleep=slept.append) as client, pytest.raises(ConnectionFailed) as caught:
            client.tenants.delete("acme")
    assert len(slept) == 3
    assert url in str(caught.value)


def test_a_repeated_post_waits_while_its_first_attempt_is_still_carried_out(server: "Server", client: Client) -> None:
    server.breaks_off()
    server.refuses(409, code="in_progress")
    server.answers(202, JOB)
    assert client.jobs.create("ws_1", command=["true"]) == JOB
    server.refuses(409, code="slug_taken")
    with pytest.raises(ApiError, match="slug_taken"):
        client.tenants.restore("acme")
    assert len(server.received) == 4


async def test_the_asynchronous_client_repeats_as_the_other_does(server: "Server", async_client: AsyncClient) -> None:
    server.breaks_off()
    server.answers(503, {}, {"Retry-After": "2"})
    server.answers(202, JOB)
    assert await async_client.jobs.create("ws_1", command=["true"]) == JOB
    keys = {each.headers["idempotency-key"] for each in server.received}
    assert len(keys) == 1
    assert server.slept[1] == 2.0


def test_a_redirect_is_not_followed_for_it_would_carry_the_key_elsewhere(server: "Server", client: Client) -> None:
    server.answers(307, {}, {"Location": f"{server.url}/elsewhere"})
    with pytest.raises(ApiError, match="307"):
        client.me()
    assert len(server.received) == 1


def test_an_answer_that_is_no_json_is_named_as_such(server: "Server", client: Client) -> None:
    server.sends(b"<html>", media_type="text/html")
    with pytest.raises(BadAnswer):
        client.me()
