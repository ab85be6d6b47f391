"""SLOs, labels, quotas and usage on the command line: what is shown, and what a change sends."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Api, Run

SLOS: dict[str, Any] = {
    "slos": {"latency_p95_ms": 100.0, "saturation": {"max_qps": None, "max_cpu_percent": 90.0}},
    "overlay": {"latency_p95_ms": 100.0, "saturation": {"max_qps": None}},
    "version": 7,
    "layers": {
        "latency_p95_ms": "tenant",
        "saturation.max_qps": "workspace",
        "saturation.max_cpu_percent": "platform",
    },
    "ignored": {},
}


def test_the_objectives_are_shown_by_dotted_names(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme/slos", SLOS)
    shown = tenantry("tenant", "slos", "acme").stdout
    assert shown == "latency_p95_ms\t100.0\nsaturation.max_qps\t\nsaturation.max_cpu_percent\t90.0\n"
    assert api.to("GET", "/tenants/acme/slos").query == {}


def test_explain_shows_the_layer_of_each(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/workspaces/ws_1/slos", SLOS)
    assert tenantry("workspace", "slos", "ws_1", "--explain").stdout.splitlines() == [
        "latency_p95_ms\t100.0\ttenant",
        "saturation.max_qps\tno limit\tworkspace",
        "saturation.max_cpu_percent\t90.0\tplatform",
    ]
    assert api.to("GET", "/workspaces/ws_1/slos").query == {"explain": "true"}


def test_a_change_lies_over_the_layer_as_it_was_read(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme/slos", SLOS)
    api.on("PUT", "/tenants/acme/slos", SLOS)
    done = tenantry("tenant", "slos", "acme", "--set", "saturation.max_cpu_percent=70", "--set", "error_rate_max=null")
    assert done.exit_code == 0
    sent = api.to("PUT", "/tenants/acme/slos")
    assert sent.headers["if-match"] == "7"
    assert json.loads(sent.body) == {
        "overlay": {
            "latency_p95_ms": 100.0,
            "saturation": {"max_qps": None, "max_cpu_percent": 70},
            "error_rate_max": None,
        }
    }


def test_clear_begins_with_nothing_and_a_named_version_wins(api: "Api", tenantry: "Run") -> None:
    answer = {"labels": {}, "overlay": {"env": {"type": "categorical", "values": ["qa"]}}, "version": 3}
    api.on("GET", "/workspaces/ws_1/labels", answer)
    api.on("PUT", "/workspaces/ws_1/labels", answer)
    tenantry("workspace", "labels", "ws_1", "--clear", "--set", "score.type=continuous", "--if-match", '"2"')
    sent = api.to("PUT", "/workspaces/ws_1/labels")
    assert (json.loads(sent.body), sent.headers["if-match"]) == ({"overlay": {"score": {"type": "continuous"}}}, '"2"')


def test_anothers_change_in_between_is_a_conflict(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme/labels", {"labels": {}, "overlay": {}, "version": 3})
    api.refuses("PUT", "/tenants/acme/labels", 412, code="version_mismatch", detail="read it again")
    assert tenantry("tenant", "labels", "acme", "--clear").exit_code == 5


def test_every_fault_of_an_overlay_is_told(api: "Api", tenantry: "Run") -> None:
    errors = [{"field": "overlay.a", "message": "unknown"}, {"field": "overlay.b", "message": "negative"}]
    api.on("GET", "/tenants/acme/slos", SLOS)
    api.refuses("PUT", "/tenants/acme/slos", 422, code="overlay_invalid", detail="overlay.a: unknown", errors=errors)
    result = tenantry("tenant", "slos", "acme", "--set", "a=1", "--set", "b=-1")
    assert result.exit_code == 2
    assert "overlay.b: negative" in result.stderr


def test_a_name_that_cannot_be_is_not_sent(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme/slos", SLOS)
    assert tenantry("tenant", "slos", "acme", "--set", "saturation..max_qps=1").exit_code == 2
    assert [each.method for each in api.asked] == ["GET"]


def test_quotas_are_a_table_and_usage_a_record(api: "Api", tenantry: "Run") -> None:
    users = {"current": 1, "limit": 1, "unlimited": False, "exceeded": True}
    tokens = {"current": 0, "limit": None, "unlimited": True, "exceeded": False}
    api.on("GET", "/tenants/acme/quotas", {"users": users, "tokens": tokens})
    assert tenantry("tenant", "quotas", "acme").stdout == "users\t1\t1\ttrue\ntokens\t0\tunlimited\tfalse\n"
    assert json.loads(tenantry("tenant", "quotas", "acme", "-o", "json").stdout)["tokens"]["limit"] is None
    api.on("GET", "/tenants/acme/usage", {"current_users": 1, "storage_bytes": {"images": 5}})
    assert tenantry("tenant", "usage", "acme").stdout == "current_users\t1\nstorage_bytes.images\t5\n"
