"""Jobs that connect to something: what they asked for and policies allow, through the gateway, and nothing else."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.integration.api.conftest import problem
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, until

GET = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
link = socket.create_connection(("127.0.0.1", 3128), 10)
link.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
said = link.recv(4096)
print(said.split(b"\\r\\n")[0].decode())
if b" 200 " in said:
    link.sendall(b"GET / HTTP/1.1\\r\\nHost: here\\r\\nConnection: close\\r\\n\\r\\n")
    while data := link.recv(4096):
        print(data.decode().splitlines()[-1])
"""
HELD = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
link = socket.create_connection(("127.0.0.1", 3128), 10)
link.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
print(link.recv(4096).split(b"\\r\\n")[0].decode(), flush=True)
try:
    print("then", link.recv(1), flush=True)
except OSError as error:
    print("then", error.strerror, flush=True)
"""
WORDS = b"seen from outside"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(WORDS)))
        self.end_headers()
        self.wfile.write(WORDS)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server of this machine that answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def ground(make_ground: MakeGround) -> Ground:
    return make_ground()


def allow(ground: Ground, port: int, *hosts: str, place: str = "") -> None:
    document = {"allowed_hosts": list(hosts) or ["127.0.0.1"], "allowed_ports": [port]}
    answer = ground.tenant.owner.put(
        f"{place or f'/workspaces/{ground.workspace}'}/policies/network", params={"state": "enforced"}, json=document
    )
    assert answer.status_code == 200, answer.text


def get(
    ground: Ground, port: int, *, host: str = "127.0.0.1", script: str = GET, **body: object
) -> tuple[dict[str, Any], str]:
    job = ground.run("python3", "-c", script, host, str(port), **body)
    return job, ground.lines(job["id"])


def test_a_job_reaches_what_it_asked_for_and_its_policy_allows(ground: Ground, port: int) -> None:
    allow(ground, port)
    job, said = get(ground, port, network=[{"host": "127.0.0.1", "port": port}])
    assert WORDS.decode() in said
    assert job["network"] == [{"host": "127.0.0.1", "port": port, "phase": "run"}]
    usage = job["usage"]
    assert (usage["connections"], usage["denied_connections"]) == (1, 0)
    assert usage["sent_bytes"] > 0
    assert usage["received_bytes"] > len(WORDS)
    receipt = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()
    assert (receipt["network"], receipt["interfaces"]) == ("gateway", ["lo"])


def test_what_a_job_sent_is_metered(ground: Ground, port: int) -> None:
    allow(ground, port)
    job, _ = get(ground, port, network=[{"host": "127.0.0.1", "port": port}])
    asked = {"meter": "egress_bytes", "granularity": "event"}
    items = ground.tenant.owner.get(f"/workspaces/{ground.workspace}/metering", params=asked).json()["items"]
    assert [(item["subject"], int(item["quantity"])) for item in items] == [(job["id"], job["usage"]["sent_bytes"])]


def test_without_a_policy_no_connection_is_allowed(ground: Ground, port: int) -> None:
    refused = problem(ground.post("true", network=[{"host": "127.0.0.1", "port": port}]), 403, "policy_denied")
    assert (refused["policy_kind"], refused["rule"], refused["denied_by"]) == ("network", "default deny", "platform")


def test_a_policy_alone_opens_nothing_that_the_job_did_not_ask_for(ground: Ground, port: int) -> None:
    allow(ground, port)
    _, said = get(ground, port)
    assert "Connection refused" in said
    other = {"host": "127.0.0.1", "port": port}
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as beside:
        job, said = get(ground, beside.server_address[1], network=[other])
    assert "403" in said
    assert "not on the list" in ground.lines(job["id"], "system") or "not allowed" in ground.lines(job["id"], "system")
    assert job["usage"]["denied_connections"] == 1


def test_a_private_address_that_the_installation_does_not_list_is_not_reached(ground: Ground, port: int) -> None:
    allow(ground, port, "10.255.255.1", "169.254.169.254", "127.0.0.1")
    for host in ("10.255.255.1", "169.254.169.254"):
        job, said = get(ground, port, host=host, network=[{"host": host, "port": port}])
        assert " 200 " not in said
        assert host in ground.lines(job["id"], "system")


@dataclass
class _Holding:
    """A server that takes connections and says nothing."""

    listener: socket.socket
    held: list[socket.socket] = field(default_factory=list)

    def serve(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            self.held.append(link)


@pytest.fixture
def holding() -> Iterator[_Holding]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Holding(listener)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for link in server.held:
        link.close()


@pytest.mark.parametrize("change", ["other hosts", "retired"])
def test_a_narrower_policy_ends_the_connections_of_a_running_job(
    ground: Ground, holding: _Holding, change: str
) -> None:
    port = holding.listener.getsockname()[1]
    allow(ground, port)
    network = [{"host": "127.0.0.1", "port": port}]
    job = ground.start("python3", "-c", HELD, "127.0.0.1", str(port), network=network)
    until(lambda: " 200 " in ground.lines(job))
    place = f"/workspaces/{ground.workspace}"
    if change == "retired":
        version = ground.tenant.owner.get(f"{place}/policies/network").json()["version"]
        body = {"version": version, "state": "retired"}
        answer = ground.tenant.owner.post(f"{place}/policies/network/promote", json=body)
        assert answer.status_code == 200, answer.text
    else:
        allow(ground, port, "example.com")
    ended = ground.ended(job)
    assert ended["network"] == []
    assert "then" in ground.lines(job)
    assert ended["finished_at"]
    [event] = ground.audit(resource=job, action="job.narrowed")
    assert (event["details"]["connections"], event["details"]["taken"]) == (0, 1)


def test_a_waiting_job_is_denied_when_the_only_policy_is_retired(ground: Ground, port: int) -> None:
    allow(ground, port)
    owner, place = ground.tenant.owner, f"/workspaces/{ground.workspace}"
    assert owner.patch(f"{place}/limits", json={"max_concurrent_jobs": 1}).status_code == 200
    running = ground.start("sleep", "30")
    ground.until_status(running, "running")
    waiting = ground.start("true", network=[{"host": "127.0.0.1", "port": port}])
    version = owner.get(f"{place}/policies/network").json()["version"]
    owner.post(f"{place}/policies/network/promote", json={"version": version, "state": "retired"})
    assert ground.job(waiting)["status"] == "denied"
    ground.cancel(running)
