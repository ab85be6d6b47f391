"""A pull that is followed: what is told is passed on, and the answer is the one it would have been without."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from tenantry.client.errors import ApiError, BadAnswer, ConnectionFailed

if TYPE_CHECKING:
    from tests.unit.client.conftest import Server

    from tenantry.client import AsyncClient, Client

REFERENCE = "ghcr.io/a/b:1"
IMAGE = {"id": "img_1", "name": REFERENCE}
DENIED = {"status": 403, "code": "policy_denied", "detail": "no", "denied_by": "workspace"}
BUSY = {"status": 503, "code": "registry_unavailable", "detail": "later"}
STATES = [{"reference": REFERENCE, "phase": phase} for phase in ("asking", "fetching")]


def event(name: str, content: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()


PROGRESS = [event("progress", state) for state in STATES]


@pytest.fixture
def told() -> list[Any]:
    return []


def test_what_is_told_is_passed_on_and_the_image_is_the_answer(
    server: "Server", client: "Client", told: list[Any]
) -> None:
    server.streams(PROGRESS[0], b": still here\n\n", PROGRESS[1][:20], PROGRESS[1][20:], event("done", IMAGE))
    assert client.images.pull("ws_1", reference=REFERENCE, progress=told.append) == IMAGE
    assert told == STATES
    (asked,) = server.received
    assert asked.headers["accept"].startswith("text/event-stream, application/json")
    assert asked.json == {"reference": REFERENCE}
    assert asked.headers["idempotency-key"]


async def test_the_asynchronous_client_does_the_same(
    server: "Server", async_client: "AsyncClient", told: list[Any]
) -> None:
    server.streams(*PROGRESS, event("done", IMAGE))
    assert await async_client.images.pull("ws_1", reference=REFERENCE, progress=told.append) == IMAGE
    server.streams(*PROGRESS, event("error", DENIED))
    with pytest.raises(ApiError) as refused:
        await async_client.images.pull("ws_1", reference=REFERENCE, progress=told.append)
    assert (refused.value.status, refused.value.code) == (403, "policy_denied")
    server.answers(201, IMAGE)
    assert await async_client.images.pull("ws_1", reference=REFERENCE, progress=told.append) == IMAGE
    server.streams(*PROGRESS, breaks=True)
    server.streams(event("done", IMAGE))
    assert await async_client.images.pull("ws_1", reference=REFERENCE, progress=told.append) == IMAGE


def test_without_progress_nothing_is_followed(server: "Server", client: "Client") -> None:
    server.answers(201, IMAGE)
    assert client.images.pull("ws_1", reference=REFERENCE) == IMAGE
    assert "event-stream" not in server.received[0].headers["accept"]


def test_an_answer_without_events_is_the_answer(server: "Server", client: "Client", told: list[Any]) -> None:
    server.answers(201, IMAGE)
    assert client.images.pull("ws_1", reference=REFERENCE, progress=told.append) == IMAGE
    server.refuses(422, code="image_reference_invalid", detail="no")
    with pytest.raises(ApiError) as refused:
        client.images.pull("ws_1", reference=REFERENCE, progress=told.append)
    assert refused.value.code == "image_reference_invalid"
    assert told == []


def test_a_refusal_in_an_event_is_the_error_it_would_have_been(
    server: "Server", client: "Client", told: list[Any]
) -> None:
    server.streams(*PROGRESS, event("error", DENIED))
    with pytest.raises(ApiError) as refused:
        client.images.pull("ws_1", reference=REFERENCE, progress=told.append)
    assert (refused.value.status, refused.value.code) == (403, "policy_denied")
    assert refused.value.members["denied_by"] == "workspace"
    assert told == STATES


def test_what_is_worth_another_try_is_tried_again(server: "Server", client: "Client", told: list[Any]) -> None:
    server.streams(PROGRESS[0], event("error", {**BUSY, "retry_after_seconds": 2.0}))
    server.streams(PROGRESS[0], breaks=True)
    server.streams(PROGRESS[0])  # ends without an answer, as behind a proxy that gave up
    server.streams(*PROGRESS, event("done", IMAGE))
    assert client.images.pull("ws_1", reference=REFERENCE, progress=told.append) == IMAGE
    assert server.slept[0] == 2.0
    assert len({asked.headers["idempotency-key"] for asked in server.received}) == 1
    assert told == [STATES[0]] * 3 + STATES


def test_what_breaks_off_again_and_again_is_given_up(server: "Server", client: "Client", told: list[Any]) -> None:
    for _ in range(4):
        server.streams(PROGRESS[0])
    with pytest.raises(ConnectionFailed):
        client.images.pull("ws_1", reference=REFERENCE, progress=told.append)


@pytest.mark.parametrize(
    "sent",
    [
        b"event: progress\ndata: {\n\n",
        b"event: done\ndata: []\n\n",
        event("error", {"code": "x"}),
        event("error", {"status": 200}),
        event("error", {"status": "403"}),
    ],
)
def test_events_of_no_sense_are_no_answer(server: "Server", client: "Client", told: list[Any], sent: bytes) -> None:
    server.streams(sent)
    with pytest.raises(BadAnswer):
        client.images.pull("ws_1", reference=REFERENCE, progress=told.append)
