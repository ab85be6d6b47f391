"""A registry that gives its one image until half of the layer, and then waits to be told to go on."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.ending import joined
from tests.oci import Made, layer_of, make_image

WAIT_SECONDS = 30


class StallingRegistry(ThreadingHTTPServer):
    """`reached` is set while it waits, `go` lets it go on; references are of `reference`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.name = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.name}"
        self.reference = f"{self.name}/team/slow:1"
        self.made: Made = make_image(layer_of({"a": os.urandom(3_000_000)}), packing="none")
        self.reached, self.go = threading.Event(), threading.Event()

    def again(self) -> None:
        self.reached.clear()
        self.go.clear()


class _Asked(BaseHTTPRequestHandler):
    server: StallingRegistry

    def do_GET(self) -> None:
        made, name = self.server.made, self.path.rpartition("/")[2]
        content, kind = (made.top, made.top_type) if name == "1" else (made.blobs[name], "application/octet-stream")
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2 if len(content) > 1_000_000 else len(content)
        self.wfile.write(content[:half])
        self.wfile.flush()
        if half < len(content):
            self.server.reached.set()
            self.server.go.wait(WAIT_SECONDS)
            self.wfile.write(content[half:])

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # whoever was waiting has gone, as a test wanted
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def stalling_registry() -> Iterator[StallingRegistry]:
    with StallingRegistry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.go.set()
            server.shutdown()
            joined(thread)
