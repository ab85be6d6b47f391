"""Nothing that somebody proves themselves by, right or wrong, is in any log or, in clear, in any database."""

import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Installation, MakeTenant
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
