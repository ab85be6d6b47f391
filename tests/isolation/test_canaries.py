"""Nothing that somebody proves themselves by, right or wrong, is in any log or, in clear, in any database."""

import base64
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.isolation.bodies import JSON
from tests.isolation.wire import Headers, Wire

from tenantry.capabilities.identity.types import ScopeKind, make_credential
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.ids import Prefix, new_id, parse_id

pytestmark = [pytest.mark.xdist_group("isolation"), pytest.mark.one_strategy]


def _canary() -> str:
    return f"canary{secrets.token_hex(12)}"


def _shown(canary: str, region: str, tenant: str) -> Iterator[tuple[str, Headers]]:
    """Every way to show something as a credential: target and headers."""
    me = "/api/v1/me"
    wrong = make_credential(region=region, kind=ScopeKind.TENANT, scope_id=parse_id(Prefix.TENANT, tenant)).text
    token = ".".join(
        base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in ('{"alg":"none"}', canary)
    )
    yield me, (("Authorization", f"Bearer {canary}"),)
    yield me, (("Authorization", f"Bearer {wrong}"), ("X-Tenant-Id", canary))
    yield me, (("Authorization", f"Bearer {token}.{canary}"),)
    yield me, (("Authorization", f"Basic {canary}"),)
    yield f"{me}?access_token={canary}", ()
    yield f"{me}?key={canary}", (("Authorization", f"Bearer {wrong}"),)
    yield me, (("Cookie", f"tenantry={canary}"),)
    yield me, (("Client-Cert", f":{base64.b64encode(canary.encode()).decode()}:"),)
    signature = f"sig1=:{base64.b64encode(canary.encode()).decode()}:"
    yield me, (("Signature-Input", f'sig1=("@method");nonce="{canary}";keyid="{canary}"'), ("Signature", signature))
    yield f"/api/v1/auth/callback?state={canary}&code={canary}", ()
    yield f"/api/v1/auth/login?tenant={tenant}&redirect=https://{canary}.example/", ()


def _logs(installation: Installation) -> dict[Path, str]:
    home = installation.home
    data = (home / "postgres").resolve()
    files = [home.parent / f"{home.name}.log", *home.rglob("*.log"), *data.rglob("*.log"), *data.rglob("log/*")]
    return {file: file.read_text(errors="replace") for file in files if file.is_file()}


def _dump(installation: Installation) -> bytes:
    parts = EmbeddedPostgres(installation.home).superuser
    tool = next(Path(sys.prefix).rglob("pginstall/bin/pg_dumpall"), None)
    if tool is None:
        pytest.fail("the wheel has no pg_dumpall")
    done = subprocess.run(
        [tool, "--host", parts.host, "--username", parts.user, "--no-role-passwords"],
        env={"PGPASSWORD": parts.password},
        capture_output=True,
        check=True,
        timeout=100,
    )
    return done.stdout


def _is_in(dump: bytes, secret: str) -> bool:
    return secret.encode() in dump or secret.encode().hex().encode() in dump


def test_no_credential_is_in_any_log_or_database(
    installation: Installation, make_tenant: MakeTenant, wire: Wire
) -> None:
    before = _logs(installation)
    tenant = make_tenant()
    canary = _canary()
    workspace = tenant.workspace("canaries")
    held = [tenant.bootstrap_key, tenant.key(workspace, "viewer"), installation.platform_key]
    for target, headers in _shown(canary, tenant.region, tenant.id):
        answer = wire.send("GET", target, headers=headers)
        assert answer.status in (400, 401, 404, 422), f"{target}: {answer}"
        assert canary not in answer.body.decode(errors="replace"), target
        assert b"Traceback" not in answer.body
    for path, body in (
        ("/auth/token", {"code": canary, "code_verifier": canary}),
        ("/auth/refresh", {"refresh_token": canary}),
        (f"/workspaces/{workspace}/keys", {"name": canary * 30}),
        (f"/tenants/{tenant.id}/keys", {"name": "x", "roles": [canary], "secret": canary}),
    ):
        wire.send("POST", f"/api/v1{path}", key=held[0], headers=(JSON,), body=json.dumps(body).encode())
    channel = {"name": "c", "kind": "webhook", "address": f"https://hooks.invalid/{canary}", "topics": ["*"]}
    made = tenant.owner.post(f"/tenants/{tenant.id}/notification-channels", json=channel)
    assert made.status_code == 201, made.text
    held.append(made.json()["secret"])
    tenant.owner.get(f"/workspaces/{new_id()}", params={"cursor": canary})
    logs = _logs(installation)
    assert any(logs.values())
    faults = [f"{file}: {secret[:12]}…" for file, text in logs.items() for secret in (canary, *held) if secret in text]
    dump = _dump(installation)
    assert tenant.slug.encode() in dump, "the control: what may be read is there"
    faults += [f"the database: {secret[:12]}…" for secret in (canary, *held) if _is_in(dump, secret)]
    assert not faults, "\n".join(faults)
    # Other tests break the database on purpose; what they left in the log is theirs.
    assert not [file for file, text in logs.items() if "Traceback" in text[len(before.get(file, "")) :]]


def test_no_secret_is_in_any_log_or_database(installation: Installation, make_tenant: MakeTenant) -> None:
    """Nor in an answer, the trail, a file of the home, an argument, or the environment of any process of ours."""
    tenant, canaries, answers = make_tenant(), [_canary() for _ in range(3)], list[str]()
    for mode in ("metadata_only", "full"):
        workspace = tenant.workspace(f"secrets-{mode}", settings={"persistence_mode": mode})
        answers += _use_secrets(installation, tenant, f"/workspaces/{workspace}", canaries)
    answers.append(tenant.owner.get("/audit", params={"limit": 200}).text)
    assert '"secret.used"' in answers[-1], "the control: the trail tells of them"
    places = {**_logs(installation), **{Path(f"answer {n}"): text for n, text in enumerate(answers)}}
    faults = [f"{place}: {value}" for place, text in places.items() for value in canaries if value in text]
    dump = _dump(installation)
    assert b"secret_versions" in dump
    assert tenant.slug.encode() in dump, "the control: what may be read is there"
    faults += [f"the database: {value}" for value in canaries if _is_in(dump, value)]
    for file in _files(installation):
        content = file.read_bytes()
        faults += [f"{file}: {value}" for value in canaries if value.encode() in content]
    assert not faults, "\n".join(faults)


def _use_secrets(installation: Installation, tenant: Tenant, path: str, canaries: list[str]) -> list[str]:
    """Write them, have a job tell them, look at processes while another has them, remove one; gives all answers."""
    answers = []
    for name, value in zip(("ONE", "TWO", "GONE"), canaries, strict=True):
        made = tenant.owner.post(f"{path}/secrets", json={"name": name, "value": value}, headers=_key())
        assert made.status_code == 201, made.text
        answers.append(made.text)
    used = [{"name": "ONE"}, {"name": "TWO", "file": "two"}]
    script = 'echo "$ONE"; cat /run/secrets/two; echo "$ONE" >&2; exec "/no/such/$ONE"'
    body = {"command": ["sh", "-c", script], "secrets": used}
    told = tenant.owner.post(f"{path}/jobs", params={"wait": 60}, json=body)
    assert told.json()["exit_code"] == 127, told.text
    running = tenant.owner.post(f"{path}/jobs", json={"command": ["sh", "-c", "echo; sleep 60"], "secrets": used})
    job = f"{path}/jobs/{running.json()['id']}"
    deadline = time.monotonic() + 30
    while not tenant.owner.get(f"{job}/logs", params={"follow": "false"}).json()["items"]:
        assert time.monotonic() < deadline
    assert _processes_with(installation, *canaries) == []
    assert tenant.owner.post(f"{job}/cancel").status_code == 200
    assert tenant.owner.delete(f"{path}/secrets/{made.json()['id']}").status_code == 204
    looked = [f"{path}/{noun}" for noun in ("secrets", "jobs")]
    looked += [f"{path}/jobs/{told.json()['id']}{end}" for end in ("", "/logs?follow=false", "/explain", "/receipt")]
    return [*answers, told.text, *(tenant.owner.get(each).text for each in looked)]


def _key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


def _files(installation: Installation) -> list[Path]:
    """Everything beside the database, which is dumped."""
    files = [file for region in ("us", "eu") for file in (installation.home / region).rglob("*")]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def _processes_with(installation: Installation, *values: str) -> list[str]:
    """Arguments of any process, and environments of the server, its workers and launchers, that hold a value."""
    ours, found = _descent(installation.process.pid), []
    assert len(ours) > 2, "the control: there are workers and launchers"
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        for name in ("cmdline", "environ") if int(folder.name) in ours else ("cmdline",):
            try:
                text = (folder / name).read_bytes()
            except OSError:  # it has ended
                continue
            if any(value.encode() in text for value in values):
                found.append(f"{folder}/{name}")
    return found


def _descent(pid: int) -> set[int]:
    """The process, and those of ours below it: what runs in a sandbox is not."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"tenantry" in Path(f"/proc/{child}/cmdline").read_bytes():
                found |= _descent(int(child))
    return found
