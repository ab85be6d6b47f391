"""Ports inside a running sandbox: by credential or token, and nothing of ours goes in or comes to act out of it."""

import base64
import json
import socket as sockets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import problem
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, Json, until
from tests.integration.sandboxes.living import Living, heard, start, stop
from websockets.exceptions import InvalidStatus

PORT = 8123
SERVER = """
import http.server, json, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        if self.path.startswith("/broken"):
            self.wfile.write(b"SSH-2.0-nothing\\r\\n\\r\\n"); self.close_connection = True; return
        length = int(self.headers.get("content-length", 0))
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size); self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(length)
        headers = [[k.lower(), v] for k, v in self.headers.items()]
        seen = {"method": self.command, "path": self.path, "headers": headers, "size": len(body)}
        content = json.dumps(seen).encode()
        self.send_response(302 if self.path.startswith("/moved") else 200)
        if self.path.startswith("/moved"):
            self.send_header("Location", self.path[len("/moved"):])
        self.send_header("Content-Type", "text/html")
        self.send_header("Set-Cookie", "tenantry=stolen; Path=/")
        self.send_header("Clear-Site-Data", '"*"')
        self.send_header("Content-Security-Policy", "default-src *")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Strict-Transport-Security", "max-age=1")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("X-Accel-Redirect", "/secret")
        if self.path.startswith("/slow"):
            self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for _ in range(600):
                self.wfile.write(b"1\\r\\n.\\r\\n"); time.sleep(0.1)
            return
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer
    def log_message(self, *_): pass
print("ready", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def serving(living: Living, port: int = PORT) -> Any:
    living.put("server.py", SERVER.encode())
    connection = living.socket(f"/terminal?tty=false&command=python3&command=/workspace/server.py&command={port}")
    heard(connection, until=b"ready")
    until(lambda: living.client.get(f"{living.path}/ports/{port}/").status_code == 200)
    return connection


@pytest.fixture(scope="module")
def living(ground: Ground) -> Iterator[Living]:
    made = start(ground, "ports")
    connection = serving(made)
    yield made
    connection.close()
    stop(made)


def at(living: Living, path: str = "/", port: int = PORT) -> str:
    return f"{living.path}/ports/{port}{path}"


def token_of(living: Living, port: int = PORT, **body: Any) -> Json:
    answer = living.client.post(at(living, "/token", port), json=body)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


def bare(living: Living, path: str = "/", *, port: int = PORT, method: str = "GET", **options: Any) -> httpx.Response:
    """Ask without any credential of ours."""
    return httpx.request(method, f"{living.ground.installation.api}{at(living, path, port)}", timeout=30, **options)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_every_method_reaches_it_with_path_and_query_as_written(living: Living, method: str) -> None:
    target = at(living, "/a%2Fb/../c;d?tenant=theirs&key=k&x=%20&x=2")
    content = b"x" * 1000 if method in ("POST", "PUT", "PATCH") else b""
    url = f"{living.ground.installation.api}{target}"
    with sockets.create_connection(_host(living)) as plain:  # an HTTP client would straighten the path
        path = url[url.index("/api/") :]
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {living.key}\r\nConnection: close\r\n"
        plain.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        told = b""
        while piece := plain.recv(1 << 16):
            told += piece
    assert told.startswith(b"HTTP/1.1 200"), told
    if method != "HEAD":
        seen = json.loads(told.partition(b"\r\n\r\n")[2])
        assert seen["path"] == "/a%2Fb/../c;d?tenant=theirs&key=k&x=%20&x=2"
        assert (seen["method"], seen["size"]) == (method, len(content))


def _host(living: Living) -> tuple[str, int]:
    url = httpx.URL(living.ground.installation.url)
    return url.host, url.port or 80


def test_a_body_of_unknown_length_is_streamed_in(living: Living) -> None:
    def content() -> Iterator[bytes]:
        for _ in range(50):
            yield b"y" * 10_000

    assert living.client.post(at(living, "/upload"), content=content()).json()["size"] == 500_000


def test_nothing_of_who_asks_goes_in(living: Living) -> None:
    sent = {
        "Cookie": "tenantry-flow=canary",
        "X-Tenant-Id": living.ground.tenant.slug,
        "X-Tenantry-Canary": "canary",
        "X-Forwarded-For": "canary",
        "Proxy-Authorization": "canary",
        "Connection": "close, X-Named",
        "X-Named": "canary",
        "X-App": "kept",
    }
    answer = living.client.get(at(living), headers=sent)
    seen = dict(answer.json()["headers"])
    assert seen["x-app"] == "kept"
    assert seen["host"] == f"127.0.0.1:{PORT}"
    assert "canary" not in str(seen)
    assert living.key not in answer.text
    assert not {"authorization", "cookie", "x-tenant-id", "x-named"} & set(seen)


def test_what_comes_out_can_do_nothing_in_our_origin(living: Living) -> None:
    headers = living.client.get(at(living)).headers
    assert headers.get_list("content-security-policy") == ["sandbox"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    reaching = ("access-control-allow-origin", "strict-transport-security", "x-accel-redirect")
    for name in ("set-cookie", "clear-site-data", "server", *reaching):
        assert name not in headers, name


def test_a_redirect_within_the_port_stays_within(living: Living) -> None:
    own = f"/api/v1{at(living, '')}"
    for location, shown in (
        ("/login", f"{own}/login"),
        (f"http://127.0.0.1:{PORT}/x", f"{own}/x"),
        ("https://example.com/", "https://example.com/"),
        ("//example.com/", "//example.com/"),
    ):
        answer = living.client.get(at(living, f"/moved{location}"), follow_redirects=False)
        assert answer.headers["location"] == shown


def test_what_is_no_http_breaks_off(living: Living) -> None:
    problem(living.client.get(at(living, "/broken")), 503, "port_answer_invalid")


def test_a_port_where_nothing_listens_is_told_as_such(living: Living) -> None:
    problem(living.client.get(at(living, "/", 8999)), 409, "port_refused")
    for port in ("0", "65536", "080", "x", "-1"):
        assert living.client.get(f"{living.path}/ports/{port}/").status_code == 422, port


def test_a_token_opens_its_port_alone(living: Living) -> None:
    made = token_of(living)
    left = (datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)).total_seconds()
    assert 0 < left <= 900
    shown: list[dict[str, Any]] = [{"headers": {"X-Tenantry-Port-Token": made["token"]}}]
    for one in (*shown, {"params": {"tenantry_port_token": made["token"]}}):
        answer = bare(living, "/x", **one)
        assert answer.status_code == 200, answer.text
        assert made["token"] not in answer.text, "the port does not see it"
    assert httpx.get(f"{living.ground.installation.url}{made['url']}").status_code == 200
    problem(bare(living), 401, "credential_missing")
    problem(bare(living, port=PORT + 1, headers={"X-Tenantry-Port-Token": made["token"]}), 403, "port_token_refused")


def test_a_token_opens_nothing_else(living: Living) -> None:
    token = token_of(living)["token"]
    for path in ("", "/files", "/terminal", f"/ports/{PORT}/token", f"/tunnels/{PORT}"):
        for shown in ({"headers": {"X-Tenantry-Port-Token": token}}, {"params": {"tenantry_port_token": token}}):
            method = "POST" if path.endswith("token") else "GET"
            url = f"{living.ground.installation.api}{living.path}{path}"
            answer = httpx.request(method, url, **shown)  # type: ignore[arg-type]
            problem(answer, 401, "credential_missing")
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{living.ground.installation.api}/me", headers=bearer).status_code == 401


def test_a_token_that_was_touched_or_made_up_is_none(living: Living) -> None:
    token = token_of(living)["token"]
    raw = bytearray(base64.urlsafe_b64decode(token.removeprefix("tpt_") + "=="))
    body = json.loads(raw[32:])
    forged = []
    for at_, value in ((4, body[1]), (5, PORT + 1), (7, body[7] + 10_000)):
        other = [*body]
        other[at_] = value
        told = base64.urlsafe_b64encode(bytes(raw[:32]) + json.dumps(other, separators=(",", ":")).encode())
        forged.append("tpt_" + told.rstrip(b"=").decode())
    for text in (*forged, token[:-2], "tpt_", "tpt_AAAA", token + "A", "x" * 3000, token.upper()):
        problem(bare(living, headers={"X-Tenantry-Port-Token": text}), 401, "credential_refused")


def test_two_tokens_are_one_too_many(living: Living) -> None:
    token = token_of(living)["token"]
    answer = bare(living, headers={"X-Tenantry-Port-Token": token}, params={"tenantry_port_token": token})
    problem(answer, 400, "header_ambiguous")


def test_a_token_expires(living: Living) -> None:
    token = token_of(living, expires_seconds=1)["token"]
    headers = {"X-Tenantry-Port-Token": token}
    until(lambda: bare(living, headers=headers).status_code == 401, seconds=5)
    problem(living.client.post(at(living, "/token"), json={"expires_seconds": 3601}), 422, "invalid_request")


def test_a_token_ends_with_the_key_that_made_it_and_with_what_runs_through_it(living: Living) -> None:
    ground = living.ground
    place = f"/workspaces/{ground.workspace}/keys"
    made = ground.client.post(place, json={"name": "short", "roles": ["operator"]}).json()
    short = Living(ground, living.id, living.name, made["secret"])
    headers = {"X-Tenantry-Port-Token": token_of(short)["token"]}
    url = f"{ground.installation.api}{at(living, '/slow')}"
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        ground.client.delete(f"{place}/{made['id']}")
        began = time.monotonic()
        with pytest.raises(httpx.HTTPError):
            list(pieces)
        assert time.monotonic() - began < 1.5
    problem(bare(living, headers=headers), 401, "credential_refused")
    home = ground.installation.home
    lines = (home.parent / f"{home.name}.log").read_text().splitlines()
    assert any('"api.stream_cut"' in line and '"credential_refused"' in line for line in lines)
    assert not any("Exception in ASGI application" in line and "Unauthenticated" in line for line in lines)


def test_a_token_is_of_one_start_of_its_sandbox(make_ground: MakeGround) -> None:
    ground = make_ground()
    living = start(ground, "restarted")
    connection = serving(living)
    headers = {"X-Tenantry-Port-Token": token_of(living)["token"]}
    assert bare(living, headers=headers).status_code == 200
    connection.close()
    assert living.client.post(f"{living.path}/stop", params={"wait": 30}).status_code == 200
    problem(bare(living, headers=headers), 409, "sandbox_not_running")
    assert living.client.post(f"{living.path}/start", params={"wait": 60}).json()["status"] == "running"
    serving(living).close()
    problem(bare(living, headers=headers), 403, "port_token_refused")


def test_a_token_of_another_tenant_reads_as_of_one_that_never_was(living: Living, make_ground: MakeGround) -> None:
    other = start(make_ground(), "other-tenants")
    headers = {"X-Tenantry-Port-Token": token_of(other)["token"]}
    here = problem(bare(living, headers=headers), 404, "not_found")
    never = Living(living.ground, living.id, "never", "")
    gone = httpx.get(
        f"{living.ground.installation.api}{at(never)}".replace(
            living.ground.workspace, living.ground.workspace[:-4] + "aaaa"
        ),
        headers=headers,
    )
    assert here | {"trace_id": ""} == problem(gone, 404, "not_found") | {"trace_id": ""}
    stop(other)


def test_who_may_not_connect_makes_no_token_and_asks_no_port(living: Living) -> None:
    viewer = Living(living.ground, living.id, "", living.ground.tenant.key(living.ground.workspace, "viewer"))
    problem(viewer.client.get(at(living)), 403, "permission_missing")
    problem(viewer.client.post(at(living, "/token"), json={}), 403, "permission_missing")
    with pytest.raises(InvalidStatus) as refused:
        viewer.socket(f"/tunnels/{PORT}")
    assert refused.value.response.status_code == 403


def test_a_tunnel_carries_bytes_both_ways(living: Living) -> None:
    with living.socket(f"/tunnels/{PORT}") as connection:
        connection.send(b"GET /through HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found, _ = heard(connection)
    assert found.startswith(b"HTTP/1.1 200")
    assert b'"path": "/through"' in found


def test_each_use_is_recorded(living: Living) -> None:
    living.client.get(at(living, "/seen"))
    living.client.post(at(living, "/seen"), content=b"x")
    kinds: set[str] = set()
    deadline = time.monotonic() + 10
    while kinds < {"port", "port_token", "tunnel"} and time.monotonic() < deadline:
        kinds = {each["details"]["kind"] for each in living.events("sandbox.accessed")}
    assert kinds >= {"port", "port_token", "tunnel"}
