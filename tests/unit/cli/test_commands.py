import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Api, Run

WS = "/workspaces/ws_1"
TENANT = {"id": "ten_1", "slug": "acme", "status": "active", "region": "eu", "isolation": "row_level"}


def test_lists_are_tab_separated_when_piped_and_the_answer_itself_as_json(api: "Api", tenantry: "Run") -> None:
    api.lists("/tenants", TENANT, {**TENANT, "id": "ten_2", "isolation": None}, next_cursor="c1")
    plain = tenantry("tenant", "list", "--limit", "2")
    assert plain.stdout == "ten_1\tacme\tactive\teu\trow_level\nten_2\tacme\tactive\teu\t\n"
    assert "--cursor c1" in plain.stderr
    answer = json.loads(tenantry("tenant", "list", "--limit", "2", "--output", "json").stdout)
    assert answer == {"items": [TENANT, {**TENANT, "id": "ten_2", "isolation": None}], "next_cursor": "c1"}


def test_the_output_option_may_stand_before_the_command(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme", TENANT)
    assert json.loads(tenantry("--output", "json", "tenant", "get", "acme").stdout) == TENANT


def test_a_record_is_shown_by_its_members(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme", {"id": "ten_1", "settings": {"a": {"b": True}}, "tags": ["x", "y"], "n": None})
    expected = "id\tten_1\nsettings.a.b\ttrue\ntags\tx,y\nn\t\n"
    assert tenantry("tenant", "get", "acme").stdout == expected


def test_a_tenant_is_created_and_its_first_key_shown_once(api: "Api", tenantry: "Run") -> None:
    api.on("POST", "/tenants", {**TENANT, "bootstrap_key": {"id": "key_1", "secret": "s3", "expires_at": "x"}}, 201)
    arguments = ["--plan", "free", "--region", "eu", "--owner-email", "a@b.c", "--set", "quotas.jobs=5"]
    result = tenantry("tenant", "create", "acme", *arguments)
    assert "bootstrap_key.secret\ts3\n" in result.stdout
    assert "not shown again" in result.stderr
    assert api.to("POST", "/tenants").json == {
        "name": "acme",
        "slug": "acme",
        "plan": "free",
        "region": "eu",
        "owner": {"email": "a@b.c", "name": "a@b.c"},
        "quotas": {"jobs": 5},
    }


def test_an_update_changes_only_the_version_it_has_seen(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme", TENANT, headers={"ETag": '"v3"'})
    api.on("PATCH", "/tenants/acme", TENANT)
    assert tenantry("tenant", "update", "acme", "--set", "plan=free", "--set", "settings.a.b=1").exit_code == 0
    asked = api.to("PATCH", "/tenants/acme")
    assert asked.headers["if-match"] == '"v3"'
    assert asked.json == {"plan": "free", "settings": {"a": {"b": 1}}}
    assert tenantry("tenant", "update", "acme").exit_code == 2


def test_deleting_asks_first(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/tenants/acme", TENANT)
    api.on("DELETE", "/tenants/acme", None)
    assert tenantry("tenant", "delete", "acme", given="n\n").exit_code == 1
    assert "DELETE" not in {each.method for each in api.asked}
    assert tenantry("tenant", "delete", "acme", "--yes").stderr == "deleted acme\n"


ANSWERS: list[tuple[tuple[str, ...], str, str, Any]] = [
    (("tenant", "suspend", "acme", "--reason", "unpaid"), "POST", "/tenants/acme/suspend", {"reason": "unpaid"}),
    (("tenant", "resume", "acme"), "POST", "/tenants/acme/resume", {}),
    (("tenant", "restore", "acme"), "POST", "/tenants/acme/restore", {}),
    (("workspace", "suspend", "ws_1", "--reason", "r"), "POST", f"{WS}/suspend", {"reason": "r"}),
    (("workspace", "resume", "ws_1"), "POST", f"{WS}/resume", {}),
    (("workspace", "archive", "ws_1", "--yes", "--if-match", '"v1"'), "DELETE", WS, None),
    (
        ("workspace", "environment", "add", "blue", "--kind", "prod"),
        "POST",
        f"{WS}/environments",
        {"slug": "blue", "kind": "prod"},
    ),
    (("workspace", "environment", "remove", "blue", "--yes"), "DELETE", f"{WS}/environments/blue", None),
    (("workspace", "create", "ci", "--path", "teams/a/b"), "POST", "/workspaces", {"name": "ci", "path": "teams/a/b"}),
    (("key", "revoke", "key_1"), "DELETE", f"{WS}/keys/key_1", None),
    (("key", "revoke", "key_1", "--tenant", "acme"), "DELETE", "/tenants/acme/keys/key_1", None),
    (("key", "rotate", "key_1"), "POST", f"{WS}/keys/key_1/rotate", {"grace_hours": 24}),
    (
        ("key", "rotate", "key_1", "--tenant", "acme", "--grace-hours", "48"),
        "POST",
        "/tenants/acme/keys/key_1/rotate",
        {"grace_hours": 48},
    ),
    (("service-account", "create", "bot"), "POST", f"{WS}/service-accounts", {"name": "bot"}),
    (
        ("binding", "create", "svc_1", "operator"),
        "POST",
        f"{WS}/bindings",
        {"principal": "svc_1", "role": "operator"},
    ),
    (("binding", "delete", "bnd_1"), "DELETE", f"{WS}/bindings/bnd_1", None),
    (
        ("grant", "request", "admin", "--provider", "gcp", "--minutes", "30", "--reason", "r"),
        "POST",
        f"{WS}/grants",
        {"role": "admin", "reason": "r", "minutes": 30, "provider": "gcp"},
    ),
    (("grant", "get", "jit_1"), "GET", f"{WS}/grants/jit_1", None),
    (("grant", "revoke", "jit_1", "--reason", "r"), "POST", f"{WS}/grants/jit_1/revoke", {"reason": "r"}),
    (("grant", "extend", "jit_1", "--minutes", "5"), "POST", f"{WS}/grants/jit_1/extend", {"minutes": 5}),
    (("approval", "get", "apr_1"), "GET", f"{WS}/approvals/apr_1", None),
    (
        ("approval", "approve", "apr_1", "--comment", "c", "--minutes", "5"),
        "POST",
        f"{WS}/approvals/apr_1/approve",
        {"comment": "c", "minutes": 5},
    ),
    (("approval", "reject", "apr_1"), "POST", f"{WS}/approvals/apr_1/reject", {}),
    (("job", "cancel", "job_1"), "POST", f"{WS}/jobs/job_1/cancel", {}),
    (("job", "get", "job_1"), "GET", f"{WS}/jobs/job_1", None),
    (("job", "receipt", "job_1"), "GET", f"{WS}/jobs/job_1/receipt", None),
    (("image", "remove", "img_1"), "DELETE", f"{WS}/images/img_1", None),
    (
        (
            "audit",
            "stream",
            "create",
            "siem",
            "--kind",
            "file",
            "--directory",
            "d",
            "--action",
            "login.",
            "--after",
            "0",
        ),
        "POST",
        "/audit/streams",
        {"name": "siem", "kind": "file", "format": "cloudevents", "directory": "d", "after": 0}
        | {"filter": {"actions": ["login."]}},
    ),
    (("audit", "stream", "pause", "ast_1"), "POST", "/audit/streams/ast_1/pause", {}),
    (("audit", "stream", "resume", "ast_1"), "POST", "/audit/streams/ast_1/resume", {}),
    (("audit", "stream", "replay", "ast_1", "--after", "7"), "POST", "/audit/streams/ast_1/replay", {"after": 7}),
    (
        (
            "audit",
            "stream",
            "update",
            "ast_1",
            "--name",
            "n",
            "--format",
            "ocsf",
            "--action",
            "job.",
            "--rotate-secret",
        ),
        "PATCH",
        "/audit/streams/ast_1",
        {"name": "n", "format": "ocsf", "filter": {"actions": ["job."]}, "rotate_secret": True},
    ),
    (("audit", "stream", "update", "ast_1", "--everything"), "PATCH", "/audit/streams/ast_1", {"filter": {}}),
    (("audit", "anchor", "acme"), "GET", "/tenants/acme/audit-root", None),
    (("audit", "stream", "remove", "ast_1"), "DELETE", "/audit/streams/ast_1", None),
    (
        ("notification", "channel", "test", "nch_1", "--tenant", "acme"),
        "POST",
        "/tenants/acme/notification-channels/nch_1/test",
        {},
    ),
    (
        ("limits", "set", "--rate", "api_requests=100/1m", "--rate", "principal.api_requests=10/500ms,burst=5"),
        "PUT",
        f"{WS}/limits",
        {
            "rates": {
                "api_requests": {"max_requests": 100, "window_ms": 60000},
                "principal.api_requests": {"max_requests": 10, "window_ms": 500, "burst": 5},
            }
        },
    ),
    (
        (
            "limits",
            "change",
            "max_concurrent_jobs=5",
            "max_cpus_per_job=0.5",
            "daily_job_limit=none",
            "--on-limit",
            "reject",
        ),
        "PATCH",
        f"{WS}/limits",
        {"max_concurrent_jobs": 5, "max_cpus_per_job": 0.5, "daily_job_limit": None, "on_limit": "reject"},
    ),
    (("job", "explain", "job_1"), "GET", f"{WS}/jobs/job_1/explain", None),
    (("limits", "set", "--tenant", "acme"), "PUT", "/tenants/acme/limits", {"rates": {}}),
    (("identity-provider", "get", "idp_1", "--tenant", "acme"), "GET", "/tenants/acme/identity-providers/idp_1", None),
    (
        ("identity-provider", "update", "idp_1", "--tenant", "acme", "--no-invitations", "--status", "disabled"),
        "PATCH",
        "/tenants/acme/identity-providers/idp_1",
        {"accepts_invitations": False, "status": "disabled"},
    ),
    (
        ("identity-provider", "delete", "idp_1", "--tenant", "acme"),
        "DELETE",
        "/tenants/acme/identity-providers/idp_1",
        None,
    ),
    (
        ("invitation", "create", "a@b.example", "--role", "auditor", "--tenant", "acme"),
        "POST",
        "/tenants/acme/invitations",
        {"email": "a@b.example", "role": "auditor"},
    ),
    (("invitation", "revoke", "inv_1"), "DELETE", f"{WS}/invitations/inv_1", None),
    (("member", "logout", "usr_1", "--tenant", "acme"), "DELETE", "/tenants/acme/members/usr_1/logins", None),
    (
        ("member", "logout", "usr_1", "--login", "lgn_1", "--tenant", "acme"),
        "DELETE",
        "/tenants/acme/members/usr_1/logins/lgn_1",
        None,
    ),
    (("notification", "channel", "remove", "nch_1"), "DELETE", f"{WS}/notification-channels/nch_1", None),
    (("secret", "get", "sec_1"), "GET", f"{WS}/secrets/sec_1", None),
    (
        ("workspace", "create", "ci", "--path", "teams/a/b", "--owner", "team:a", "--setting", "retention_days=7"),
        "POST",
        "/workspaces",
        {"name": "ci", "path": "teams/a/b", "owner": {"type": "team", "id": "a"}, "settings": {"retention_days": 7}},
    ),
]


@pytest.mark.parametrize(("arguments", "method", "path", "body"), ANSWERS, ids=[" ".join(each[0]) for each in ANSWERS])
def test_a_command_asks_what_the_api_names(
    api: "Api", tenantry: "Run", arguments: tuple[str, ...], method: str, path: str, body: Any
) -> None:
    api.on(method, path, {"id": "x"})
    result = tenantry(*arguments)
    assert (result.exit_code, result.stdout) == (0, "id\tx\n")
    asked = api.to(method, path)
    assert (json.loads(asked.body) if asked.body else None) == body


LISTS = [
    (("workspace", "list", "--tenant", "acme"), "/workspaces"),
    (("workspace", "environment", "list"), f"{WS}/environments"),
    (("key", "list"), f"{WS}/keys"),
    (("key", "list", "--tenant", "acme"), "/tenants/acme/keys"),
    (("service-account", "list"), f"{WS}/service-accounts"),
    (("role", "list"), f"{WS}/roles"),
    (("binding", "list"), f"{WS}/bindings"),
    (("member", "list", "--tenant", "acme"), "/tenants/acme/members"),
    (("member", "logins", "usr_1", "--tenant", "acme"), "/tenants/acme/members/usr_1/logins"),
    (("identity-provider", "list", "--tenant", "acme"), "/tenants/acme/identity-providers"),
    (("invitation", "list"), f"{WS}/invitations"),
    (("invitation", "list", "--tenant", "acme"), "/tenants/acme/invitations"),
    (("job", "list", "--status", "running"), f"{WS}/jobs"),
    (("image", "list"), f"{WS}/images"),
    (("secret", "list"), f"{WS}/secrets"),
    (("notification", "channel", "list"), f"{WS}/notification-channels"),
    (("notification", "deliveries", "--tenant", "acme"), "/tenants/acme/notification-deliveries"),
    (("grant", "list", "--status", "active", "--principal", "svc_1"), f"{WS}/grants"),
    (("approval", "list", "--status", "pending"), f"{WS}/approvals"),
    (("audit", "query", "--outcome", "denied"), "/audit"),
    (("usage", "metering", "--events"), f"{WS}/metering"),
]


@pytest.mark.parametrize(("arguments", "path"), LISTS, ids=[" ".join(each[0]) for each in LISTS])
def test_a_list_reads_the_path_of_its_noun(api: "Api", tenantry: "Run", arguments: tuple[str, ...], path: str) -> None:
    api.lists(path, {"id": "x", "slug": "x", "occurred_at": "x"})
    result = tenantry(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("x\t")


def test_a_workspace_belongs_to_whoever_makes_it_unless_said_otherwise(api: "Api", tenantry: "Run") -> None:
    api.on("POST", "/workspaces", {"id": "ws_9"}, 201)
    assert tenantry("workspace", "create", "ci").exit_code == 0
    assert api.to("POST", "/workspaces").json == {"name": "ci", "owner": {"type": "user", "id": "usr_1"}}


def test_a_new_keys_secret_is_shown_and_its_loss_told(api: "Api", tenantry: "Run") -> None:
    api.on("POST", f"{WS}/keys", {"id": "key_1", "secret": "s3"}, 201)
    shown = tenantry("key", "create", "build", "--role", "ci", "--allow-network", "10.0.0.0/8")
    assert "secret\ts3\n" in shown.stdout
    assert api.to("POST", f"{WS}/keys").json == {
        "name": "build",
        "roles": ["ci"],
        "allowed_networks": ["10.0.0.0/8"],
    }
    api.on("POST", f"{WS}/keys", {"id": "key_1"}, 201)
    assert "revoke key_1" in tenantry("key", "create", "build", "--role", "ci").stderr


def test_limits_are_shown_with_the_layer_that_each_comes_from(api: "Api", tenantry: "Run") -> None:
    answer = {
        "max_users": 5,
        "max_storage_gb": None,
        "own": {"max_users": 9},
        "sources": {"max_users": {"layer": "plan"}, "max_storage_gb": {"layer": None}},
    }
    api.on("GET", "/tenants/acme/limits", answer)
    shown = tenantry("limits", "get", "--tenant", "acme").stdout
    assert shown == "max_storage_gb\tunlimited\t\t\nmax_users\t5\tplan\t9\n"


@pytest.mark.parametrize("text", ["max_users", "max_users=x", "max_users=-1", "=5", "max_users=1e9"])
def test_a_limit_that_cannot_be_read_is_not_sent(api: "Api", tenantry: "Run", text: str) -> None:
    assert tenantry("limits", "change", "--tenant", "acme", text).exit_code == 2


@pytest.mark.parametrize("text", ["api_requests", "api_requests=1", "api_requests=1/1", "x=-1/1s", "x=1/1s,burst=", ""])
def test_a_rate_that_cannot_be_read_is_not_sent(api: "Api", tenantry: "Run", text: str) -> None:
    refused = tenantry("limits", "set", "--tenant", "acme", "--rate", text)
    assert refused.exit_code == 2
    assert "rate_unreadable" in refused.stderr
    assert api.asked == []


def test_how_rates_stand_is_a_table(api: "Api", tenantry: "Run") -> None:
    rate = {"name": "api_requests", "max_requests": 9, "window_ms": 1000, "burst": 3, "layer": "plan", "remaining": 2}
    api.on("GET", "/tenants/acme/rate-limits", {"rates": [rate]})
    assert tenantry("limits", "status", "--tenant", "acme").stdout == "api_requests\t9\t1000\t3\tplan\t2\n"


def test_hours_of_use_are_a_table(api: "Api", tenantry: "Run") -> None:
    hour = {"hour": "h", "workspace": "ws_1", "meter": "tokens", "quantity": "5", "unit": "tokens", "events": 2}
    api.lists("/tenants/acme/metering", {**hour, "finished": False})
    shown = tenantry("usage", "metering", "--tenant", "acme", "--meter", "tokens", "--since", "s", "--until", "u")
    assert shown.stdout == "h\tws_1\ttokens\t5\ttokens\t2\tfalse\n"
    asked = {"meter": "tokens", "since": "s", "until": "u", "limit": "100"}
    assert api.to("GET", "/tenants/acme/metering").query == asked


def test_what_was_used_is_exported_as_it_comes(api: "Api", tenantry: "Run", tmp_path: "Path") -> None:
    text = "hour,meter\r\nh,t\u00e4\r\n"
    api.responds("GET", f"{WS}/metering", lambda: Response(text, media_type="text/csv"))
    assert tenantry("usage", "metering", "--format", "csv").stdout_bytes == text.encode()
    assert api.to("GET", f"{WS}/metering").query == {"format": "csv"}
    file = tmp_path / "use.csv"
    told = tenantry("usage", "metering", "--format", "cloudevents", "--to", str(file), "--events")
    assert told.stderr == f"{file} ({len(text.encode())} bytes)\n"
    assert file.read_bytes() == text.encode()
    assert api.asked[-1].query == {"format": "cloudevents", "granularity": "event"}


def test_a_file_of_no_format_is_refused(api: "Api", tenantry: "Run") -> None:
    refused = tenantry("usage", "metering", "--to", "x")
    assert refused.exit_code == 2
    assert "--format csv" in refused.stderr
    assert api.asked == []


def test_a_provider_is_made_with_a_secret_that_is_no_argument(api: "Api", tenantry: "Run", tmp_path: "Path") -> None:
    path = "/tenants/ten_1/identity-providers"
    api.on("POST", path, {"id": "idp_1"}, 201)
    secret, rules = tmp_path / "secret", tmp_path / "rules.json"
    secret.write_text("s3cret\n")
    rules.write_text('[{"claim": "email", "matches_domain": "acme.example", "role": "viewer"}]')
    named = ("identity-provider", "create", "corp", "--issuer", "https://i.example", "--client-id", "c")
    made = tenantry(*named, "--client-secret-file", str(secret), "--scope", "email", "--rules-file", str(rules))
    assert made.exit_code == 0, made.stderr
    assert api.to("POST", path).json == {
        "slug": "corp",
        "name": "corp",
        "issuer": "https://i.example",
        "client_id": "c",
        "client_secret": "s3cret",
        "scopes": ["email"],
        "rules": [{"claim": "email", "matches_domain": "acme.example", "role": "viewer"}],
        "accepts_invitations": True,
    }
    api.asked.clear()
    assert tenantry(*named, given="from-input\n").exit_code == 0
    assert api.to("POST", path).json["client_secret"] == "from-input"
    api.asked.clear()
    assert tenantry(*named, "--public").exit_code == 0
    assert "client_secret" not in api.to("POST", path).json


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "corp", "--issuer", "i", "--client-id", "c"), "client_secret_missing"),
        (("create", "corp", "--issuer", "i", "--client-id", "c", "--public", "--rules-file"), "rules_unreadable"),
        (("update", "idp_1", "--tenant", "acme"), "changes_missing"),
    ],
)
def test_a_provider_that_is_not_told_whole_is_not_sent(
    api: "Api", tenantry: "Run", tmp_path: "Path", arguments: tuple[str, ...], code: str
) -> None:
    (tmp_path / "rules.json").write_text('{"claim": "email"}')
    file = [str(tmp_path / "rules.json")] if "--rules-file" in arguments else []
    refused = tenantry("identity-provider", *arguments, *file, given="")
    assert refused.exit_code == 2
    assert code in refused.stderr
    assert {each.method for each in api.asked} <= {"GET"}


def test_an_image_is_pulled_with_a_password_that_is_no_argument(api: "Api", tenantry: "Run", tmp_path: "Path") -> None:
    api.on("POST", f"{WS}/images/pull", {"id": "img_1", "name": "ghcr.io/a/b:1"}, 201)
    (tmp_path / "token").write_text("s3cret\n")
    secret = ("--username", "robot", "--password-file", str(tmp_path / "token"))
    assert "img_1" in tenantry("image", "pull", "ghcr.io/a/b:1", *secret).stdout
    asked = {"reference": "ghcr.io/a/b:1", "username": "robot", "password": "s3cret"}
    assert api.to("POST", f"{WS}/images/pull").json == asked


def test_an_image_is_pulled_without_a_name_too(api: "Api", tenantry: "Run") -> None:
    api.on("POST", f"{WS}/images/pull", {"id": "img_1", "name": "ghcr.io/a/b:1"}, 201)
    assert tenantry("image", "pull", "ghcr.io/a/b:1").exit_code == 0
    assert api.to("POST", f"{WS}/images/pull").json == {"reference": "ghcr.io/a/b:1"}


def test_an_image_is_uploaded_from_a_tar_or_a_directory(api: "Api", tenantry: "Run", tmp_path: "Path") -> None:
    api.on("POST", f"{WS}/images", {"id": "img_1", "name": "tiny"}, 201)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_text("x")
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"tar")
    assert tenantry("image", "import", str(archive), "--name", "tiny").exit_code == 0
    assert tenantry("image", "import", str(tmp_path / "root"), "--name", "tiny").exit_code == 0
    first, second = (each for each in api.asked if each.method == "POST")
    assert (first.body, first.query) == (b"tar", {"name": "tiny", "format": "docker"})
    assert second.query["format"] == "directory"
    assert second.body[:4] == b"file"
    assert tenantry("image", "import", str(tmp_path / "root"), "--name", "tiny", "--format", "oci").exit_code == 0
    assert [each.query["format"] for each in api.asked if each.method == "POST"][-1] == "oci"
    conflict = tenantry("image", "import", str(tmp_path / "root"), "--name", "tiny", "--format", "docker")
    assert conflict.exit_code == 2


def test_the_audit_trail_is_read_to_its_end_with_limit_0(api: "Api", tenantry: "Run") -> None:
    event = {"occurred_at": "t", "actor": {"id": "usr_1"}, "action": "job.create", "outcome": "success"}
    api.lists("/audit", event)
    assert (
        tenantry("audit", "query", "--limit", "0", "--actor", "usr_1").stdout == "t\tusr_1\tjob.create\t\t\tsuccess\t\n"
    )
    assert api.to("GET", "/audit").query == {"actor": "usr_1", "limit": "100"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, 2), (401, 3), (403, 3), (404, 4), (409, 5),
        (410, 4), (412, 5), (413, 6), (421, 1), (422, 2), (429, 6), (500, 1),
    ],
)  # fmt: skip
def test_a_refusal_has_the_exit_code_of_its_kind(api: "Api", tenantry: "Run", status: int, expected: int) -> None:
    api.refuses("GET", "/tenants/acme", status, code="some_code", detail="why")
    result = tenantry("tenant", "get", "acme")
    assert result.exit_code == expected
    assert result.stderr.startswith("error: some_code\n  what:   why\n")
    assert result.stdout == ""


def test_with_json_the_problem_itself_goes_to_stderr(api: "Api", tenantry: "Run") -> None:
    api.refuses("GET", "/tenants/acme", 429, code="quota_exceeded", detail="why", limit=5, current=5, extra={"a": 1})
    result = tenantry("tenant", "get", "acme", "-o", "json")
    assert json.loads(result.stderr) == {
        "status": 429, "code": "quota_exceeded", "detail": "why", "limit": 5, "current": 5, "extra": {"a": 1}
    }  # fmt: skip
    plain = tenantry("tenant", "get", "acme")
    assert "  limit:  5, now 5\n" in plain.stderr


def test_every_fault_of_a_form_is_told(api: "Api", tenantry: "Run") -> None:
    errors = [{"field": "slug", "message": "too short"}, {"field": "plan", "message": "unknown"}]
    api.refuses("GET", "/tenants/acme", 422, code="invalid_request", detail="slug: too short", errors=errors)
    assert "  also:   plan: unknown\n" in tenantry("tenant", "get", "acme").stderr


def test_a_server_that_is_away_is_told_with_its_remedy(
    api: "Api", tenantry: "Run", environment: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    monkeypatch.setattr("tenantry.client.retries.RetryPolicy.backoff", lambda *_: 0)
    environment["TENANTRY_URL"] = "http://127.0.0.1:1"
    result = tenantry("whoami")
    assert result.exit_code == 7
    assert "tenantry up" in result.stderr


def test_a_certificate_and_the_public_half_of_a_key_are_registered_from_files(
    api: "Api", tenantry: "Run", tmp_path: "Path"
) -> None:
    place = f"{WS}/service-accounts/svc_1"
    api.on("POST", f"{place}/certificates", {"id": "crt_1"}, 201)
    api.on("POST", f"{place}/signing-keys", {"id": "sgk_1"}, 201)
    file = tmp_path / "robot.pem"
    file.write_text("a certificate")
    assert tenantry("certificate", "register", "svc_1", str(file)).exit_code == 0
    assert api.to("POST", f"{place}/certificates").json == {"certificate_pem": "a certificate"}
    assert "public_key_expected" in tenantry("signing-key", "register", "svc_1", str(file)).stderr
    public = Ed25519PrivateKey.generate().public_key()
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert tenantry("signing-key", "register", "svc_1", str(file)).exit_code == 0
    sent = api.to("POST", f"{place}/signing-keys").json
    assert sent == {"public_key": base64.b64encode(public.public_bytes_raw()).decode()}
    assert tenantry("signing-key", "register", "svc_1", str(tmp_path / "none")).exit_code == 2


def test_the_trail_is_followed_by_the_sequence_from_where_the_page_before_has_ended(
    api: "Api", tenantry: "Run", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until interrupted: here by the wait for more."""
    event = {"id": "evt_1", "sequence": 8, "action": "job.created\u001b[2J", "resource": {"type": "job", "id": "job_1"}}
    pages = iter(
        [
            {"items": [event], "next_cursor": "more", "reached": 8},
            {"items": [], "next_cursor": None, "reached": 12},
        ]
    )
    api.responds("GET", "/audit", lambda: JSONResponse(next(pages)))

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenantry.interfaces.cli.commands.audit.time.sleep", interrupted)
    done = tenantry("audit", "query", "--follow", "--after", "7", "--action", "job.", "-o", "json")
    assert [json.loads(line)["sequence"] for line in done.stdout.splitlines()] == [8]
    assert "\u001b" not in done.stdout
    assert [asked.query["after"] for asked in api.asked] == ["7", "8"]
    assert {(asked.query["order"], asked.query["action"]) for asked in api.asked} == {("sequence", "job.")}


def test_the_keys_of_a_log_are_printed_for_a_file(api: "Api", tenantry: "Run") -> None:
    keys = [{"key": f"log.example/us+{at}{at}000000+AAAA", "valid_from": None, "valid_until": None} for at in (1, 2)]
    api.on("GET", "/audit/checkpoint", {"origin": "log.example/ten_1", "size": 1, "keys": keys})
    assert tenantry("audit", "keys").stdout == "".join(f"{one['key']}\n" for one in keys)
    assert json.loads(tenantry("audit", "keys", "--output", "json").stdout) == {"keys": keys}


def test_a_change_of_a_stream_says_what_changes(api: "Api", tenantry: "Run", tmp_path: "Path") -> None:
    api.on("PATCH", "/audit/streams/ast_1", {"id": "ast_1", "secret": "s3cret"})
    (tmp_path / "address.txt").write_text("https://siem.example/in\n")
    done = tenantry("audit", "stream", "update", "ast_1", "--address-file", str(tmp_path / "address.txt"))
    assert (done.exit_code, "keep the secret" in done.stderr) == (0, True), done.stderr
    assert api.to("PATCH", "/audit/streams/ast_1").json == {"address": "https://siem.example/in"}
    (tmp_path / "address.txt").write_text("\n")
    for options, code in (
        ((), "change_missing"),
        (("--everything", "--outcome", "denied"), "filter_unclear"),
        (("--address-file", str(tmp_path / "address.txt")), "address_missing"),
    ):
        refused = tenantry("audit", "stream", "update", "ast_1", *options)
        assert (refused.exit_code, code in refused.stderr) == (2, True), refused.stderr


def test_the_roots_of_regions_are_shown_and_kept_as_they_were_signed(
    api: "Api", tenantry: "Run", tmp_path: "Path"
) -> None:
    note = "log.example/us\n2\nAAAA\n\n— log.example/us AAAA\n"
    root = {"region": "us", "size": 2, "root": "AAAA", "signed_by": ["log.example/us", "log.example/eu"], "note": note}
    api.lists("/platform/audit/roots", root)
    done = tenantry("audit", "roots", "--to", str(tmp_path / "roots"))
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "roots" / "us.root").read_text() == note
    assert "us\t2\tAAAA" in done.stdout
    api.lists("/platform/audit/roots", root | {"region": "../escaped"})
    done = tenantry("audit", "roots", "--to", str(tmp_path / "roots"))
    assert (done.exit_code, "path_outside" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "escaped.root").exists()
