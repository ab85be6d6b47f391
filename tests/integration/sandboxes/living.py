"""A sandbox that lives, and short words for what tests do in it."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
from tests.integration.sandboxes.ground import Ground, Json, _events
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


@dataclass(frozen=True)
class Living:
    """One running sandbox of a ground."""

    ground: Ground
    id: str
    name: str
    key: str

    @property
    def client(self) -> httpx.Client:
        return self.ground.installation.client(self.key)

    @property
    def path(self) -> str:
        return f"/workspaces/{self.ground.workspace}/sandboxes/{self.id}"

    def exec(self, *command: str, **body: Any) -> httpx.Response:
        return self.client.post(f"{self.path}/exec", json={"command": list(command), **body})

    def run(self, *command: str, **body: Any) -> Json:
        answer = self.exec(*command, **body)
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()
        return told

    def sh(self, script: str, **body: Any) -> Json:
        return self.run("sh", "-c", script, **body)

    def streamed(self, *command: str, **body: Any) -> list[Json]:
        with self.streaming(*command, **body) as answer:
            assert answer.status_code == 200, answer.read()
            return list(_events(answer.iter_lines()))

    def streaming(self, *command: str, **body: Any) -> Any:
        headers = {"Accept": "text/event-stream"}
        asked = {"command": list(command), **body}
        return self.client.stream("POST", f"{self.path}/exec", json=asked, headers=headers, timeout=30)

    def socket(self, path: str, *, key: str | None = None, **options: Any) -> ClientConnection:
        url = f"{self.ground.installation.api}{self.path}{path}".replace("http", "ws", 1)
        shown = {"Authorization": f"Bearer {self.key if key is None else key}"}
        return connect(url, additional_headers=shown, proxy=None, max_size=None, legacy=True, **options)

    def files(self, path: str = "", **query: Any) -> httpx.Response:
        return self.client.get(f"{self.path}/files", params={"path": path, **query})

    def put(self, path: str, content: bytes, **query: Any) -> httpx.Response:
        return self.client.put(f"{self.path}/files", params={"path": path, **query}, content=content)

    def events(self, action: str) -> list[Json]:
        return self.ground.audit(resource=self.id, action=action)


def heard(connection: ClientConnection, *, until: bytes | None = None, seconds: float = 20.0) -> tuple[bytes, Json]:
    """Take what comes until it holds something, or the end; gives the bytes and what was told at last."""
    found, told = b"", {}
    try:
        while until is None or until not in found:
            piece = connection.recv(timeout=seconds)
            if isinstance(piece, bytes):
                found += piece
            else:
                told = json.loads(piece)
    except ConnectionClosed:
        assert until is None, f"it has ended: {found!r} {told}"
    return found, told


def start(ground: Ground, name: str, *, key: str | None = None, **body: Any) -> Living:
    """Make a sandbox and wait until it runs."""
    answer = ground.client.post(
        f"/workspaces/{ground.workspace}/sandboxes", params={"wait": 60}, json={"name": name, **body}
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "running", answer.text
    shown = ground.client.headers["authorization"].removeprefix("Bearer ")
    return Living(ground, answer.json()["id"], name, key or shown)


def stop(living: Living) -> None:
    living.ground.client.delete(living.path)
