"""What each method asks of the server, in the words of the API."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tenantry.client import ApiError, AsyncClient, BadAnswer, Client
from tenantry.client.phase_types import JobPhases
from tenantry.client.resources.jobs import job_input

if TYPE_CHECKING:
    from tests.unit.client.conftest import Server

Ask = Callable[[Client], object]

CALLS: list[tuple[str, str, object, Ask]] = [
    ("POST", "/tenants/acme/suspend", {"reason": "unpaid"}, lambda c: c.tenants.suspend("acme", reason="unpaid")),
    ("POST", "/tenants/acme/resume", {}, lambda c: c.tenants.resume("acme")),
    ("POST", "/tenants/acme/restore", {}, lambda c: c.tenants.restore("acme")),
    ("DELETE", "/tenants/acme", None, lambda c: c.tenants.delete("acme")),
    ("PATCH", "/tenants/acme", {"name": "A"}, lambda c: c.tenants.update("acme", {"name": "A"})),
    (
        "POST",
        "/workspaces",
        {"name": "ci", "path": "teams/a/b"},
        lambda c: c.workspaces.create(name="ci", path="teams/a/b"),
    ),
    (
        "POST",
        "/workspaces/ws_1/images/pull",
        {"reference": "ghcr.io/a/b:1"},
        lambda c: c.images.pull("ws_1", reference="ghcr.io/a/b:1"),
    ),
    ("GET", "/tenants/acme/slos", None, lambda c: c.tenants.slos("acme")),
    ("GET", "/tenants/acme/labels", None, lambda c: c.tenants.labels("acme")),
    ("GET", "/tenants/acme/quotas", None, lambda c: c.tenants.quotas("acme")),
    ("GET", "/tenants/acme/usage", None, lambda c: c.tenants.usage("acme")),
    (
        "PUT",
        "/tenants/acme/slos",
        {"overlay": {"latency_p95_ms": 1}},
        lambda c: c.tenants.set_slos("acme", {"latency_p95_ms": 1}),
    ),
    ("PUT", "/tenants/acme/labels", {"overlay": {}}, lambda c: c.tenants.set_labels("acme", {})),
    ("GET", "/workspaces/ws_1/limits", None, lambda c: c.limits.get(workspace="ws_1")),
    (
        "PATCH",
        "/workspaces/ws_1/limits",
        {"max_concurrent_jobs": None},
        lambda c: c.limits.change({"max_concurrent_jobs": None}, workspace="ws_1"),
    ),
    ("GET", "/workspaces/ws_1/jobs/job_1/explain", None, lambda c: c.jobs.explain("ws_1", "job_1")),
    ("GET", "/tenants/acme/rate-limits", None, lambda c: c.limits.standing(tenant="acme")),
    (
        "PUT",
        "/tenants/acme/limits",
        {"rates": {"api_requests": {"max_requests": 5, "window_ms": 1000}}},
        lambda c: c.limits.replace({"api_requests": {"max_requests": 5, "window_ms": 1000}}, tenant="acme"),
    ),
    ("GET", "/workspaces/ws_1/policies/image", None, lambda c: c.policies.get("image", workspace="ws_1")),
    ("PUT", "/tenants/acme/policies/image", {}, lambda c: c.policies.put("image", "{}", tenant="acme")),
    (
        "POST",
        "/workspaces/ws_1/policies/image/promote",
        {"version": 3, "state": "enforced"},
        lambda c: c.policies.promote("image", 3, "enforced", workspace="ws_1"),
    ),
    (
        "POST",
        "/workspaces/ws_1/policies/test",
        {"job": {"command": ["true"]}},
        lambda c: c.policies.test("ws_1", {"job": {"command": ["true"]}}),
    ),
    ("GET", "/workspaces/ws_1/policies/shadow-diff", None, lambda c: c.policies.shadow_diff("ws_1")),
    ("GET", "/platform/policies/image", None, lambda c: c.policies.of_platform("image")),
    (
        "POST",
        "/tenants/acme/exemptions",
        {"kind": "image", "rule": "r", "owner": "o", "reason": "why", "expires_at": "2027-01-01T00:00:00Z"},
        lambda c: c.exemptions.create(
            kind="image", rule="r", owner="o", reason="why", expires_at="2027-01-01T00:00:00Z", tenant="acme"
        ),
    ),
    ("DELETE", "/workspaces/ws_1/exemptions/exm_1", None, lambda c: c.exemptions.revoke("exm_1", workspace="ws_1")),
    ("GET", "/workspaces/ws_1/slos", None, lambda c: c.workspaces.slos("ws_1")),
    ("GET", "/workspaces/ws_1/labels", None, lambda c: c.workspaces.labels("ws_1")),
    ("PUT", "/workspaces/ws_1/slos", {"overlay": {}}, lambda c: c.workspaces.set_slos("ws_1", {})),
    ("PUT", "/workspaces/ws_1/labels", {"overlay": {}}, lambda c: c.workspaces.set_labels("ws_1", {})),
    (
        "POST",
        "/workspaces/ws_1/labels/check",
        {"labels": {"env": "dev"}},
        lambda c: c.workspaces.check_labels("ws_1", {"env": "dev"}),
    ),
    ("DELETE", "/workspaces/ws_1", None, lambda c: c.workspaces.archive("ws_1")),
    (
        "POST",
        "/tenants/acme/notification-channels",
        {"name": "pager", "kind": "webhook", "address": "https://h.example/x", "topics": ["*"]},
        lambda c: c.notification_channels.create(
            name="pager", kind="webhook", address="https://h.example/x", topics=["*"], tenant="acme"
        ),
    ),
    (
        "POST",
        "/audit/streams",
        {"name": "siem", "kind": "webhook", "format": "ocsf", "address": "https://h.example/x", "after": 0}
        | {"filter": {"actions": ["login."]}},
        lambda c: c.audit_streams.create(
            name="siem",
            kind="webhook",
            format="ocsf",
            address="https://h.example/x",
            filter={"actions": ("login.",)},
            after=0,
        ),
    ),
    ("GET", "/audit/streams/ast_1", None, lambda c: c.audit_streams.get("ast_1")),
    ("PATCH", "/audit/streams/ast_1", {"name": "n"}, lambda c: c.audit_streams.update("ast_1", {"name": "n"})),
    ("POST", "/audit/streams/ast_1/pause", {}, lambda c: c.audit_streams.pause("ast_1")),
    ("POST", "/audit/streams/ast_1/resume", {}, lambda c: c.audit_streams.resume("ast_1")),
    ("POST", "/audit/streams/ast_1/replay", {"after": 3}, lambda c: c.audit_streams.replay("ast_1", after=3)),
    ("DELETE", "/audit/streams/ast_1", None, lambda c: c.audit_streams.remove("ast_1")),
    ("POST", "/audit/forgettings", {"principal": "usr_1"}, lambda c: c.audit.forget("usr_1")),
    ("GET", "/audit/forgettings/fgt_1", None, lambda c: c.audit.forgetting("fgt_1")),
    (
        "PATCH",
        "/workspaces/ws_1/notification-channels/nch_1",
        {"status": "disabled"},
        lambda c: c.notification_channels.update("nch_1", {"status": "disabled"}, workspace="ws_1"),
    ),
    (
        "GET",
        "/workspaces/ws_1/notification-channels/nch_1",
        None,
        lambda c: c.notification_channels.get("nch_1", workspace="ws_1"),
    ),
    (
        "POST",
        "/workspaces/ws_1/notification-channels/nch_1/test",
        {},
        lambda c: c.notification_channels.test("nch_1", workspace="ws_1"),
    ),
    (
        "POST",
        "/workspaces/ws_1/environments",
        {"slug": "blue", "kind": "prod"},
        lambda c: c.workspaces.add_environment("ws_1", slug="blue", kind="prod"),
    ),
    ("GET", "/workspaces/ws_1/environments/blue", None, lambda c: c.workspaces.environment("ws_1", "blue")),
    (
        "PATCH",
        "/workspaces/ws_1/environments/blue",
        {"kind": "dev"},
        lambda c: c.workspaces.change_environment("ws_1", "blue", {"kind": "dev"}),
    ),
    ("DELETE", "/workspaces/ws_1/environments/blue", None, lambda c: c.workspaces.remove_environment("ws_1", "blue")),
    ("POST", "/workspaces/ws_1/suspend", {"reason": "r"}, lambda c: c.workspaces.suspend("ws_1", reason="r")),
    ("POST", "/workspaces/ws_1/resume", {}, lambda c: c.workspaces.resume("ws_1")),
    (
        "POST",
        "/workspaces/ws_1/service-accounts",
        {"name": "bot"},
        lambda c: c.service_accounts.create(name="bot", workspace="ws_1"),
    ),
    (
        "POST",
        "/workspaces/ws_1/keys",
        {"name": "k", "roles": ["ci"]},
        lambda c: c.keys.create(name="k", roles=["ci"], workspace="ws_1"),
    ),
    (
        "POST",
        "/tenants/acme/keys",
        {"name": "k", "roles": []},
        lambda c: c.keys.create(name="k", roles=[], tenant="acme"),
    ),
    ("DELETE", "/tenants/acme/keys/key_1", None, lambda c: c.keys.revoke("key_1", tenant="acme")),
    (
        "POST",
        "/workspaces/ws_1/bindings",
        {"principal": "usr_1", "role": "ci"},
        lambda c: c.bindings.create(principal="usr_1", role="ci", workspace="ws_1"),
    ),
    ("DELETE", "/workspaces/ws_1/bindings/bnd_1", None, lambda c: c.bindings.delete("bnd_1", workspace="ws_1")),
    (
        "POST",
        "/workspaces/ws_1/grants",
        {"role": "ci", "reason": "r", "principal": "svc_1"},
        lambda c: c.grants.request("ws_1", role="ci", reason="r", principal="svc_1"),
    ),
    ("GET", "/workspaces/ws_1/grants/jit_1", None, lambda c: c.grants.get("ws_1", "jit_1")),
    ("POST", "/workspaces/ws_1/grants/jit_1/revoke", {}, lambda c: c.grants.revoke("ws_1", "jit_1")),
    (
        "POST",
        "/workspaces/ws_1/grants/jit_1/extend",
        {"minutes": 5},
        lambda c: c.grants.extend("ws_1", "jit_1", minutes=5),
    ),
    (
        "POST",
        "/workspaces/ws_1/grants/revoke-all",
        {"principal": "usr_1"},
        lambda c: c.grants.revoke_all("ws_1", principal="usr_1"),
    ),
    ("GET", "/workspaces/ws_1/approvals/apr_1", None, lambda c: c.approvals.get("ws_1", "apr_1")),
    (
        "POST",
        "/workspaces/ws_1/approvals/apr_1/approve",
        {"minutes": 5},
        lambda c: c.approvals.approve("ws_1", "apr_1", minutes=5),
    ),
    (
        "POST",
        "/workspaces/ws_1/approvals/apr_1/reject",
        {"comment": "no"},
        lambda c: c.approvals.reject("ws_1", "apr_1", comment="no"),
    ),
    ("POST", "/workspaces/ws_1/jobs/job_1/cancel", {}, lambda c: c.jobs.cancel("ws_1", "job_1")),
    ("GET", "/workspaces/ws_1/jobs/job_1/receipt", None, lambda c: c.jobs.receipt("ws_1", "job_1")),
    ("DELETE", "/workspaces/ws_1/images/img_1", None, lambda c: c.images.delete("ws_1", "img_1")),
    (
        "POST",
        "/workspaces/ws_1/secrets",
        {"name": "TOKEN", "value": "v"},
        lambda c: c.secrets.set("ws_1", name="TOKEN", value="v"),
    ),
    (
        "POST",
        "/workspaces/ws_1/sandboxes",
        {"name": "dev", "image": "host", "ttl_seconds": 60, "start": True},
        lambda c: c.sandboxes.create("ws_1", name="dev", ttl_seconds=60),
    ),
    ("GET", "/workspaces/ws_1/sandboxes/sbx_1", None, lambda c: c.sandboxes.get("ws_1", "sbx_1")),
    (
        "PATCH",
        "/workspaces/ws_1/sandboxes/sbx_1",
        {"idle_seconds": 0},
        lambda c: c.sandboxes.update("ws_1", "sbx_1", idle_seconds=0),
    ),
    ("DELETE", "/workspaces/ws_1/sandboxes/sbx_1", None, lambda c: c.sandboxes.delete("ws_1", "sbx_1")),
    ("POST", "/workspaces/ws_1/sandboxes/sbx_1/start", {}, lambda c: c.sandboxes.start("ws_1", "sbx_1")),
    ("POST", "/workspaces/ws_1/sandboxes/sbx_1/stop", {}, lambda c: c.sandboxes.stop("ws_1", "sbx_1")),
    (
        "POST",
        "/workspaces/ws_1/sandboxes/sbx_1/extend",
        {"seconds": 9},
        lambda c: c.sandboxes.extend("ws_1", "sbx_1", seconds=9),
    ),
    (
        "POST",
        "/workspaces/ws_1/sandboxes/sbx_1/snapshot",
        {"name": "one"},
        lambda c: c.sandboxes.snapshot("ws_1", "sbx_1", name="one"),
    ),
    (
        "DELETE",
        "/workspaces/ws_1/sandboxes/sbx_1/snapshots/snp_1",
        None,
        lambda c: c.sandboxes.delete_snapshot("ws_1", "sbx_1", "snp_1"),
    ),
    (
        "POST",
        "/workspaces/ws_1/sandboxes/sbx_1/fork",
        {"name": "two", "snapshot": "snp_1", "start": False},
        lambda c: c.sandboxes.fork("ws_1", "sbx_1", name="two", snapshot="snp_1", start=False),
    ),
    ("GET", "/workspaces/ws_1/secrets/sec_1", None, lambda c: c.secrets.get("ws_1", "sec_1")),
    ("GET", "/workspaces/ws_1/evidence/evd_1", None, lambda c: c.evidence.get("ws_1", "evd_1")),
    ("POST", "/workspaces/ws_1/evidence/evd_1/lock", {}, lambda c: c.evidence.lock("ws_1", "evd_1")),
    ("GET", "/workspaces/ws_1/evidence/index", None, lambda c: c.evidence.index("ws_1")),
    ("POST", "/workspaces/ws_1/evidence/index", {}, lambda c: c.evidence.examine("ws_1")),
    ("POST", "/workspaces/ws_1/evidence/gc", {"dry_run": True}, lambda c: c.evidence.collect("ws_1")),
    (
        "POST",
        "/workspaces/ws_1/evidence/gc",
        {"dry_run": False},
        lambda c: c.evidence.collect("ws_1", dry_run=False),
    ),
    (
        "POST",
        "/workspaces/ws_1/evidence/holds",
        {"case_id": "c", "reason": "r", "label": {"env": "dev"}},
        lambda c: c.holds.place("ws_1", case_id="c", reason="r", label={"env": "dev"}),
    ),
    ("DELETE", "/workspaces/ws_1/evidence/holds/hld_1", None, lambda c: c.holds.release("ws_1", "hld_1")),
    ("DELETE", "/workspaces/ws_1/secrets/sec_1", None, lambda c: c.secrets.delete("ws_1", "sec_1")),
    ("POST", "/explain", {"permission": "job:create"}, lambda c: c.explain(permission="job:create")),
    ("GET", "/me", None, lambda c: c.me()),
]


@pytest.mark.parametrize(("method", "path", "body", "ask"), CALLS, ids=[f"{each[0]} {each[1]}" for each in CALLS])
def test_a_method_asks_what_the_api_names(
    server: "Server", client: Client, method: str, path: str, body: object, ask: Ask
) -> None:
    ask(client)
    received = server.received[0]
    assert (received.method, received.path) == (method, f"/api/v1{path}")
    assert (json.loads(received.body) if received.body else None) == body
    assert ("idempotency-key" in received.headers) == (method == "POST")


def test_a_document_is_sent_as_it_was_written(server: "Server", client: Client) -> None:
    text = b"blocked_images: # why\n  - 'a:*'\n"
    client.policies.put("image", text, state="shadow", workspace="ws_1", if_match='"2"')
    client.policies.prove("image", text.decode(), workspace="ws_1")
    put, proof = server.received
    assert (put.body, put.headers["content-type"], put.headers["if-match"]) == (text, "application/yaml", '"2"')
    assert (put.query, proof.query) == ([("state", "shadow")], [("kind", "image")])
    assert (proof.method, proof.path, proof.body) == ("POST", "/api/v1/workspaces/ws_1/policies/proof", text)


def test_a_tenant_is_created_with_what_was_said_and_nothing_else(server: "Server", client: Client) -> None:
    server.answers(201, {"id": "ten_1", "bootstrap_key": {"id": "key_1", "secret": "s", "expires_at": "x"}})
    tenant = client.tenants.create(
        name="Acme", slug="acme", plan="free", region="eu", owner={"email": "a@b.c", "name": "A"}, quotas={"jobs": 1}
    )
    assert tenant["bootstrap_key"]["secret"] == "s"
    assert server.received[0].json == {
        "name": "Acme",
        "slug": "acme",
        "plan": "free",
        "region": "eu",
        "owner": {"email": "a@b.c", "name": "A"},
        "quotas": {"jobs": 1},
    }


def test_a_job_carries_inputs_limits_and_how_long_to_wait(server: "Server", client: Client) -> None:
    client.jobs.create(
        "ws_1",
        command=["cat", "a"],
        inputs=[job_input(path="a", content=b"\xff\x00")],
        limits={"memory_mib": 64},
        wait_seconds=30,
    )
    received = server.received[0]
    assert received.query == [("wait", "30")]
    assert received.json == {
        "command": ["cat", "a"],
        "image": "host",
        "inputs": [{"path": "a", "content_base64": "/wA="}],
        "limits": {"memory_mib": 64},
    }


def test_a_job_of_phases_has_no_command_beside_them(server: "Server", client: Client) -> None:
    phases: JobPhases = {
        "fetch": {"command": ["get"], "network": [{"host": "pypi.org", "port": 443}]},
        "run": {"command": ["make"]},
        "publish": {"command": ["put"], "secrets": [{"name": "TOKEN"}], "workspace": "read"},
    }
    client.jobs.create("ws_1", phases=phases)
    assert server.received[0].json == {"image": "host", "phases": phases}


def test_a_change_names_the_version_it_was_made_for(server: "Server", client: Client) -> None:
    server.answers(200, {"id": "ten_1"}, {"ETag": '"v7"'})
    etag = client.tenants.etag("acme")
    server.refuses(412, code="version_stale")
    with pytest.raises(ApiError) as caught:
        client.tenants.update("acme", {"name": "x"}, if_match=etag)
    assert caught.value.status == 412
    assert server.received[1].headers["if-match"] == '"v7"'


def page(*numbers: int, cursor: str | None) -> dict[str, Any]:
    return {"items": [{"id": f"evt_{number}"} for number in numbers], "next_cursor": cursor}


def test_the_audit_trail_is_read_page_by_page(server: "Server", client: Client) -> None:
    server.answers(200, page(1, 2, cursor="c1"))
    server.answers(200, page(3, cursor=None))
    events = client.audit.query(outcome="denied", workspace="ws_1")
    assert [event["id"] for event in events] == ["evt_1", "evt_2", "evt_3"]
    assert events.next_cursor is None
    assert server.received[0].query == [("outcome", "denied"), ("workspace", "ws_1"), ("limit", "100")]
    assert server.received[1].query[-1] == ("cursor", "c1")


def test_what_was_used_is_read_page_by_page(server: "Server", client: Client) -> None:
    server.answers(200, page(1, cursor="c1"))
    server.answers(200, page(2, cursor=None))
    assert len(list(client.metering.list(tenant="acme", meter="tokens", granularity="event"))) == 2
    assert server.received[0].path == "/api/v1/tenants/acme/metering"
    assert server.received[0].query == [("meter", "tokens"), ("granularity", "event"), ("limit", "100")]


async def test_the_asynchronous_client_walks_the_same_pages(server: "Server", async_client: AsyncClient) -> None:
    server.answers(200, page(1, cursor="c1"))
    server.answers(200, page(2, cursor=None))
    assert [event["id"] async for event in async_client.audit.query()] == ["evt_1", "evt_2"]


def test_a_bounded_walk_ends_at_a_page_and_tells_where_to_go_on(server: "Server", client: Client) -> None:
    server.answers(200, page(*range(100), cursor="c1"))
    server.answers(200, page(*range(50), cursor="c2"))
    events = client.audit.query(limit=150)
    assert len(list(events)) == 150
    assert events.next_cursor == "c2"
    assert server.received[1].query[0] == ("limit", "50")


def test_a_list_whose_cursor_does_not_move_ends_in_an_error(server: "Server", client: Client) -> None:
    server.answers(200, page(1, cursor="c1"))
    server.answers(200, page(1, cursor="c1"))
    with pytest.raises(BadAnswer):
        list(client.tenants.list())


def test_not_being_ready_is_an_answer(server: "Server", client: Client) -> None:
    server.answers(503, {"ready": False})
    assert client.readiness() == {"ready": False}
    server.answers(200, {"status": "ok"})
    assert client.health() == {"status": "ok"}
    assert [each.path for each in server.received] == ["/readiness", "/health"]


def test_deleting_answers_nothing(server: "Server", client: Client) -> None:
    server.sends(b"", media_type="application/json", status=204)
    assert client.keys.revoke("key_1", workspace="ws_1") is None
