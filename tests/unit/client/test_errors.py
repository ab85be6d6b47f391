import logging
from typing import TYPE_CHECKING

import pytest

from tenantry.client import ApiError, BadRequest, Client

if TYPE_CHECKING:
    from tests.unit.client.conftest import Server


def test_a_problem_document_becomes_an_error_with_its_members(server: "Server", client: Client) -> None:
    server.refuses(
        429,
        type="about:blank",
        title="Over a limit",
        status=429,
        detail="5 of 5 jobs run already",
        code="concurrency_exceeded",
        layer="limits",
        limit=5,
        current=5,
        allow_with="a higher max_concurrent_jobs",
        trace_id="0af7",
        job="job_9",
    )
    with pytest.raises(ApiError) as caught:
        client.jobs.create("ws_1", command=["true"])
    error = caught.value
    assert (error.status, error.code, error.layer, error.title) == (
        429,
        "concurrency_exceeded",
        "limits",
        "Over a limit",
    )
    assert (error.limit, error.current) == (5, 5)
    assert error.allow_with == "a higher max_concurrent_jobs"
    assert error.trace_id == "0af7"
    assert error.members["job"] == "job_9"
    assert str(error) == "429 concurrency_exceeded: 5 of 5 jobs run already"


def test_a_proxys_page_becomes_an_error_without_its_text(server: "Server", client: Client) -> None:
    server.sends(b"<html>secret of the proxy", media_type="text/html", status=403)
    with pytest.raises(ApiError) as caught:
        client.me()
    assert caught.value.code == "http_403"
    assert "secret" not in str(caught.value)


def test_the_key_is_in_no_repr_no_error_and_no_log(
    server: "Server", client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    key = "0123456789abcdefghijABCDEFGHIJ01"
    server.refuses(403, code="denied")
    with caplog.at_level(logging.DEBUG), pytest.raises(ApiError) as caught:
        client.me()
    assert key in server.received[0].headers["authorization"]
    for text in (repr(client), repr(client.transport), repr(client.jobs), str(caught.value), repr(caught.value)):
        assert key not in text
    assert caplog.records, "httpx and httpcore do log at this level"
    assert key not in caplog.text


def test_the_key_does_not_pass_a_proxy_on_its_way_to_this_machine(
    server: "Server", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Client(url=server.url, key="k", sleep=server.slept.append) as client:
        client.me()
    assert len(server.received) == 1


@pytest.mark.parametrize("identity", ["..", ".", ""])
def test_an_id_cannot_be_a_step_in_the_path(server: "Server", client: Client, identity: str) -> None:
    with pytest.raises(BadRequest):
        client.tenants.get(identity)
    assert server.received == []


def test_an_id_with_a_slash_stays_one_segment(server: "Server", client: Client) -> None:
    client.jobs.get("ws_1", "../../../tenants?x=#")
    assert server.received[0].path == "/api/v1/workspaces/ws_1/jobs/..%2F..%2F..%2Ftenants%3Fx%3D%23"


def test_a_place_is_a_workspace_or_a_tenant_and_never_both(client: Client) -> None:
    with pytest.raises(BadRequest):
        client.keys.list()
    with pytest.raises(BadRequest):
        client.keys.revoke("key_1", workspace="ws_1", tenant="acme")
