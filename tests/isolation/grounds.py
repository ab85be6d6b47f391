"""Tenants with one of everything in them: what the isolation suite guards, and what it reaches for."""

import base64
import hashlib
import io
import json
import secrets
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.authority import Authority
from tests.conftest import UNHURRIED, Installation, MakeTenant, Tenant
from tests.isolation.wire import without_times

from tenantry.capabilities.access.types import BUILT_IN_ROLES, TENANT_WIDE_ROLES, Permission
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.types.living import KeptTree, Snapshot
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

WHOLE_TENANT: Final = "tenant"
"""Place of what lies in no workspace."""
KINDS: Final = {
    "key": Prefix.KEY,
    "binding": Prefix.BINDING,
    "account": Prefix.SERVICE_ACCOUNT,
    "certificate": Prefix.CERTIFICATE,
    "signing_key": Prefix.SIGNING_KEY,
    "job": Prefix.JOB,
    "artifact": Prefix.ARTIFACT,
    "image": Prefix.IMAGE,
    "operation": Prefix.OPERATION,
    "export": Prefix.OPERATION,
    "member": Prefix.USER,
    "group": Prefix.GROUP,
    "channel": Prefix.NOTIFICATION_CHANNEL,
    "grant": Prefix.GRANT,
    "approval": Prefix.APPROVAL,
    "provider": Prefix.PROVIDER,
    "login": Prefix.LOGIN,
    "invitation": Prefix.INVITATION,
    "exemption": Prefix.EXEMPTION,
    "secret": Prefix.SECRET,
    "sandbox": Prefix.SANDBOX,
    "snapshot": Prefix.SNAPSHOT,
    "event": Prefix.AUDIT_EVENT,
    "stream": Prefix.AUDIT_STREAM,
    "evidence": Prefix.EVIDENCE,
    "hold": Prefix.HOLD,
    "forgetting": Prefix.FORGETTING,
}
"""Path parameters, besides tenant and workspace, and what each names."""
SLUGS: Final = frozenset({"environment", "role", "principal", "input"})
"""Those that hold a name or a digest: nothing is malformed there, what is none names nothing."""
WORDS: Final = {"kind": "image", "port": "8080", "path": "index.html", "day": f"{datetime.now(UTC):%Y-%m-%d}"}
"""Those that hold a word of the API itself, or what is inside of a thing: none is a neighbour's."""
WORKSPACE_ROLES: Final = tuple(role for role in BUILT_IN_ROLES if role not in TENANT_WIDE_ROLES)
TENANT_ROLES: Final = tuple(role for role in BUILT_IN_ROLES if role != "platform-admin")


@dataclass(frozen=True)
class Actor:
    """A key and, by rule, what it holds: in the whole tenant, and in its own workspace."""

    name: str
    key: str = field(repr=False)
    in_tenant: frozenset[Permission]
    in_own: frozenset[Permission]
    narrow: bool
    """Whether it is a key of one workspace, to which no other exists."""


@dataclass
class Grounds:
    """One tenant: the workspaces `own`, `sibling` and `archived`, and by (place, kind) the id of one thing."""

    tenant: Tenant
    own: str
    sibling: str
    archived: str
    things: dict[tuple[str, str], str] = field(default_factory=dict)
    gone: dict[tuple[str, str], str] = field(default_factory=dict)
    actors: list[Actor] = field(default_factory=list)

    @property
    def admin(self) -> Actor:
        return next(actor for actor in self.actors if actor.name == "tenant/tenant-admin")

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.tenant.owner.post(path, json=body)
        assert answer.status_code in (200, 201, 202), f"{path}: {answer.text}"
        made: dict[str, Any] = answer.json()
        return made

    def delete(self, path: str) -> None:
        answer = self.tenant.owner.delete(path)
        assert answer.status_code in (200, 204), f"{path}: {answer.text}"


@dataclass
class World:
    """Two tenants that act, in two regions, and a third that is only reached for, in the first one's region."""

    installation: Installation
    us: Grounds
    eu: Grounds
    neighbour: Grounds

    def acting(self) -> list[tuple[Grounds, dict[str, Grounds]]]:
        """Who acts, and on whom: a neighbour in the same database, and somebody abroad."""
        return [(self.us, {"neighbour": self.neighbour, "abroad": self.eu}), (self.eu, {"abroad": self.us})]


async def make_world(installation: Installation, make_tenant: MakeTenant) -> World:
    us, eu, neighbour = [_furnish(make_tenant(region=region, plan=UNHURRIED)) for region in ("us", "eu", "us")]
    async with open_parts(installation.settings) as parts:
        for grounds in (us, eu, neighbour):
            for workspace in (grounds.own, grounds.sibling):
                await _add_content(parts, grounds, workspace)
            await _add_login(parts, grounds)
            grounds.gone[grounds.own, "image"] = await _add_image(parts, grounds, grounds.own, "gone")
    for grounds in (us, eu, neighbour):
        for workspace in (grounds.own, grounds.sibling):
            _add_evidence(grounds, workspace)
        grounds.delete(f"/workspaces/{grounds.own}/images/{grounds.gone[grounds.own, 'image']}")
    return World(installation, us, eu, neighbour)


def _furnish(tenant: Tenant) -> Grounds:
    # In mode `full` the key of a job's content is not its worker's alone.
    kept = {"persistence_mode": "full"}
    own, sibling, archived = [tenant.workspace(name, settings=kept) for name in ("own", "sibling", "archived")]
    grounds = Grounds(tenant, own, sibling, archived)
    body = {"principal": format_id(Prefix.USER, new_id())}  # before there is a hold, which would refuse it
    grounds.things[WHOLE_TENANT, "forgetting"] = grounds.post("/audit/forgettings", body)["id"]
    for workspace in (own, sibling):
        _add_things(grounds, workspace)
        _add_secrets(grounds, workspace)
        _add_sandboxes(grounds, workspace)
    for place, path in ((WHOLE_TENANT, f"/tenants/{tenant.id}"), (own, f"/workspaces/{own}")):
        _add_key_and_binding(grounds, place, path)
    _add_key_and_binding(grounds, sibling, f"/workspaces/{sibling}")
    for place, path in ((WHOLE_TENANT, f"/tenants/{tenant.id}"), *((ws, f"/workspaces/{ws}") for ws in (own, sibling))):
        _add_role_and_group(grounds, place, path)
        _add_channels(grounds, place, path)
        _add_invitations(grounds, place, path)
        _add_policies(grounds, place, path)
    _add_providers(grounds, f"/tenants/{tenant.id}")
    _add_streams(grounds)
    members = tenant.owner.get(f"/tenants/{tenant.id}/members").json()["items"]
    grounds.things[WHOLE_TENANT, "member"] = members[0]["id"]
    grounds.things[WHOLE_TENANT, "event"] = _signed_event(grounds)
    grounds.things[WHOLE_TENANT, "operation"] = _called_off_move(grounds)
    grounds.things[WHOLE_TENANT, "export"] = _finished_export(grounds)
    grounds.delete(f"/workspaces/{archived}")
    grounds.actors = [
        *(_workspace_actor(grounds, role) for role in WORKSPACE_ROLES),
        *(_tenant_actor(grounds, role) for role in TENANT_ROLES),
        _bound_actor(grounds),
    ]
    return grounds


def _add_invitations(grounds: Grounds, place: str, path: str) -> None:
    body = {"email": f"{secrets.token_hex(5)}@example.com", "role": "viewer"}
    grounds.things[place, "invitation"] = grounds.post(f"{path}/invitations", body)["id"]


def _add_policies(grounds: Grounds, place: str, path: str) -> None:
    """Draft a policy, which decides nothing, and lift a rule that is not there."""
    document = {"blocked_images": [f"{secrets.token_hex(5)}:*"]}
    assert grounds.tenant.owner.put(f"{path}/policies/image", json=document).status_code == 200
    body = {"kind": "image", "rule": "none", "owner": "ops", "reason": "because"}
    body["expires_at"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = [grounds.post(f"{path}/exemptions", body)["id"] for _ in range(2)]
    grounds.things[place, "exemption"], grounds.gone[place, "exemption"] = made
    grounds.delete(f"{path}/exemptions/{made[1]}")


def _add_providers(grounds: Grounds, path: str) -> None:
    body = {"name": "Corporation", "issuer": "https://issuer.example", "client_id": "tenantry"}
    made = [
        grounds.post(f"{path}/identity-providers", {**body, "slug": f"p-{secrets.token_hex(5)}"})["id"] for _ in "ab"
    ]
    grounds.things[WHOLE_TENANT, "provider"], grounds.gone[WHOLE_TENANT, "provider"] = made
    grounds.delete(f"{path}/identity-providers/{made[1]}")


def _add_streams(grounds: Grounds) -> None:
    """Make streams that lead nowhere, and wait until the day is known."""
    made = [grounds.post("/audit/streams", {"name": name, "kind": "object"})["id"] for name in ("siem", "gone")]
    grounds.things[WHOLE_TENANT, "stream"], grounds.gone[WHOLE_TENANT, "stream"] = made
    grounds.post(f"/audit/streams/{made[0]}/pause", {})
    grounds.delete(f"/audit/streams/{made[1]}")
    deadline = time.monotonic() + 30
    while grounds.tenant.owner.get(f"/audit/days/{WORDS['day']}").status_code != 200:
        assert time.monotonic() < deadline, "the day is not known"
        time.sleep(0.1)


def _signed_event(grounds: Grounds) -> str:
    """Wait for an event's checkpoint, a second away."""
    event = str(grounds.tenant.owner.get("/audit", params={"limit": 1}).json()["items"][0]["id"])
    deadline = time.monotonic() + 30
    while grounds.tenant.owner.get(f"/audit/proof/{event}").status_code != 200:
        assert time.monotonic() < deadline, "it was not signed"
        time.sleep(0.1)
    return event


def _called_off_move(grounds: Grounds) -> str:
    """Have the platform ask for a move to another region, which the owner declines."""
    tenant, place = grounds.tenant, f"/tenants/{grounds.tenant.id}"
    region = "eu" if tenant.region == "us" else "us"
    asked = tenant.installation.platform.post(f"{place}/move", json={"region": region})
    assert asked.status_code == 202, asked.text
    operation = str(asked.json()["id"])
    grounds.post(f"{place}/operations/{operation}/cancel", {})
    return operation


def _finished_export(grounds: Grounds) -> str:
    """Have the owner's archive made, and wait until it is ready."""
    place = f"/tenants/{grounds.tenant.id}"
    operation = str(grounds.post(f"{place}/export", {})["id"])
    deadline = time.monotonic() + 30
    while grounds.tenant.owner.get(f"{place}/operations/{operation}").json()["status"] == "running":
        assert time.monotonic() < deadline, "the export did not end"
        time.sleep(0.1)
    return operation


def _add_things(grounds: Grounds, workspace: str) -> None:
    path = f"/workspaces/{workspace}"
    grounds.things[workspace, "account"] = grounds.post(f"{path}/service-accounts", {"name": "robot"})["id"]
    proofs = f"{path}/service-accounts/{grounds.things[workspace, 'account']}"
    certificate = grounds.post(f"{proofs}/certificates", {"certificate_pem": certificate_pem()})
    signing_key = grounds.post(f"{proofs}/signing-keys", {"public_key": public_key()})
    grounds.things[workspace, "certificate"], grounds.things[workspace, "signing_key"] = (
        certificate["id"],
        signing_key["id"],
    )
    given = f"given to {workspace}".encode()
    inputs = [{"path": "in.txt", "content_base64": base64.b64encode(given).decode()}]
    grounds.things[workspace, "job"] = grounds.post(f"{path}/jobs", {"command": ["true"], "inputs": inputs})["id"]
    grounds.things[workspace, "input"] = hashlib.sha256(given).hexdigest()
    slugs = [f"e-{secrets.token_hex(5)}" for _ in range(2)]
    for slug in slugs:
        grounds.post(f"{path}/environments", {"slug": slug, "kind": "dev"})
    grounds.things[workspace, "environment"], grounds.gone[workspace, "environment"] = slugs
    grounds.delete(f"{path}/environments/{slugs[1]}")
    key = grounds.tenant.key(workspace, "viewer", service_account=grounds.things[workspace, "account"])
    asked = grounds.tenant.as_key(key).post(f"{path}/grants", json={"role": "ci", "reason": "to build"}).json()
    grounds.things[workspace, "grant"], grounds.things[workspace, "approval"] = asked["id"], asked["approval"]


def _add_secrets(grounds: Grounds, workspace: str) -> None:
    path = f"/workspaces/{workspace}/secrets"
    made = [grounds.post(path, {"name": name, "value": secrets.token_hex(16)})["id"] for name in ("TOKEN", "GONE")]
    grounds.things[workspace, "secret"], grounds.gone[workspace, "secret"] = made
    grounds.delete(f"{path}/{made[1]}")


def _add_evidence(grounds: Grounds, workspace: str) -> None:
    """Wait for that of its job, which locks itself, and hold what is not there."""
    path = f"/workspaces/{workspace}/evidence"
    grounds.things[workspace, "evidence"] = locked_evidence(grounds, workspace, grounds.things[workspace, "job"])
    body = {"case_id": "case", "reason": "because", "label": {"none": "none"}}
    grounds.things[workspace, "hold"] = grounds.post(f"{path}/holds", body)["id"]


def locked_evidence(grounds: Grounds, workspace: str, job: str) -> str:
    """Wait until a job's evidence is locked; gives its id."""
    deadline = time.monotonic() + 60
    while True:
        answer = grounds.tenant.owner.get(f"/workspaces/{workspace}/evidence", params={"subject": job})
        found = answer.json()["items"][0]
        if found["state"] == "locked":
            return str(found["id"])
        assert time.monotonic() < deadline, "it was not locked"
        time.sleep(0.1)


def _add_sandboxes(grounds: Grounds, workspace: str) -> None:
    path = f"/workspaces/{workspace}/sandboxes"
    made = [grounds.post(path, {"name": name, "start": False})["id"] for name in ("dev", "gone")]
    grounds.things[workspace, "sandbox"], grounds.gone[workspace, "sandbox"] = made
    grounds.delete(f"{path}/{made[1]}")


def _add_key_and_binding(grounds: Grounds, place: str, path: str) -> None:
    account = grounds.things[grounds.sibling if place == grounds.sibling else grounds.own, "account"]
    grounds.things[place, "key"] = grounds.post(f"{path}/keys", {"name": "spare", "roles": ["viewer"]})["id"]
    bindings = [
        grounds.post(f"{path}/bindings", {"principal": account, "role": role})["id"] for role in ("viewer", "ci")
    ]
    grounds.things[place, "binding"], grounds.gone[place, "binding"] = bindings
    grounds.delete(f"{path}/bindings/{bindings[1]}")


def _add_role_and_group(grounds: Grounds, place: str, path: str) -> None:
    slugs = [f"r-{secrets.token_hex(5)}" for _ in range(2)]
    for slug in slugs:
        grounds.post(f"{path}/roles", {"slug": slug, "permissions": ["job:read"]})
    grounds.things[place, "role"], grounds.gone[place, "role"] = slugs
    grounds.delete(f"{path}/roles/{slugs[1]}")
    groups = [grounds.post(f"{path}/groups", {"name": f"g-{secrets.token_hex(5)}"})["id"] for _ in range(2)]
    grounds.things[place, "group"], grounds.gone[place, "group"] = groups
    grounds.delete(f"{path}/groups/{groups[1]}")
    account = grounds.things[grounds.sibling if place == grounds.sibling else grounds.own, "account"]
    grounds.post(f"{path}/groups/{groups[0]}/members", {"principal": account})
    grounds.things[place, "principal"] = account


def _add_channels(grounds: Grounds, place: str, path: str) -> None:
    made = [
        grounds.post(
            f"{path}/notification-channels",
            {
                "name": name,
                "kind": "webhook",
                "address": f"https://hooks.invalid/{secrets.token_hex(8)}",
                "topics": ["*"],
            },
        )["id"]
        for name in ("pager", "gone")
    ]
    grounds.things[place, "channel"], grounds.gone[place, "channel"] = made
    grounds.delete(f"{path}/notification-channels/{made[1]}")


async def _add_content(parts: Parts, grounds: Grounds, workspace: str) -> None:
    """Give a job an artifact and a receipt, as its worker would, and the workspace an image."""
    scope = _scope(grounds, workspace)
    job_id, artifact_id = parse_id(Prefix.JOB, grounds.things[workspace, "job"]), new_id()
    async with parts.cells.session(scope) as session:
        job = await repository.find_job(session, job_id)
        assert job is not None
        content = parts.content[scope.region]
        key = await content.open_key(tenant_id=scope.tenant_id, job=job)
        size, digest = await content.put_artifact(
            key,
            io.BytesIO(b"content of " + workspace.encode()),
            tenant_id=scope.tenant_id,
            job=job,
            artifact_id=artifact_id,
            limit=1000,
        )
        await session.execute(
            """insert into artifacts
                   (tenant_id, artifact_id, workspace_id, job_id, path, size_bytes, sha256, created_at)
               values ($1, $2, $3, $4, 'out.txt', $5, $6, now())""",
            scope.tenant_id,
            artifact_id,
            scope.workspace_id,
            job_id,
            size,
            digest,
        )
        await session.execute(
            "update jobs set receipt = $3 where tenant_id = $1 and job_id = $2",
            scope.tenant_id,
            job_id,
            {"network": "none"},
        )
        snapshots = await _add_snapshots(session, parse_id(Prefix.SANDBOX, grounds.things[workspace, "sandbox"]))
    grounds.things[workspace, "snapshot"], grounds.gone[workspace, "snapshot"] = snapshots
    grounds.things[workspace, "artifact"] = format_id(Prefix.ARTIFACT, artifact_id)
    grounds.things[workspace, "image"] = await _add_image(parts, grounds, workspace, "base")


async def _add_snapshots(session: TenantSession, sandbox_id: UUID) -> list[str]:
    """Give a sandbox a snapshot, as its worker would, and one that is gone."""
    sandbox = await repository.find_sandbox(session, sandbox_id, workspace_id=None)
    assert sandbox is not None
    now, ids = datetime.now(UTC), []
    for name in ("one", "gone"):
        tree = KeptTree(
            tree_id=new_id(),
            workspace_id=sandbox.workspace_id,
            sandbox_id=sandbox_id,
            place=sandbox.place,
            content_key=b"none",
            size_bytes=1,
            files=1,
            sha256=bytes(32),
            created_at=now,
        )
        await repository.insert_tree(session, tree)
        snapshot = Snapshot(new_id(), sandbox_id, name, now, "test", tree)
        await repository.insert_snapshot(session, snapshot, workspace_id=sandbox.workspace_id)
        ids.append(format_id(Prefix.SNAPSHOT, snapshot.snapshot_id))
    await repository.delete_snapshot(session, snapshot.snapshot_id)
    await repository.delete_tree(session, tree.tree_id)
    return ids


async def _add_login(parts: Parts, grounds: Grounds) -> None:
    """Let the tenant's owner be in, by its provider."""
    scope, login_id = replace(_scope(grounds, grounds.own), workspace_id=None), new_id()
    async with parts.cells.session(scope) as session:
        await session.execute(
            """insert into logins (tenant_id, login_id, user_id, provider_id, kind, auth_time, created_at, last_seen_at,
                   expires_at) values ($1, $2, $3, $4, 'program', now(), now(), now(), now() + interval '1 day')""",
            scope.tenant_id,
            login_id,
            parse_id(Prefix.USER, grounds.things[WHOLE_TENANT, "member"]),
            parse_id(Prefix.PROVIDER, grounds.things[WHOLE_TENANT, "provider"]),
        )
    grounds.things[WHOLE_TENANT, "login"] = format_id(Prefix.LOGIN, login_id)


async def _add_image(parts: Parts, grounds: Grounds, workspace: str, name: str) -> str:
    scope, image_id = _scope(grounds, workspace), new_id()
    async with parts.cells.session(scope) as session:
        await session.execute(
            """insert into images (tenant_id, workspace_id, image_id, name, digest, size_bytes, source, created_at,
                   created_by) values ($1, $2, $3, $4, $5, 1, 'directory', now(), 'test')""",
            scope.tenant_id,
            scope.workspace_id,
            image_id,
            f"{grounds.tenant.slug}-{name}",
            f"sha256:{image_id.hex * 2}",
        )
    return format_id(Prefix.IMAGE, image_id)


def _scope(grounds: Grounds, workspace: str) -> TenantScope:
    tenant_id: UUID = parse_id(Prefix.TENANT, grounds.tenant.id)
    workspace_id = parse_id(Prefix.WORKSPACE, workspace)
    return TenantScope(tenant_id=tenant_id, region=grounds.tenant.region, actor=SYSTEM, workspace_id=workspace_id)


def _workspace_actor(grounds: Grounds, role: str) -> Actor:
    key = grounds.tenant.key(grounds.own, role)
    return Actor(f"workspace/{role}", key, in_tenant=frozenset(), in_own=BUILT_IN_ROLES[role], narrow=True)


def _tenant_actor(grounds: Grounds, role: str) -> Actor:
    held = BUILT_IN_ROLES[role]
    return Actor(f"tenant/{role}", grounds.tenant.key(None, role), in_tenant=held, in_own=held, narrow=False)


def _bound_actor(grounds: Grounds) -> Actor:
    """Make a key of the tenant that holds nothing itself: its service account is an operator in `own` only."""
    account = grounds.post(f"/workspaces/{grounds.own}/service-accounts", {"name": "bound"})["id"]
    grounds.post(f"/workspaces/{grounds.own}/bindings", {"principal": account, "role": "operator"})
    key = grounds.tenant.key(None, service_account=account)
    return Actor("bound/operator", key, in_tenant=frozenset(), in_own=BUILT_IN_ROLES["operator"], narrow=False)


_NOTICES: Final = ("notification-channels", "notification-deliveries")
_POLICIES: Final = ("policies/versions", "exemptions")
_OF_TENANT: Final = (
    *("members", "keys", "bindings", "roles", "groups", "identity-providers", "invitations"),
    *_NOTICES,
    *_POLICIES,
)
_OF_WORKSPACE: Final = (
    "keys",
    "bindings",
    "service-accounts",
    "images",
    "jobs",
    "environments",
    "roles",
    "groups",
    "grants",
    "approvals",
    "invitations",
    "secrets",
    "sandboxes",
    "evidence",
    "evidence/holds",
    *_NOTICES,
    *_POLICIES,
)


def certificate_pem() -> str:
    """A client certificate that nobody else has."""
    return Authority().issue("robot").pem


def public_key() -> str:
    """The public half of a key to sign with."""
    return base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()


def snapshot(grounds: Grounds) -> str:
    """Everything a neighbour could have changed, as its owner sees it; what time alone changes left out."""
    owner = grounds.tenant.owner
    paths = [f"/tenants/{grounds.tenant.id}", "/workspaces"]
    paths += [f"/tenants/{grounds.tenant.id}/{noun}" for noun in _OF_TENANT]
    for workspace in (grounds.own, grounds.sibling, grounds.archived):
        paths += [f"/workspaces/{workspace}/{noun}" for noun in _OF_WORKSPACE]
    found = {path: without_times(owner.get(path, params={"limit": 200}).json()) for path in paths}
    return json.dumps(found, indent=1, sort_keys=True)
