"""Layers, documents, states, exemptions and recorded denials, through the API."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import MakeTenant
from tests.integration.api.conftest import problem
from tests.integration.policies.conftest import YAML, Ground

pytestmark = pytest.mark.xdist_group("api")

IMAGE = """
allowed_images:
  - "python:*"
  - "node:*"
  - "golang:*"
  - "postgres:*"
  - "redis:*"
  - "ghcr.io/myorg/*"

blocked_images:
  - "*:latest"  # Require pinned versions
  - "docker:*-dind"  # No Docker-in-Docker

require_digest: true  # Require image@sha256:...
"""
COMMAND = """
blocked_commands:
  - "rm -rf /"
  - "curl * | bash"
  - "wget * | sh"
  - ":(){:|:&};:"  # Fork bomb

blocked_patterns:
  - ".*--privileged.*"
  - ".*--net=host.*"
  - ".*--pid=host.*"
"""
NETWORK = """
allow_internet: false  # Default deny

allowed_hosts:
  - "packages.example.org"
  - "modules.example.org"
  - "github.com"
  - "*.githubusercontent.com"

blocked_ports:
  - 22  # SSH
  - 3389  # RDP
"""
NO_LATEST = {"blocked_images": ["*:latest"]}
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nblocked_images: [*b,*b,*b,*b]\n"


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def events(ground: Ground, **filters: str) -> list[dict[str, Any]]:
    """What the trail has of it, once it is sealed."""
    found: list[dict[str, Any]] = until(lambda: ground.owner.get("/audit", params=filters).json()["items"])
    return found


def test_a_lower_layer_only_narrows(ground: Ground) -> None:
    ground.enforce(ground.of_tenant, "image", {"allowed_images": ["python:*", "node:*"]})
    ground.enforce(ground.of_workspace, "image", {"allowed_images": ["python:*", "redis:*"]})
    assert ground.judged(image="python:3.12") == ("allow", None, None)
    assert ground.judged(image="node:22") == ("deny", "workspace", "allowed_images")
    assert ground.judged(image="redis:7") == ("deny", "tenant", "allowed_images")
    both = ground.test(job={"command": ["true"], "image": "perl:5"})
    assert [reason["layer"] for reason in both["reasons"]] == ["tenant", "workspace"]
    ground.enforce(ground.of_workspace, "image", {"allowed_images": ["*"]})
    assert ground.judged(image="redis:7") == ("deny", "tenant", "allowed_images")


def test_the_documents_of_the_operators_are_taken_as_they_stand_and_enforced(ground: Ground) -> None:
    for kind, text in (("image", IMAGE), ("command", COMMAND), ("network", NETWORK)):
        made = ground.enforce(ground.of_workspace, kind, text)
        assert (made["kind"], made["version"], made["state"], made["source"]) == (kind, 1, "enforced", text)
    refused = problem(ground.submit(image="python:3.12"), 403, "policy_denied")
    assert (refused["denied_by"], refused["rule"]) == ("workspace", "require_digest: true")
    pinned = f"python:3.12@sha256:{'a' * 64}"
    assert problem(ground.submit(image="docker:25-dind"), 403, "policy_denied")["policy_kind"] == "image"
    ground.enforce(ground.of_workspace, "image", {"allowed_images": ["host", "python:*"]})
    assert problem(ground.submit(image=pinned), 422, "image_unknown")
    refused = problem(ground.submit("sh", "-c", "rm  -r --force /"), 403, "policy_denied")
    assert (refused["policy_kind"], refused["rule"]) == ("command", "blocked_commands[0]: rm -rf /")
    assert refused["allow_with"]
    assert ground.submit("echo", "hi", wait=20).json()["status"] == "succeeded"
    refused = problem(ground.submit(network=[{"host": "github.com", "port": 22}]), 403, "policy_denied")
    assert refused["rule"] == "blocked_ports[0]: 22"
    refused = problem(ground.submit(network=[{"host": "evil.example", "port": 443}]), 403, "policy_denied")
    assert (refused["policy_kind"], refused["rule"]) == ("network", "allowed_hosts")


def test_connections_that_no_policy_speaks_of_are_denied(ground: Ground) -> None:
    refused = problem(ground.submit(network=[{"host": "github.com", "port": 443}]), 403, "policy_denied")
    assert (refused["policy_kind"], refused["rule"], refused["denied_by"]) == ("network", "default deny", "platform")
    assert ground.judged(network=[{"host": "github.com", "port": 443}])[0] == "deny"


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("image", BOMB, 1),
        ("image", "allowed_images: &a ['python:*']\nblocked_images: *a\n", 1),
        ("image", "blocked_images: ['a:*']\nblocked_images: []\n", 2),
        ("image", "blocked_images: ['a:*']\nallow_all: true\n", 2),
        ("image", "blocked_images:\n  - 'python:*'\n  - ':::'\n", 3),
        ("command", "blocked_patterns:\n  - '(a+)+\\1'\n", 2),
        ("command", "blocked_commands: rm\n", 1),
        ("network", "allowed_hosts:\n  - '*'\n", 2),
        ("rules", "rules:\n  - name: x\n    expression: 'job.nothing('\n    message: m\n", 3),
        ("image", "blocked_images: [", None),
        ("image", b"\xff\xfe", None),
        ("rules", 'rules:\n  - {name: x, expression: "true", message: "a\\0b"}\n', None),
    ],
)
def test_a_bad_document_is_refused_by_line_and_the_old_one_stays(
    ground: Ground, kind: str, text: str | bytes, line: int | None
) -> None:
    good = {
        "image": NO_LATEST,
        "command": {"blocked_commands": ["rm"]},
        "network": {"allow_internet": True},
        "rules": {"rules": []},
    }[kind]
    ground.enforce(ground.of_workspace, kind, good)
    refused = problem(ground.put(ground.of_workspace, kind, text), 422, "policy_invalid")
    assert refused["errors"]
    assert all(fault["rule"] for fault in refused["errors"])
    if line is not None:
        assert line in [fault["line"] for fault in refused["errors"]], refused["errors"]
    present = ground.owner.get(f"{ground.of_workspace}/policies/{kind}").json()
    assert (present["version"], present["state"], present["document"]) == (1, "enforced", good)


def test_a_document_is_yaml_or_json_and_nothing_else(ground: Ground) -> None:
    path = f"{ground.of_workspace}/policies/image"
    assert ground.owner.put(path, json=NO_LATEST).json()["state"] == "draft"
    answer = ground.owner.put(path, content=b"x", headers={"Content-Type": "application/x-tar"})
    problem(answer, 415, "content_type_unsupported")
    problem(ground.owner.put(path, content=b"a" * (2 << 20), headers=YAML), 413, "body_too_large")
    problem(ground.put(ground.of_workspace, "nothing", NO_LATEST), 404, "not_found")
    assert ground.owner.put(path, params={"state": "retired"}, json=NO_LATEST).status_code == 422


def test_a_draft_changes_nothing_a_shadow_tells_and_what_is_enforced_denies(ground: Ground) -> None:
    place = ground.of_workspace
    assert ground.enforce(place, "image", NO_LATEST, "draft")["version"] == 1
    earlier = ground.submit(wait=20).json()
    assert earlier["status"] == "succeeded"
    assert ground.owner.get(f"{place}/policies/shadow-diff").json() == {"shadow": [], "decisions": 0, "changed": []}
    assert ground.enforce(place, "image", NO_LATEST, "shadow")["version"] == 2
    allowed = ground.submit("echo", "secret", wait=20).json()
    assert allowed["status"] == "succeeded"
    diff = ground.owner.get(f"{place}/policies/shadow-diff").json()
    assert (diff["shadow"], diff["decisions"]) == (["workspace/image@2"], 2)
    changed, asked_anew = diff["changed"]
    assert changed["id"].startswith("dec_")
    assert (asked_anew["id"], asked_anew["subject"]["job"], asked_anew["shadow_decision"]) == (
        None,
        earlier["id"],
        "deny",
    )
    assert (changed["decision"], changed["shadow_decision"]) == ("allow", "deny")
    assert (changed["shadow_rule"], changed["subject"]["job"]) == ("blocked_images[0]: *:latest", allowed["id"])
    assert "command" not in changed["subject"]
    assert "secret" not in str(diff)
    assert ground.test(job={"command": ["true"]})["shadow"]["decision"] == "deny"
    body = {"version": 2, "state": "enforced"}
    assert ground.owner.post(f"{place}/policies/image/promote", json=body).json()["state"] == "enforced"
    refused = problem(ground.submit(), 403, "policy_denied")
    assert (refused["layer"], refused["denied_by"], refused["current"]) == ("policies", "workspace", "host")
    denied = ground.job(refused["job"])
    assert (denied["status"], denied["reason"]) == ("denied", "policy_denied")
    assert "blocked_images[0]: *:latest" in denied["detail"]
    assert denied["finished_at"]
    assert denied["started_at"] is None
    [event] = events(ground, action="job.denied")
    assert (event["outcome"], event["resource"]["id"]) == ("denied", refused["job"])
    assert (event["details"]["layer"], event["details"]["rule"]) == ("workspace", "blocked_images[0]: *:latest")
    body = {"version": 2, "state": "retired"}
    assert ground.owner.post(f"{place}/policies/image/promote", json=body).json()["state"] == "retired"
    assert ground.submit(wait=20).json()["status"] == "succeeded"
    states = [each["state"] for each in ground.owner.get(f"{place}/policies/versions").json()["items"]]
    assert states == ["retired", "draft"]


def test_content_of_a_judged_command_is_kept_where_the_workspace_keeps_content(ground: Ground) -> None:
    ground.owner.patch(ground.of_workspace, json={"settings": {"persistence_mode": "full"}})
    ground.enforce(ground.of_workspace, "command", {"blocked_commands": ["echo"]}, "shadow")
    ground.submit("echo", "kept")
    [changed] = ground.owner.get(f"{ground.of_workspace}/policies/shadow-diff").json()["changed"]
    assert changed["subject"]["command"] == ["echo", "kept"]


def test_a_denied_job_holds_nothing_keeps_nothing_and_is_refused_again_with_its_key(ground: Ground) -> None:
    ground.enforce(ground.of_workspace, "image", NO_LATEST)
    fields: dict[str, Any] = {"env": {"TOKEN": "hidden"}, "inputs": [{"path": "a", "content_base64": "aGk="}]}
    first = problem(ground.submit(key="k1", **fields), 403, "policy_denied")
    again = problem(ground.submit(key="k1", **fields), 403, "policy_denied")
    assert {name: first[name] for name in ("job", "denied_by", "rule", "detail", "current", "allow_with")} == {
        name: again[name] for name in ("job", "denied_by", "rule", "detail", "current", "allow_with")
    }
    assert len(ground.owner.get(f"{ground.of_workspace}/jobs").json()["items"]) == 1
    usage = ground.owner.get(f"{ground.of_workspace}/usage").json()
    assert all((quota["held"], quota["used"]) == (0, 0) for quota in usage["quotas"] if quota["holder"] == "workspace")
    digest = ground.job(first["job"])["inputs"][0]["sha256"]
    problem(ground.owner.get(f"{ground.of_workspace}/jobs/{first['job']}/inputs/{digest}/content"), 410, "content_gone")


def test_an_exemption_lifts_its_rule_is_told_and_ends(ground: Ground) -> None:
    rule = "blocked_images[0]: *:latest"
    ground.enforce(ground.of_workspace, "image", NO_LATEST)
    made = ground.exempt(ground.of_workspace, rule=rule)
    assert made.status_code == 201, made.text
    job = ground.submit(wait=20).json()
    assert job["status"] == "succeeded"
    [event] = [each for each in events(ground, action="job.created") if each["resource"]["id"] == job["id"]]
    assert event["details"]["exempted_by"] == [made.json()["id"]]
    path = f"{ground.of_workspace}/exemptions/{made.json()['id']}"
    assert ground.owner.delete(path).status_code == 204
    problem(ground.submit(), 403, "policy_denied")
    problem(ground.owner.delete(path), 404, "not_found")
    [listed] = ground.owner.get(f"{ground.of_workspace}/exemptions").json()["items"]
    assert listed["revoked_at"]


def test_an_exemption_lifts_no_layer_above_its_place(ground: Ground) -> None:
    ground.enforce(ground.of_tenant, "image", NO_LATEST)
    assert ground.exempt(ground.of_workspace, rule="blocked_images").status_code == 201
    assert ground.judged() == ("deny", "tenant", "blocked_images[0]: *:latest")
    assert ground.exempt(ground.of_tenant, rule="blocked_images").status_code == 201
    assert ground.judged() == ("allow", None, None)
    ground.enforce(ground.of_workspace, "image", {"blocked_images": ["host"]})
    assert ground.judged()[0] == "allow"
    ground.enforce(ground.of_workspace, "image", {"allowed_images": ["python:*"]})
    assert ground.judged() == ("deny", "workspace", "allowed_images")


@pytest.mark.parametrize(
    "fields",
    [
        {"rule": ""},
        {"rule": "image"},
        {"rule": "blocked_ports", "kind": "network"},
        {"rule": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"rule": "x", "expires_at": "2099-01-01T00:00:00Z"},
        {"rule": "x", "owner": ""},
        {"rule": "x", "reason": ""},
    ],
)
def test_an_exemption_has_a_rule_an_owner_a_reason_and_an_end(ground: Ground, fields: dict[str, Any]) -> None:
    assert ground.exempt(ground.of_workspace, **fields).status_code == 422


def test_what_cannot_be_judged_is_denied_and_nothing_lifts_it(ground: Ground) -> None:
    ground.enforce(ground.of_workspace, "image", NO_LATEST)
    assert ground.exempt(ground.of_workspace, rule="i").status_code == 201
    assert ground.judged(image="NO REFERENCE") == ("deny", "workspace", "image")


def test_a_rule_that_errs_denies(ground: Ground) -> None:
    rule = {"name": "team", "expression": 'job.labels["team"] == "x"', "message": "not team x"}
    ground.enforce(ground.of_workspace, "rules", {"rules": [rule]})
    refused = problem(ground.submit(), 403, "policy_denied")
    assert (refused["policy_kind"], refused["rule"]) == ("rules", "rules[0]: team")
    assert ground.submit(labels={"team": "y"}, wait=20).json()["status"] == "succeeded"
    rule = {"name": "team", "expression": 'job.image == "host"', "message": "not here", "on_match": "warn"}
    ground.enforce(ground.of_workspace, "rules", {"rules": [rule]})
    assert ground.judged() == ("warn", "workspace", "rules[0]: team")
    assert ground.submit(wait=20).json()["status"] == "succeeded"


def test_a_policy_applies_to_what_it_selects(ground: Ground) -> None:
    document = {**NO_LATEST, "applies_to": {"labels": {"env": "prod*"}}}
    ground.enforce(ground.of_workspace, "image", document)
    assert ground.judged(labels={"env": "dev"})[0] == "allow"
    assert ground.judged(labels={"env": "production"})[0] == "deny"


def test_a_deployment_is_judged_by_limits_types_and_rules(ground: Ground) -> None:
    ground.enforce(ground.of_tenant, "deployment", {"max_instances": 2, "require_approval": True})
    found = ground.test(deployment={"instances": 3, "monthly_cost_usd": 5000})
    assert (found["decision"], found["layer"], found["requires_approval"]) == ("deny", "tenant", True)
    assert [reason["rule"] for reason in found["reasons"]] == ["max_budget_monthly: 1000.0", "max_instances: 2"]
    assert ground.test(deployment={"instances": 2})["decision"] == "allow"
    problem(ground.owner.post(f"{ground.of_workspace}/policies/test", json={}), 422, "spec_ambiguous")


def test_the_settings_of_a_workspace_are_its_layer_of_the_same_rules(ground: Ground) -> None:
    path = ground.of_workspace
    assert ground.owner.patch(path, json={"settings": {"blocked_images": ["ho*"]}}).status_code == 200
    refused = problem(ground.submit(), 403, "policy_denied")
    assert (refused["denied_by"], refused["rule"]) == ("workspace", "settings.blocked_images[0]: ho*")
    settings = {"blocked_images": [], "allowed_images": ["registry.example/*"]}
    assert ground.owner.patch(path, json={"settings": settings}).status_code == 200
    assert problem(ground.submit(), 403, "policy_denied")["rule"] == "settings.allowed_images"
    assert ground.judged(image="registry.example/x:1") == ("allow", None, None)
    assert ground.exempt(path, rule="settings.").status_code == 201
    assert ground.submit(wait=20).json()["status"] == "succeeded"
    answer = ground.owner.patch(path, json={"settings": {"blocked_images": [":::"]}})
    problem(answer, 422, "image_glob_invalid")
    assert ground.owner.get(path).json()["settings"]["allowed_images"] == ["registry.example/*"]


def test_what_waits_is_denied_when_its_policy_narrows(ground: Ground) -> None:
    # As many as the worker runs at once.
    small = {"cpus": 0.1, "memory_mib": 32}
    running = [ground.submit("sleep", "60", limits=small).json()["id"] for _ in range(8)]
    until(lambda: all(ground.job(each)["status"] == "running" for each in running))
    waiting = [ground.submit("echo", word, env={word.upper(): "1"}).json()["id"] for word in ("one", "two", "three")]
    ground.enforce(ground.of_tenant, "command", {"blocked_commands": ["echo one"]})
    expression = '"TWO" in job.env_names'
    rule = {"name": "two", "expression": expression, "message": "no TWO"}
    ground.enforce(ground.of_workspace, "rules", {"rules": [rule]})
    found = [ground.job(each) for each in waiting]
    assert [each["status"] for each in found] == ["denied", "denied", "queued"]
    assert {each["reason"] for each in found[:2]} == {"policy_changed"}
    assert "blocked_commands[0]: echo one" in found[0]["detail"]
    assert ground.owner.patch(ground.of_workspace, json={"settings": {"blocked_images": ["host"]}}).status_code == 200
    assert ground.job(waiting[2])["status"] == "denied"
    assert {ground.job(each)["status"] for each in running} == {"running"}
    for each in running:
        ground.owner.post(f"{ground.of_workspace}/jobs/{each}/cancel")
    until(lambda: all(ground.job(each)["finished_at"] for each in running))
    usage = ground.owner.get(f"{ground.of_workspace}/usage").json()["quotas"]
    [jobs] = [q for q in usage if (q["name"], q["holder"]) == ("max_concurrent_jobs", "workspace")]
    assert jobs["held"] == 0


def test_an_older_version_is_not_overwritten_unseen(ground: Ground) -> None:
    ground.enforce(ground.of_workspace, "image", NO_LATEST)
    problem(ground.put(ground.of_workspace, "image", NO_LATEST, If_Match='"7"'), 412, "version_mismatch")
    assert ground.put(ground.of_workspace, "image", NO_LATEST, If_Match='"1"').json()["version"] == 2
    body = {"version": 2, "state": "shadow"}
    problem(ground.owner.post(f"{ground.of_workspace}/policies/image/promote", json=body), 409, "state_conflict")
    body = {"version": 9, "state": "shadow"}
    problem(ground.owner.post(f"{ground.of_workspace}/policies/image/promote", json=body), 404, "not_found")


def test_to_enforce_takes_more_than_to_draft(ground: Ground) -> None:
    permissions = ["policy:read", "policy:create"]
    role = {"slug": "drafter", "permissions": permissions}
    assert ground.owner.post(f"{ground.of_workspace}/roles", json=role).status_code == 201
    drafter = ground.tenant.as_key(ground.tenant.key(ground.ws, "drafter"))
    path = f"{ground.of_workspace}/policies/image"
    assert drafter.put(path, params={"state": "shadow"}, json=NO_LATEST).status_code == 200
    refused = problem(drafter.put(path, params={"state": "enforced"}, json=NO_LATEST), 403, "permission_missing")
    assert refused["missing"] == "policy:admin"
    for state in ("enforced", "retired"):
        body = {"version": 1, "state": state}
        problem(drafter.post(f"{path}/promote", json=body), 403, "permission_missing")
    assert drafter.get(path).json()["state"] == "shadow"


def test_a_proof_tells_whether_a_candidate_is_wider(ground: Ground) -> None:
    path = f"{ground.of_workspace}/policies/proof"
    ground.enforce(ground.of_workspace, "image", {"allowed_images": ["python:*", "node:*"]})
    query = {"kind": "image"}
    narrow = ground.owner.post(path, params=query, json={"allowed_images": ["python:3.*"]})
    assert narrow.json() == {"wider": False, "counterexample": None}
    wide = ground.owner.post(path, params=query, json={"allowed_images": ["python:*", "node:*", "redis:*"]}).json()
    assert wide["wider"]
    assert ground.judged(image=wide["counterexample"]["subject"])[0] == "deny"
    problem(ground.owner.post(path, params=query, json={"x": 1}), 422, "policy_invalid")
    problem(ground.owner.post(path, params={"kind": "command"}, json={}), 422, "proof_unsupported")


def test_another_tenants_policies_decide_nothing_here_and_are_not_seen(ground: Ground, make_tenant: MakeTenant) -> None:
    made = ground.enforce(ground.of_tenant, "image", NO_LATEST)
    exemption = ground.exempt(ground.of_tenant, rule="blocked_images").json()["id"]
    tenant = make_tenant()
    other = Ground(tenant, tenant.workspace("dev"))
    assert other.judged() == ("allow", None, None)
    assert other.owner.get(f"{other.of_tenant}/policies/versions").json()["items"] == []
    problem(other.owner.get(f"{other.of_tenant}/policies/image"), 404, "not_found")
    problem(other.owner.delete(f"{other.of_tenant}/exemptions/{exemption}"), 404, "not_found")
    problem(other.owner.get(f"{ground.of_tenant}/policies/image"), 403, "tenant_mismatch")
    assert made["workspace"] is None
    sibling = ground.tenant.workspace("sibling")
    ground.enforce(ground.of_workspace, "command", {"blocked_commands": ["true"]})
    assert Ground(ground.tenant, sibling).judged() == ("allow", None, None)
    problem(ground.owner.get(f"/workspaces/{sibling}/policies/command"), 404, "not_found")
