"""Secrets that a job's requests have and the job has not: put in by the gateway, for the one host that was named."""

import hashlib
import ipaddress
import os
import secrets as random
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.authority import Authority
from tests.conftest import Installation, MakeTenant, running_installation, tenants_of
from tests.integration.api.conftest import problem
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, until
from tests.integration.sandboxes.test_network import allow
from tests.integration.sandboxes.test_secrets import value_of, written
from tests.isolation.test_canaries import _dump, _files, _is_in, _logs, _processes_with

Json = dict[str, Any]
CALL = """
import http.client, os, sys
def call(host, path="/", **fields):
    link = http.client.HTTPSConnection("127.0.0.1", 3128, timeout=20)
    link.set_tunnel(host, 443)
    link.request("GET", path, headers={k.replace("_", "-"): v for k, v in fields.items()})
    answer = link.getresponse()
    print(answer.status, answer.read().decode(), flush=True)
host, token = sys.argv[1], os.environ["API_TOKEN"]
"""
USES = CALL + 'call(host, Authorization="Bearer " + token)\n'


@dataclass
class Server:
    """Speaks TLS; answers with what it was asked, or not at all."""

    address: str
    fields: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(scope="module")
def issuer() -> Authority:
    return Authority("outside")


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, issuer: Authority) -> Iterator[Installation]:
    """One that knows servers by a certificate of the operator's."""
    folder = tmp_path_factory.mktemp("injection")
    with running_installation(
        folder / "home",
        TENANTRY_JOBS__EGRESS_NETWORKS='["127.0.0.0/8"]',
        TENANTRY_JOBS__EGRESS_CA_FILE=str(issuer.write(folder)),
        TENANTRY_SERVE_REGIONS='["us"]',
    ) as started:
        yield started


@pytest.fixture(scope="module")
def make_tenant(installation: Installation) -> MakeTenant:
    return tenants_of(installation, "row_level")


@pytest.fixture(scope="module")
def make_ground(make_tenant: MakeTenant) -> MakeGround:
    def make(**settings: object) -> Ground:
        tenant = make_tenant()
        workspace = tenant.workspace("dev", settings=settings)
        return Ground(tenant, workspace, tenant.as_role("workspace-admin", workspace))

    return make


@pytest.fixture
def ground(make_ground: MakeGround) -> Ground:
    return make_ground()


@pytest.fixture(scope="module")
def server(issuer: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if os.geteuid() != 0:
        pytest.skip("ports below 1024 are root's")
    found = Server(str(ipaddress.IPv4Address((127 << 24) + (80 << 16) + random.randbits(16))))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.fields.append(dict(self.headers.items()))
            if self.path == "/hold":
                found.released.wait(100)
                return
            said = str(found.fields[-1]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = issuer.issue("outside", server=True, address=found.address)
    context.load_cert_chain(*issued.write(tmp_path_factory.mktemp("tls"), "outside"))
    with ThreadingHTTPServer((found.address, 443), Handler) as listening:
        listening.daemon_threads = True
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield found
        found.released.set()
        listening.shutdown()
        thread.join()


def connected(host: str) -> list[Json]:
    return [{"host": host, "port": 443}]


def injected(ground: Ground, server: Server, script: str = USES, **inject: str) -> Json:
    server.fields.clear()
    allow(ground, 443, server.address)
    use = {"name": "API_TOKEN", "inject": {"host": server.address, **inject}}
    return ground.run("python3", "-c", script, server.address, secrets=[use], network=connected(server.address))


def test_a_request_has_the_secret_and_the_job_a_placeholder(ground: Ground, server: Server) -> None:
    value = value_of()
    written(ground, "API_TOKEN", value)
    script = USES + "print(token, os.environ['SSL_CERT_FILE'], os.environ['NODE_EXTRA_CA_CERTS'])"
    job = injected(ground, server, script)
    said = ground.lines(job["id"], "stdout")
    assert job["status"] == "succeeded", said
    assert [each["Authorization"] for each in server.fields] == [f"Bearer {value}"]
    assert "200 " in said
    assert "Bearer " + "*" * len(value) in said
    assert "\ntnt-placeholder-" in said
    assert said.endswith(" /run/tenantry/ca.pem /run/tenantry/ca.pem\n")
    assert job["secrets"] == [
        {
            "id": job["secrets"][0]["id"],
            "name": "API_TOKEN",
            "version": 1,
            "env": None,
            "file": None,
            "phase": "run",
            "inject": {"host": server.address, "env": "API_TOKEN", "header": None},
        }
    ]
    assert f"API_TOKEN was injected into requests to {server.address}:443" in ground.lines(job["id"], "system")
    assert ground.audited(job["id"])["job.created"]["details"]["secrets"] == [f"API_TOKEN@1 for {server.address}"]
    assert "secret.used" in str(ground.audit(resource=job["secrets"][0]["id"]))


def test_a_header_and_a_variable_may_be_named(ground: Ground, server: Server) -> None:
    value = value_of()
    written(ground, "API_TOKEN", value)
    script = USES.replace("API_TOKEN", "STANDS_FOR")
    injected(ground, server, script, header="X-Api-Key", env="STANDS_FOR")
    [fields] = server.fields
    assert fields["X-Api-Key"] == value
    assert fields["Authorization"].startswith("Bearer tnt-placeholder-")


def test_placeholders_are_of_one_job_each(ground: Ground, server: Server) -> None:
    written(ground, "API_TOKEN", value_of())
    jobs = [injected(ground, server, CALL + "print(token)") for _ in range(2)]
    said = {ground.lines(job["id"], "stdout") for job in jobs}
    assert len(said) == 2
    old = said.pop().strip()
    injected(ground, server, CALL + f"call(host, Authorization={old!r})")
    assert [each["Authorization"] for each in server.fields] == [old]


def test_the_version_is_the_one_that_was_promised(ground: Ground, server: Server) -> None:
    first = value_of()
    written(ground, "API_TOKEN", first)
    allow(ground, 443, server.address)
    owner, place = ground.tenant.owner, f"/workspaces/{ground.workspace}"
    assert owner.patch(f"{place}/limits", json={"max_concurrent_jobs": 1}).status_code == 200
    running = ground.start("sleep", "30")
    ground.until_status(running, "running")
    server.fields.clear()
    use = {"name": "API_TOKEN", "inject": {"host": server.address}}
    waiting = ground.start("python3", "-c", USES, server.address, secrets=[use], network=connected(server.address))
    written(ground, "API_TOKEN", value_of())
    ground.cancel(running)
    assert ground.ended(waiting)["status"] == "succeeded"
    assert [each["Authorization"] for each in server.fields] == [f"Bearer {first}"]


def test_what_cannot_be_injected_is_refused_with_the_remedy(ground: Ground, server: Server) -> None:
    written(ground, "API_TOKEN", value_of())
    allow(ground, 443, server.address, "*.example.com", "api.example.com")

    def ask(*uses: Json, network: list[Json] | None = None) -> Any:
        uses_all = [{"name": "API_TOKEN", **each} for each in uses]
        return ground.post(
            "true", secrets=uses_all, network=connected("api.example.com") if network is None else network
        )

    api = {"inject": {"host": "api.example.com"}}
    missing = problem(ask(api, network=[]), 422, "injection_unconnected")
    assert missing["allow_with"] == ["network: api.example.com:443", "--connect api.example.com:443"]
    elsewhere = [{"host": "api.example.com", "port": 8443}]
    problem(ask(api, network=elsewhere), 422, "injection_unconnected")
    problem(ask({"inject": {"host": "other.example.com"}}), 422, "injection_unconnected")
    for host in ("*.example.com", "api.example.com:443", "https://api.example.com", "0x7f.1"):
        problem(ask({"inject": {"host": host}}), 422, "injection_host_invalid")
    for header in ("Host", "Content-Length", "X_Key", "X: y"):
        problem(ask({"inject": {"host": "api.example.com", "header": header}}), 422, "injection_header_invalid")
    assert ask({**api, "env": "BOTH"}).status_code == 422
    problem(ask(api, api), 422, "secret_place_taken")
    one, two = ({"inject": {"host": "api.example.com", "header": "X-Key", "env": env}} for env in ("A", "B"))
    problem(ask(one, two), 422, "secret_place_taken")
    assert ask({"inject": {"host": "API.example.com."}}).status_code == 202
    assert ask(api, network=[{"host": "*.example.com", "port": 443}]).status_code == 202


def test_a_value_that_no_header_can_have_fails_the_job_before_it_begins(ground: Ground, server: Server) -> None:
    for value in ("two\nlines of it", "a line of a file\n", "bell\x07inside", "x" * 5000):
        written(ground, "API_TOKEN", value)
        job = injected(ground, server, CALL + "print('it began')")
        assert (job["status"], job["reason"]) == ("failed", "secret_not_injectable"), job
        assert "it began" not in ground.lines(job["id"])
        assert value[:8] not in str(job)
    assert server.fields == []


def test_without_a_policy_for_the_host_it_is_denied(ground: Ground, server: Server) -> None:
    written(ground, "API_TOKEN", value_of())
    use = {"name": "API_TOKEN", "inject": {"host": server.address}}
    problem(ground.post("true", secrets=[use], network=connected(server.address)), 403, "policy_denied")


def test_injecting_takes_the_permission_to_use_it(ground: Ground, server: Server) -> None:
    written(ground, "API_TOKEN", value_of())
    allow(ground, 443, server.address)
    use = {"name": "API_TOKEN", "inject": {"host": server.address}}
    body = {"command": ["true"], "secrets": [use], "network": connected(server.address)}
    refused = ground.tenant.as_role("ci", ground.workspace).post(ground.jobs, json=body)
    assert problem(refused, 403, "permission_missing")["missing"] == "secret:use"


def test_a_job_finds_the_certificates_it_names_itself(ground: Ground, server: Server) -> None:
    written(ground, "API_TOKEN", value_of())
    allow(ground, 443, server.address)
    use = {"name": "API_TOKEN", "inject": {"host": server.address}}
    said = ground.run(
        "sh", "-c", "echo $SSL_CERT_FILE $CURL_CA_BUNDLE", env={"SSL_CERT_FILE": "/mine"},
        secrets=[use], network=connected(server.address),
    )  # fmt: skip
    assert ground.lines(said["id"]) == "/mine /run/tenantry/ca.pem\n"
    plain = ground.sh("echo [$SSL_CERT_FILE]; ls /run", network=connected(server.address))
    assert ground.lines(plain["id"], "stdout") == "[]\n"


HOLDS = """
try: call(host, "/hold", Authorization=token)
except TimeoutError: print("waited")
except Exception: print("ended")
"""


def test_a_narrower_policy_ends_the_intercepted_connection_of_a_running_job(ground: Ground, server: Server) -> None:
    written(ground, "API_TOKEN", value_of())
    allow(ground, 443, server.address)
    server.fields.clear()
    server.released.clear()
    script = CALL + HOLDS
    use = {"name": "API_TOKEN", "inject": {"host": server.address}}
    job = ground.start("python3", "-c", script, server.address, secrets=[use], network=connected(server.address))
    until(lambda: server.fields)
    allow(ground, 443, "example.com")
    ended = ground.ended(job)
    assert (ended["network"], ended["status"]) == ([], "succeeded")
    assert ground.lines(job, "stdout") == "ended\n"
    server.released.set()


LOOKS = (
    CALL
    + """
call(host, Authorization="Bearer " + token)
import hashlib, re
found = []
for top in ("/proc", "/run", "/tmp", "/workspace", "/dev/shm", "/etc", "/inputs"):
    for at, folders, names in os.walk(top):
        folders[:] = [x for x in folders if x not in ("task", "map_files", "root", "cwd", "fd", "sys")]
        for name in names:
            if name in ("kmsg", "mem", "pagemap", "kcore", "kpagecount", "kpageflags"): continue
            try:
                with open(os.path.join(at, name), "rb", buffering=0) as file: data = file.read(1 << 20)
            except OSError: continue
            for word in re.findall(rb"canary-[0-9a-f]{32}", data):
                found.append(hashlib.sha256(word).hexdigest())
print("looked", len(found), *found)
print("control", token in open("/proc/self/environ").read())
"""
)


@pytest.mark.parametrize("mode", ["metadata_only", "full"])
def test_the_value_is_nowhere_but_at_the_host(make_ground: MakeGround, server: Server, mode: str) -> None:
    """Not in the sandbox, the log, an answer, the trail, a file, the database in clear, or what any process shows."""
    ground, value = make_ground(persistence_mode=mode), value_of()
    written(ground, "API_TOKEN", value)
    server.released.clear()
    job = injected(ground, server, LOOKS)
    said = ground.lines(job["id"])
    assert "control True" in said
    assert "looked 0\n" in said
    assert hashlib.sha256(value.encode()).hexdigest() not in said
    assert [each["Authorization"] for each in server.fields] == [f"Bearer {value}"]
    hold = CALL + "call(host, '/hold', Authorization=token)"
    use = {"name": "API_TOKEN", "inject": {"host": server.address}}
    running = ground.start("python3", "-c", hold, server.address, secrets=[use], network=connected(server.address))
    until(lambda: len(server.fields) == 2)
    assert _processes_with(ground.installation, value) == []
    server.released.set()
    ground.cancel(running)
    ground.ended(running)
    places = {str(file): text for file, text in _logs(ground.installation).items()}
    places |= {"job": str(ground.job(job["id"])), "log": said, "audit": str(ground.audit())}
    assert "secret.used" in places["audit"], "the control: the trail tells of it"
    faults = [place for place, text in places.items() if value in text]
    dump = _dump(ground.installation)
    assert ground.tenant.slug.encode() in dump, "the control: what may be read is there"
    faults += ["the database"] if _is_in(dump, value) else []
    faults += [str(file) for file in _files(ground.installation) if value.encode() in file.read_bytes()]
    assert faults == []


def test_an_operators_bundle_that_cannot_be_read_fails_the_job(ground: Ground, server: Server) -> None:
    written(ground, "API_TOKEN", value_of())
    bundle = Path(ground.installation.environment["TENANTRY_JOBS__EGRESS_CA_FILE"])
    kept = bundle.read_text()
    bundle.write_text("none\n")
    try:
        job = injected(ground, server)
    finally:
        bundle.write_text(kept)
    assert (job["status"], job["reason"]) == ("failed", "egress_authorities_unreadable"), job
    assert server.fields == []
