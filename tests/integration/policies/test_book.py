"""What processes know of policies: changes within a second, no query meanwhile, and the files of the operator."""

import asyncio
import time
from pathlib import Path
from typing import Final

import pytest
from tests.conftest import Installation
from tests.integration.api.conftest import Beside, problem, serving_beside, tap_sessions
from tests.integration.policies.conftest import Ground

from tenantry.capabilities.policies.service import PolicyService
from tenantry.capabilities.sandboxes.service import PastJobs
from tenantry.capabilities.tenants.types import WorkspaceSettings
from tenantry.engines.rules.types import JobFacts
from tenantry.entrypoints.limits import make_policies
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

pytestmark = pytest.mark.xdist_group("api")

NO_HOST: Final = {"blocked_images": ["host"]}
JOB = {"job": {"command": ["true"]}}


def _scope(ground: Ground) -> TenantScope:
    tenant_id, workspace_id = parse_id(Prefix.TENANT, ground.tenant.id), parse_id(Prefix.WORKSPACE, ground.ws)
    return TenantScope(tenant_id=tenant_id, region="us", actor=SYSTEM, workspace_id=workspace_id, trace_id="0" * 32)


async def _checked(beside: Beside, ground: Ground) -> str:
    """What a process decides of a job of the workspace."""
    scope, runtime = _scope(ground), beside.runtime
    session = runtime.cells.session(scope)
    service = PolicyService(session=session, book=runtime.policies, past=PastJobs(), clock=beside.clock)
    facts, settings = (JobFacts(image="host", command=("true",)),), WorkspaceSettings()
    checked = await service.check_job(facts, workspace_id=parse_id(Prefix.WORKSPACE, ground.ws), settings=settings)
    return checked.outcome.decision


async def test_a_change_is_known_to_another_process_within_a_second(ground: Ground, installation: Installation) -> None:
    path = f"{ground.of_workspace}/policies/test"
    async with serving_beside(installation.settings) as beside, beside.client(ground.tenant.bootstrap_key) as client:
        assert (await client.post(path, json=JOB)).json()["decision"] == "allow"
        for document, expected in ((NO_HOST, "deny"), ({"blocked_images": ["python:*"]}, "allow"), (NO_HOST, "deny")):
            await asyncio.to_thread(ground.enforce, ground.of_workspace, "image", document)
            changed = time.monotonic()
            while (found := (await client.post(path, json=JOB)).json()["decision"]) != expected:
                assert time.monotonic() - changed < 1, found
        made = await asyncio.to_thread(ground.exempt, ground.of_workspace, rule="blocked_images")
        changed = time.monotonic()
        while (await client.post(path, json=JOB)).json()["decision"] != "allow":
            assert time.monotonic() - changed < 1
        assert made.status_code == 201


async def test_an_exemption_ends_by_the_clock(ground: Ground, installation: Installation) -> None:
    path = f"{ground.of_workspace}/policies/test"
    ground.enforce(ground.of_workspace, "image", NO_HOST)
    assert ground.exempt(ground.of_workspace, rule="blocked_images").status_code == 201
    async with serving_beside(installation.settings) as beside, beside.client(ground.tenant.bootstrap_key) as client:
        found = (await client.post(path, json=JOB)).json()
        assert (found["decision"], found["reasons"][0]["rule"]) == ("allow", "blocked_images[0]: host")
        known = await beside.runtime.policies.of(_scope(ground).tenant_id, region="us")
        [exemption] = known.exemptions
        beside.clock.ahead = exemption.expires_at - beside.clock.now()
        assert await _checked(beside, ground) == "deny"


async def test_a_check_asks_no_database_while_its_tenant_is_known(
    ground: Ground, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.enforce(ground.of_tenant, "image", NO_HOST)
    async with serving_beside(installation.settings) as beside:
        assert await _checked(beside, ground) == "deny"
        said = tap_sessions(monkeypatch)
        assert await _checked(beside, ground) == "deny"
        assert said == []


async def test_what_cannot_be_compiled_any_more_denies_and_nothing_lifts_it(
    ground: Ground, installation: Installation
) -> None:
    ground.enforce(ground.of_workspace, "image", {"blocked_images": ["python:*"]})
    assert ground.exempt(ground.of_workspace, rule="d").status_code == 201
    async with serving_beside(installation.settings) as beside:
        scope = _scope(ground)
        async with beside.runtime.cells.session(scope) as session:
            await session.execute(
                "update policies set document = $2, digest = 'x' where tenant_id = $1",
                scope.tenant_id,
                {"of_another_time": 1},
            )
        assert await _checked(beside, ground) == "deny"


async def test_the_last_decisions_are_kept_and_no_more(ground: Ground, installation: Installation) -> None:
    ground.enforce(ground.of_workspace, "image", NO_HOST)
    async with serving_beside(installation.settings) as beside:
        scope = _scope(ground)
        async with beside.runtime.cells.session(scope) as session:
            await session.execute(
                """insert into policy_decisions (tenant_id, decision_id, workspace_id, at, principal, subject, verdict,
                       reasons)
                   select $1, gen_random_uuid(), $2, now(), 'x', '{}', 'allow', '[]' from generate_series(1, 250)""",
                scope.tenant_id,
                scope.workspace_id,
            )
        refused = problem(await asyncio.to_thread(ground.submit), 403, "policy_denied")
        async with beside.runtime.cells.session(scope) as session:
            query = "select count(*) from policy_decisions where tenant_id = $1"
            assert await session.fetchval(query, scope.tenant_id) == 200
        assert refused["rule"]


def test_denials_are_counted_by_kind_and_layer(ground: Ground, installation: Installation) -> None:
    ground.enforce(ground.of_tenant, "image", NO_HOST)
    ground.submit()
    text = installation.platform.get(f"{installation.url}/metrics").text
    assert 'tenantry_policy_denials_total{kind="image",layer="tenant"}' in text


async def test_the_files_of_the_installation_are_the_widest_layer(
    ground: Ground, installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "image-policy.yaml").write_text("blocked_images: ['host']\n")
    (tmp_path / "rules.yaml").write_text("rules: []\n")
    assert ground.exempt(ground.of_tenant, rule="blocked_images").status_code == 201
    settings = installation.settings.model_copy(update={"policies_dir": tmp_path})
    async with serving_beside(settings) as beside:
        async with beside.client(ground.tenant.bootstrap_key) as client:
            found = (await client.post(f"{ground.of_workspace}/policies/test", json=JOB)).json()
            assert (found["decision"], found["layer"]) == ("deny", "platform")
            answer = await client.post(f"{ground.of_workspace}/jobs", json={"command": ["true"]})
            assert problem(answer, 403, "policy_denied")["denied_by"] == "platform"
            problem(await client.get("/platform/policies/image"), 403, "permission_missing")
        async with beside.client(installation.platform_key) as client:
            shown = (await client.get("/platform/policies/image")).json()
            assert (shown["file"], shown["document"]) == ("image-policy.yaml", {"blocked_images": ["host"]})
            problem(await client.get("/platform/policies/command"), 404, "not_found")


def test_a_file_with_a_fault_keeps_the_server_from_starting_and_tells_line_and_rule(
    installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "image-policy.yaml").write_text("blocked_images:\n  - ':::'\n")
    (tmp_path / "network-policy.yaml").write_text("ports: []\n")
    (tmp_path / "images.yaml").write_text("")
    settings = installation.settings.model_copy(update={"policies_dir": tmp_path})
    with pytest.raises(Invalid) as told:
        make_policies(settings, cells=Cells({}), clock=SystemClock())
    assert told.value.code == "policies_invalid"
    faults = str(told.value)
    assert "image-policy.yaml: line 2, blocked_images[0]" in faults
    assert "network-policy.yaml: line 1" in faults
    assert "images.yaml: is no policy" in faults
    with pytest.raises(Invalid, match="is no directory"):
        make_policies(
            settings.model_copy(update={"policies_dir": tmp_path / "none"}), cells=Cells({}), clock=SystemClock()
        )
