"""Signed requests: each passes once, whole, from the key's holder alone."""

import base64
import contextlib
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.conftest import MakeTenant, Tenant
from tests.contract.conftest import RedisServer, running_redis
from tests.integration.api.conftest import Beside, OpenBeside, problem
from tests.integration.sandboxes.ground import until

from tenantry.client import Client
from tenantry.client import SigningKey as Signer
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.clock import SystemClock

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.one_strategy]

PARTS = ("@method", "@authority", "@path", "@query")


@dataclass
class Signing:
    """A service account that signs, an operator of its workspace."""

    tenant: Tenant
    workspace: str
    account: str
    key: Ed25519PrivateKey
    registered: dict[str, Any]

    @property
    def place(self) -> str:
        return f"/workspaces/{self.workspace}/service-accounts/{self.account}/signing-keys"


@dataclass
class Call:
    """A request to be signed, and each thing about it that can be wrong."""

    signing: Signing
    method: str = "GET"
    path: str = "/api/v1/me"
    query: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    covered: tuple[str, ...] | None = None
    created: int | None = None
    expires: int | None = None
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    alg: str = "ed25519"
    label: str = "sig1"
    more: str = ""

    def signed(self, host: str) -> dict[str, str]:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.body:
            headers["content-type"] = "application/json"
            headers["content-digest"] = f"sha-256=:{base64.b64encode(hashlib.sha256(self.body).digest()).decode()}:"
        meaningful = [n for n in headers if n in ("content-digest", "x-workspace-id", "idempotency-key", "x-tenant-id")]
        covered = self.covered if self.covered is not None else (*PARTS, *meaningful)
        created = int(time.time()) if self.created is None else self.created
        expires = f";expires={self.expires}" if self.expires is not None else ""
        parameters = (
            "(" + " ".join(f'"{name}"' for name in covered) + f");created={created}{expires}"
            f';nonce="{self.nonce}";keyid="{self.signing.registered["keyid"]}";alg="{self.alg}"{self.more}'
        )
        target = self.path + (f"?{self.query}" if self.query else "")
        values = {
            "@method": self.method,
            "@authority": host,
            "@path": self.path,
            "@query": f"?{self.query}",
            "@target-uri": f"http://{host}{target}",
            **headers,
        }
        base = "".join(f'"{name}": {values[name]}\n' for name in covered) + f'"@signature-params": {parameters}'
        signature = base64.b64encode(self.signing.key.sign(base.encode())).decode()
        return headers | {"signature-input": f"{self.label}={parameters}", "signature": f"{self.label}=:{signature}:"}

    def send(self, headers: dict[str, str] | None = None) -> httpx.Response:
        """Send to the running server, with other headers than those signed where a test says so."""
        url = self.signing.tenant.installation.url
        host = url.removeprefix("http://")
        target = self.path + (f"?{self.query}" if self.query else "")
        sent = self.signed(host) if headers is None else headers
        return httpx.request(self.method, f"{url}{target}", headers=sent, content=self.body or None, timeout=30)

    def headers_here(self) -> dict[str, str]:
        return self.signed(self.signing.tenant.installation.url.removeprefix("http://"))

    async def send_beside(self, client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> httpx.Response:
        target = self.path + (f"?{self.query}" if self.query else "")
        return await client.request(
            self.method,
            f"http://localhost{target}",
            headers=self.signed("localhost") if headers is None else headers,
            content=self.body or None,
        )


def _signing(tenant: Tenant, workspace: str) -> Signing:
    body = {"name": f"signer {time.monotonic_ns()}"}
    account = tenant.owner.post(f"/workspaces/{workspace}/service-accounts", json=body).json()["id"]
    tenant.owner.post(f"/workspaces/{workspace}/bindings", json={"principal": account, "role": "operator"})
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    path = f"/workspaces/{workspace}/service-accounts/{account}/signing-keys"
    answer = tenant.owner.post(path, json={"public_key": public})
    assert answer.status_code == 201, answer.text
    return Signing(tenant, workspace, account, key, answer.json())


@pytest.fixture(scope="module")
def signing(acme: Tenant, dev: str) -> Signing:
    return _signing(acme, dev)


def _job(signing: Signing, **fields: Any) -> Call:
    path = f"/api/v1/workspaces/{signing.workspace}/jobs"
    return Call(signing, method="POST", path=path, body=b'{"command": ["true"]}', **fields)


def test_a_signed_request_is_its_service_account(signing: Signing) -> None:
    answer = Call(signing).send()
    assert answer.status_code == 200, answer.text
    assert answer.json()["principal"]["id"] == signing.account
    assert _job(signing).send().status_code == 202


def test_the_target_may_be_signed_whole_or_in_parts(signing: Signing) -> None:
    path = f"/api/v1/workspaces/{signing.workspace}/jobs"
    for covered in (PARTS, ("@method", "@target-uri"), ("@query", "@path", "@method", "@authority")):
        for query in ("", "limit=1"):
            answer = Call(signing, path=path, query=query, covered=covered).send()
            assert answer.status_code == 200, answer.text


def test_a_key_says_by_what_it_is_named(signing: Signing) -> None:
    shown = signing.registered
    scope, name = signing.workspace.replace("_", ""), shown["id"].replace("_", "")
    assert shown["keyid"] == f"tenantry_us_{scope}_{name}"
    listed = signing.tenant.owner.get(signing.place).json()["items"]
    assert [item["keyid"] for item in listed] == [shown["keyid"]]


def test_the_last_use_of_a_signing_key_is_noted(signing: Signing) -> None:
    assert Call(signing).send().status_code == 200

    def used() -> Any:
        items = signing.tenant.owner.get(signing.place).json()["items"]
        return next(item["last_used_at"] for item in items if item["id"] == signing.registered["id"])

    assert signing.registered["created_at"] <= until(used)


def test_a_request_passes_once(signing: Signing) -> None:
    for call in (Call(signing), _job(signing)):
        headers = call.headers_here()
        assert call.send(headers).is_success
        problem(call.send(headers), 409, "replayed")
        problem(replace(call, created=int(time.time()) - 1).send(), 409, "replayed")


def test_a_nonce_is_its_keys_own(signing: Signing, globex: Tenant, acme: Tenant, dev: str) -> None:
    nonce = secrets.token_urlsafe(16)
    foreign = _signing(globex, globex.workspace("dev"))
    for one in (signing, foreign, _signing(acme, dev)):
        assert Call(one, nonce=nonce).send().status_code == 200


@pytest.mark.parametrize("change", ["method", "path", "query", "header", "host"])
def test_what_was_changed_after_signing_is_refused(change: str, signing: Signing) -> None:
    call = Call(signing, path=f"/api/v1/workspaces/{signing.workspace}/jobs", query="limit=1")
    call.headers = {"X-Workspace-Id": signing.workspace}
    headers = call.headers_here()
    sent = replace(call)
    match change:
        case "method":
            sent.method = "POST"
        case "path":
            sent.path = f"/api/v1/workspaces/{signing.workspace}/images"
        case "query":
            sent.query = "limit=2"
        case "header":
            headers["x-workspace-id"] = "ws_01h455vb4pex5vsknk084sn02q"
        case "host":
            headers["host"] = "other.example"
    problem(sent.send(headers), 401, "credential_refused")
    assert call.send().status_code == 200


def test_a_changed_body_is_refused_and_nothing_is_done(signing: Signing) -> None:
    path = f"/workspaces/{signing.workspace}/jobs"
    before = len(signing.tenant.owner.get(path, params={"limit": 200}).json()["items"])
    call = _job(signing)
    headers = call.headers_here()
    problem(replace(call, body=b'{"command": ["id"]}').send(headers), 401, "digest_mismatch")
    problem(replace(call, body=b'{"command": ["true"]} ').send(headers), 401, "digest_mismatch")
    assert len(signing.tenant.owner.get(path, params={"limit": 200}).json()["items"]) == before
    assert call.send(headers).status_code == 202


@pytest.mark.parametrize("digest", ["", "md5=:AAAA:", "sha-256=:AAAA:", "sha-256=AAAA", "sha-256=:!:"])
def test_a_digest_that_is_none_is_refused(digest: str, signing: Signing) -> None:
    call = Call(signing, headers={"Content-Digest": digest} if digest else {})
    if digest:
        problem(call.send(), 401, "digest_mismatch")
    call = _job(signing)
    headers = call.headers_here()
    headers["content-digest"] = digest
    problem(call.send(headers), 401, "credential_refused")


@pytest.mark.parametrize("missing", [*PARTS, "content-digest", "x-workspace-id", "idempotency-key"])
def test_a_component_that_matters_may_not_be_left_out(missing: str, signing: Signing) -> None:
    call = _job(signing, headers={"X-Workspace-Id": signing.workspace, "Idempotency-Key": secrets.token_hex(8)})
    whole = (*PARTS, "content-digest", "x-workspace-id", "idempotency-key")
    call.covered = tuple(name for name in whole if name != missing)
    found = problem(call.send(), 401, "signature_incomplete")
    assert found["missing"] in ([missing], ["@target-uri"])


def test_a_body_without_a_digest_is_refused(signing: Signing) -> None:
    call = replace(_job(signing), body=b"")
    headers = call.headers_here() | {"content-type": "application/json"}
    problem(_job(signing).send(headers), 401, "signature_incomplete")


@pytest.mark.parametrize("shift", [-301, -3600, 120, 10**9])
def test_a_call_signed_too_long_ago_or_ahead_is_refused(shift: int, signing: Signing) -> None:
    problem(Call(signing, created=int(time.time()) + shift).send(), 401, "timestamp_out_of_window")


def test_the_tenant_says_how_far_ahead_a_clock_may_be(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(clock_skew_ms=60_000)
    signing = _signing(tenant, tenant.workspace("dev"))
    assert Call(signing, created=int(time.time()) + 50).send().status_code == 200
    problem(Call(signing, created=int(time.time()) + 65).send(), 401, "timestamp_out_of_window")


def test_a_signature_may_expire_sooner(signing: Signing) -> None:
    now = int(time.time())
    assert Call(signing, expires=now + 30).send().status_code == 200
    problem(Call(signing, created=now - 10, expires=now - 1).send(), 401, "signature_expired")


@pytest.mark.parametrize("alg", ["hmac-sha256", "none", "", "rsa-pss-sha512", "ED25519", "ecdsa-p256-sha256"])
def test_no_other_algorithm_is_taken(alg: str, signing: Signing) -> None:
    problem(Call(signing, alg=alg).send(), 401, "signature_malformed")


def test_two_signatures_or_a_key_beside_are_refused(signing: Signing) -> None:
    headers = Call(signing).headers_here()
    second = Call(signing, label="sig2").headers_here()
    both = {name: f"{headers[name]}, {second[name]}" for name in ("signature-input", "signature")}
    problem(Call(signing).send(both), 401, "signature_malformed")
    other = headers | {"signature": second["signature"]}
    problem(Call(signing).send(other), 401, "signature_malformed")
    twice = [*headers.items(), ("signature", headers["signature"])]
    url = f"{signing.tenant.installation.api}/me"
    problem(httpx.get(url, headers=twice), 401, "signature_malformed")
    key = signing.tenant.key(signing.workspace, "viewer")
    problem(Call(signing).send(headers | {"authorization": f"Bearer {key}"}), 400, "header_ambiguous")


def test_a_stripped_signature_or_nonce_is_no_credential(signing: Signing) -> None:
    headers = Call(signing).headers_here()
    for name in ("signature", "signature-input"):
        problem(Call(signing).send({k: v for k, v in headers.items() if k != name}), 401, "signature_malformed")
    problem(Call(signing).send({}), 401, "credential_missing")
    nonce = f';nonce="{headers["signature-input"].partition("nonce=")[2].split(chr(34))[1]}"'
    stripped = headers | {"signature-input": headers["signature-input"].replace(nonce, "")}
    problem(Call(signing).send(stripped), 401, "signature_malformed")
    swapped = headers | {"signature-input": headers["signature-input"].replace(nonce, ';nonce="another-one-entirely"')}
    problem(Call(signing).send(swapped), 401, "credential_refused")


@pytest.mark.parametrize("more", [';tag="x"', ";created=1", ';jwk="x"', ";x", ';keyid="y"', ";more"])
def test_parameters_beyond_the_profile_are_refused(more: str, signing: Signing) -> None:
    problem(Call(signing, more=more).send(), 401, "signature_malformed")


def test_unknown_and_wrong_read_the_same(signing: Signing) -> None:
    stranger = Ed25519PrivateKey.generate()
    unknown = signing.registered["keyid"][:-4] + "0000"
    elsewhere = signing.registered["keyid"].replace(signing.workspace.removeprefix("ws_"), "01h455vb4pex5vsknk084sn02q")
    keyids = (signing.registered["keyid"], unknown, elsewhere, "not-a-keyid", signing.registered["id"])
    details = set()
    for keyid in keyids:
        wrong = replace(signing, key=stranger, registered={"keyid": keyid})
        details.add(problem(Call(wrong).send(), 401, "credential_refused")["detail"])
    assert len(details) == 1
    trail = signing.tenant.owner.get("/audit", params={"resource": signing.registered["id"], "outcome": "denied"})
    assert trail.json()["items"] == []


def test_a_revoked_key_signs_nothing_more(acme: Tenant, dev: str) -> None:
    signing = _signing(acme, dev)
    assert Call(signing).send().status_code == 200
    revoked = acme.owner.delete(f"{signing.place}/{signing.registered['id']}")
    assert revoked.json()["status"] == "revoked"
    problem(Call(signing).send(), 401, "credential_refused")
    again = {"public_key": signing.registered["public_key"]}
    problem(acme.owner.post(signing.place, json=again), 409, "public_key_registered")


def test_what_is_no_public_key_or_anybodys_is_refused(signing: Signing) -> None:
    nobodys = [bytes(32), b"\1" + bytes(31), (2**255 - 20).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little")]
    signs = [bytes([*key[:31], key[31] | 0x80]) for key in nobodys]
    for text in ["", "x", *(base64.b64encode(key).decode() for key in (b"short", bytes(33), *nobodys, *signs))]:
        problem(signing.tenant.owner.post(signing.place, json={"public_key": text}), 422, "public_key_unusable")


def test_nobody_registers_a_key_to_an_account_that_may_more(signing: Signing) -> None:
    maker = signing.tenant.as_key(signing.tenant.key(signing.workspace, permissions=["key:admin"]))
    public = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    problem(maker.post(signing.place, json={"public_key": public}), 403, "grant_exceeds_own")


def test_an_upload_is_not_signed(signing: Signing) -> None:
    path = f"/api/v1/workspaces/{signing.workspace}/images"
    call = Call(signing, method="POST", path=path, query="name=base")
    problem(call.send(), 400, "signed_upload_unsupported")


def test_the_sdk_signs_each_request_anew(signing: Signing) -> None:
    own = Signer(signing.registered["keyid"], signing.key.private_bytes_raw())
    assert base64.b64encode(signing.key.private_bytes_raw()).decode() not in repr(own)
    with Client(url=signing.tenant.installation.url, signing_key=own) as client:
        assert client.me()["principal"]["id"] == signing.account
        job = client.jobs.create(signing.workspace, command=["true"])
        assert client.jobs.get(signing.workspace, job["id"])["id"] == job["id"]


# --- several processes, and the store --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
async def pair(request: pytest.FixtureRequest, open_beside: OpenBeside) -> AsyncIterator[tuple[Beside, Beside]]:
    """Two processes that share a store: Redis, or what one process has embedded."""
    url = request.getfixturevalue("redis").url if request.param == "redis" else None
    caches = [open_caches(url, SystemClock()) for _ in range(2 if url else 1)]
    for each in caches:
        await each.ready()
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(open_beside()) for _ in range(2)]
        for server, own in zip(servers, caches * 2, strict=False):
            for route in server.app.routes:
                if hasattr(route, "runtime"):
                    route.runtime.caches.update({"us": own, "eu": own})
        yield servers[0], servers[1]
    for each in caches:
        await each.close()


async def test_a_request_passes_once_for_all_processes(pair: tuple[Beside, Beside], signing: Signing) -> None:
    one, other = pair
    async with one.client("") as here, other.client("") as there:
        call = Call(signing, created=int(time.time()) + 1)
        headers = call.signed("localhost")
        first = await call.send_beside(here, headers)
        assert first.status_code == 200, first.text
        for client in (there, here):
            problem(await call.send_beside(client, headers), 409, "replayed")


async def test_without_the_store_nothing_passes(open_beside: OpenBeside, signing: Signing) -> None:
    async with open_beside() as server:
        with running_redis() as gone:
            caches = open_caches(gone.url, SystemClock())
            await caches.ready()
        for route in server.app.routes:
            if hasattr(route, "runtime"):
                route.runtime.caches.update({"us": caches})
        async with server.client("") as client:
            problem(await Call(signing).send_beside(client), 503, "caches_unavailable")
        await caches.close()
