"""Client certificates: verified by the server's own TLS, or by a proxy of ours; bound to one service account."""

import base64
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.authority import Authority, Issued
from tests.conftest import Installation, Tenant, running_installation
from tests.integration.api.conftest import problem
from tests.integration.sandboxes.ground import until

from tenantry.client import Client, ClientCertificate, ConnectionFailed, CredentialsError

pytestmark = pytest.mark.xdist_group("api-tls")


@dataclass
class Secure:
    """An installation that speaks TLS, whose clients come from 127.0.0.1 and whose proxy is 127.0.0.2."""

    installation: Installation
    authority: Authority
    folder: Path

    def tenant(self, region: str = "us") -> Tenant:
        slug = f"t-{time.monotonic_ns()}"
        owner = {"email": f"owner@{slug}.example", "name": "Owner"}
        body = {"name": slug, "slug": slug, "plan": "enterprise", "region": region, "owner": owner}
        answer = self.installation.platform.post("/tenants", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Tenant(self.installation, made["id"], slug, region, made["bootstrap_key"]["secret"])

    def client(self, issued: Issued | None = None, *, address: str = "127.0.0.1", key: str = "") -> httpx.Client:
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if issued is not None:
            context.load_cert_chain(*issued.write(self.folder, f"c{time.monotonic_ns()}"))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.HTTPTransport(verify=context, local_address=address)
        return httpx.Client(transport=transport, base_url=self.installation.api, headers=headers, timeout=30)


@dataclass
class Robot:
    """A service account with a certificate, in a workspace where it is an operator."""

    tenant: Tenant
    workspace: str
    account: str
    issued: Issued
    certificate: dict[str, Any]

    @property
    def place(self) -> str:
        return f"/workspaces/{self.workspace}/service-accounts/{self.account}/certificates"

    def forwarded(self) -> dict[str, str]:
        return {"Client-Cert": _sequence(self.issued.der), "X-Workspace-Id": self.workspace}


def _sequence(content: bytes) -> str:
    return f":{base64.b64encode(content).decode()}:"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    ca = authority.write(folder)
    certificate, key = authority.issue("server", server=True).write(folder, "server")
    with running_installation(
        folder / "home",
        verify=ssl.create_default_context(cafile=ca),
        TENANTRY_SERVER__TLS_CERTIFICATE=str(certificate),
        TENANTRY_SERVER__TLS_KEY=str(key),
        TENANTRY_SERVER__CLIENT_CA=str(ca),
        TENANTRY_SERVER__TRUSTED_PROXIES='["127.0.0.2/32", "127.0.0.3/32"]',
    ) as started:
        yield Secure(started, authority, folder)


@pytest.fixture(scope="module")
def robot(secure: Secure) -> Robot:
    return _robot(secure)


def _robot(secure: Secure, tenant: Tenant | None = None, issued: Issued | None = None) -> Robot:
    tenant = tenant or secure.tenant()
    workspace = tenant.workspace("dev")
    account = tenant.owner.post(f"/workspaces/{workspace}/service-accounts", json={"name": "robot"}).json()["id"]
    tenant.owner.post(f"/workspaces/{workspace}/bindings", json={"principal": account, "role": "operator"})
    issued = issued or secure.authority.issue("robot")
    path = f"/workspaces/{workspace}/service-accounts/{account}/certificates"
    answer = tenant.owner.post(path, json={"certificate_pem": issued.pem})
    assert answer.status_code == 201, answer.text
    return Robot(tenant, workspace, account, issued, answer.json())


def test_the_server_speaks_tls_alone_and_not_below_1_2(secure: Secure) -> None:
    assert secure.installation.url.startswith("https://")
    with pytest.raises(httpx.HTTPError):
        httpx.get(secure.installation.url.replace("https", "http") + "/readyz")
    context = ssl.create_default_context(cafile=secure.folder / "ca.pem")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{secure.installation.url}/readyz", verify=context)


def test_the_sdk_trusts_the_roots_it_is_told_and_no_others(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    home = secure.installation.home
    monkeypatch.setenv("TENANTRY_CA", str(secure.folder / "ca.pem"))
    with Client(home=home) as client:
        assert client.me()["principal"]["type"] == "api_key"
    monkeypatch.setenv("TENANTRY_CA", str(Authority("other").write(secure.folder, "other-ca")))
    with Client(home=home) as client, pytest.raises(ConnectionFailed):
        client.me()
    monkeypatch.setenv("TENANTRY_CA", str(secure.folder / "server.key"))
    with pytest.raises(CredentialsError, match="not a PEM file"):
        Client(home=home)


def test_a_registered_certificate_is_its_service_account(secure: Secure, robot: Robot) -> None:
    with secure.client(robot.issued) as client:
        here = client.get("/me", headers={"X-Workspace-Id": robot.workspace})
        assert here.status_code == 200, here.text
        assert here.json()["principal"]["id"] == robot.account
        assert client.get(f"/workspaces/{robot.workspace}/jobs").status_code == 200
        problem(client.get(f"/workspaces/{robot.workspace}/keys"), 403, "permission_missing")
        problem(client.get("/me"), 401, "workspace_required")


def test_the_last_use_of_a_certificate_is_noted(secure: Secure) -> None:
    robot = _robot(secure)
    assert robot.certificate["last_used_at"] is None
    with secure.client(robot.issued) as client:
        assert client.get("/me", headers={"X-Workspace-Id": robot.workspace}).status_code == 200
    used = until(lambda: robot.tenant.owner.get(robot.place).json()["items"][0]["last_used_at"])
    assert robot.certificate["created_at"] <= used <= datetime.now(UTC).isoformat()


def test_the_sdk_shows_a_certificate(secure: Secure, robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_CA", str(secure.folder / "ca.pem"))
    own = ClientCertificate(*robot.issued.write(secure.folder, "sdk"), workspace=robot.workspace)
    with Client(url=secure.installation.url, certificate=own) as client:
        assert client.me()["principal"]["id"] == robot.account
        assert list(client.jobs.list(robot.workspace)) == []


def test_a_certificate_says_what_it_is(secure: Secure, robot: Robot) -> None:
    shown = robot.certificate
    assert (shown["subject"], shown["status"], shown["service_account"]) == ("CN=robot", "active", robot.account)
    assert len(bytes.fromhex(shown["fingerprint"])) == 32
    listed = robot.tenant.owner.get(robot.place).json()["items"]
    assert [item["id"] for item in listed] == [shown["id"]]
    events = robot.tenant.owner.get("/audit", params={"resource": shown["id"]}).json()["items"]
    assert "certificate.registered" in [event["action"] for event in events]


def test_a_certificate_of_another_root_ends_the_handshake(secure: Secure, robot: Robot) -> None:
    stranger = Authority("stranger").issue("robot")
    with secure.client(stranger) as client, pytest.raises(httpx.TransportError):
        client.get("/me", headers={"X-Workspace-Id": robot.workspace})


def test_a_certificate_that_has_expired_ends_the_handshake(secure: Secure, robot: Robot) -> None:
    expired = secure.authority.issue("robot", until=datetime.now(UTC) - timedelta(minutes=1))
    refused = robot.tenant.owner.post(robot.place, json={"certificate_pem": expired.pem})
    problem(refused, 422, "certificate_expired")
    with secure.client(expired) as client, pytest.raises(httpx.TransportError):
        client.get("/me", headers={"X-Workspace-Id": robot.workspace})


def test_a_registered_certificate_is_refused_from_the_moment_it_expires(secure: Secure) -> None:
    until = datetime.now(UTC) + timedelta(seconds=4)
    robot = _robot(secure, issued=secure.authority.issue("brief", until=until))
    with secure.client(robot.issued) as client:
        statuses = set()
        while (answer := client.get(f"/workspaces/{robot.workspace}/jobs")).status_code == 200:
            statuses.add(200)
            assert datetime.now(UTC) < until + timedelta(seconds=2)
        problem(answer, 401, "credential_refused")
    assert statuses == {200}
    query = {"resource": robot.certificate["id"], "outcome": "denied"}
    events = robot.tenant.owner.get("/audit", params=query).json()["items"]
    assert {event["reason"] for event in events} == {"certificate_expired"}


def test_unregistered_revoked_and_misplaced_read_the_same(secure: Secure, robot: Robot) -> None:
    other = robot.tenant.workspace("other")
    revoked = _robot(secure, robot.tenant)
    robot.tenant.owner.delete(f"{revoked.place}/{revoked.certificate['id']}")
    cases = [
        (secure.authority.issue("unknown"), robot.workspace),
        (robot.issued, other),
        (robot.issued, secure.tenant("eu").workspace("dev")),
        (robot.issued, "ws_01h455vb4pex5vsknk084sn02q"),
        (revoked.issued, revoked.workspace),
    ]
    answers = set()
    for issued, workspace in cases:
        with secure.client(issued) as client:
            answer = client.get("/me", headers={"X-Workspace-Id": workspace})
            problem(answer, 401, "credential_refused")
            answers.add(answer.json()["detail"])
    assert len(answers) == 1


def test_a_revoked_certificate_is_refused_within_a_second_and_does_not_come_back(secure: Secure) -> None:
    robot = _robot(secure)
    with secure.client(robot.issued) as client:
        assert client.get(f"/workspaces/{robot.workspace}/jobs").status_code == 200
        revoked = robot.tenant.owner.delete(f"{robot.place}/{robot.certificate['id']}")
        at = time.monotonic()
        assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
        while (answer := client.get(f"/workspaces/{robot.workspace}/jobs")).status_code == 200:
            assert time.monotonic() - at < 1
        problem(answer, 401, "credential_refused")
    again = robot.tenant.owner.post(robot.place, json={"certificate_pem": robot.issued.pem})
    problem(again, 409, "certificate_registered")


def test_several_certificates_of_one_account_count_at_once(secure: Secure) -> None:
    robot = _robot(secure)
    second = secure.authority.issue("second")
    assert robot.tenant.owner.post(robot.place, json={"certificate_pem": second.pem}).status_code == 201
    for issued in (robot.issued, second):
        with secure.client(issued) as client:
            assert client.get(f"/workspaces/{robot.workspace}/jobs").status_code == 200


def test_a_key_beside_a_certificate_counts_unless_that_is_another_principals(secure: Secure, robot: Robot) -> None:
    own = robot.tenant.key(robot.workspace, "viewer", service_account=robot.account)
    others = robot.tenant.key(robot.workspace, "viewer")
    unknown = secure.authority.issue("unknown")
    path = f"/workspaces/{robot.workspace}/jobs"
    for issued, key, status in ((robot.issued, own, 200), (unknown, others, 200), (robot.issued, others, 400)):
        with secure.client(issued, key=key) as client:
            answer = client.get(path)
            assert answer.status_code == status, answer.text
    problem(answer, 400, "credentials_disagree")


def test_a_key_and_a_certificate_disagree_from_the_moment_it_is_registered(secure: Secure, robot: Robot) -> None:
    key, issued = robot.tenant.key(robot.workspace, "viewer"), secure.authority.issue("late")
    with secure.client(issued, key=key) as client:
        assert client.get("/me").status_code == 200
        assert robot.tenant.owner.post(robot.place, json={"certificate_pem": issued.pem}).status_code == 201
        problem(client.get("/me"), 400, "credentials_disagree")


def test_nobody_registers_a_certificate_to_an_account_that_may_more(secure: Secure, robot: Robot) -> None:
    maker = robot.tenant.as_key(robot.tenant.key(robot.workspace, permissions=["key:admin"]))
    body = {"certificate_pem": secure.authority.issue("thief").pem}
    problem(maker.post(robot.place, json=body), 403, "grant_exceeds_own")
    agent = robot.tenant.as_key(robot.tenant.key(robot.workspace, "workspace-admin", delegated=True))
    problem(agent.post(robot.place, json=body), 422, "delegated_for_another")


def test_what_is_no_certificate_is_refused_and_not_repeated(secure: Secure, robot: Robot) -> None:
    issued = secure.authority.issue("one")
    for pem in ("nonsense", issued.key_pem, issued.pem + issued.key_pem, issued.pem * 2, issued.pem[:-60]):
        found = problem(
            robot.tenant.owner.post(robot.place, json={"certificate_pem": pem}), 422, "certificate_unreadable"
        )
        assert "BEGIN" not in str(found)


# --- behind a proxy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["127.0.0.2", "127.0.0.3"])
def test_a_trusted_proxy_says_whose_certificate_it_has_verified(proxy: str, secure: Secure, robot: Robot) -> None:
    with secure.client(address=proxy) as client:
        answer = client.get("/me", headers=robot.forwarded())
        assert answer.status_code == 200, answer.text
        assert answer.json()["principal"]["id"] == robot.account


def test_from_any_other_address_the_header_is_refused_whatever_comes_with_it(secure: Secure, robot: Robot) -> None:
    key = robot.tenant.key(robot.workspace, "viewer")
    for issued, bearer in ((None, ""), (None, key), (robot.issued, ""), (robot.issued, key)):
        with secure.client(issued, key=bearer) as client:
            spoofed = robot.forwarded() | {"X-Forwarded-For": "127.0.0.2"}
            problem(client.get("/me", headers=spoofed), 400, "client_cert_untrusted")


def test_the_header_stands_once_and_is_a_byte_sequence(secure: Secure, robot: Robot) -> None:
    der = robot.issued.der
    values = ["", ":", "::::", base64.b64encode(der).decode(), f"{_sequence(der)}, {_sequence(der)}", ":not base64:"]
    with secure.client(address="127.0.0.2") as client:
        for value in values:
            headers = {"Client-Cert": value, "X-Workspace-Id": robot.workspace}
            problem(client.get("/me", headers=headers), 400, "header_ambiguous")
        twice = [("Client-Cert", _sequence(der)), ("Client-Cert", _sequence(der)), ("X-Workspace-Id", robot.workspace)]
        problem(client.get("/me", headers=twice), 400, "header_ambiguous")


def test_a_forwarded_certificate_opens_no_other_tenant(secure: Secure, robot: Robot) -> None:
    foreign = _robot(secure)
    with secure.client(address="127.0.0.2") as client:
        crossed = foreign.forwarded() | {"X-Workspace-Id": robot.workspace}
        problem(client.get("/me", headers=crossed), 401, "credential_refused")
        named = robot.forwarded() | {"X-Tenant-Id": foreign.tenant.id}
        problem(client.get("/me", headers=named), 403, "tenant_mismatch")
        garbled = {"Client-Cert": _sequence(b"no certificate"), "X-Workspace-Id": robot.workspace}
        problem(client.get("/me", headers=garbled), 401, "credential_refused")


def test_the_same_certificate_may_be_another_account_elsewhere(secure: Secure, robot: Robot) -> None:
    """Who registers it learns nothing, and takes nothing away."""
    twin = _robot(secure, issued=robot.issued)
    with secure.client(robot.issued) as client:
        for one in (robot, twin):
            answer = client.get("/me", headers={"X-Workspace-Id": one.workspace})
            assert answer.json()["principal"]["id"] == one.account


def test_a_trusted_proxy_tells_the_clients_address_and_nobody_else_does(secure: Secure, robot: Robot) -> None:
    key = robot.tenant.key(robot.workspace, "viewer", allowed_networks=["203.0.113.0/24"])
    cases = [
        ("127.0.0.2", "203.0.113.9", 200),
        ("127.0.0.2", "198.51.100.1, 203.0.113.9, 127.0.0.3", 200),
        ("127.0.0.2", "203.0.113.9, 198.51.100.1", 401),
        ("127.0.0.2", None, 401),
        ("127.0.0.1", "203.0.113.9", 401),
        ("127.0.0.4", "203.0.113.9, 127.0.0.2", 401),
        ("127.0.0.2", "203.0.113.9, unknown", 400),
    ]
    for address, forwarded, status in cases:
        with secure.client(address=address, key=key) as client:
            answer = client.get("/me", headers={"X-Forwarded-For": forwarded} if forwarded else {})
            assert answer.status_code == status, (address, forwarded, answer.text)


def test_the_log_tells_no_certificate_key_or_stack(secure: Secure, robot: Robot) -> None:
    log = (secure.installation.home.parent / "home.log").read_text()
    assert "Traceback" not in log
    assert robot.certificate["fingerprint"] not in log
    assert "BEGIN" not in log
