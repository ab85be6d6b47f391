"""A real registry (Debian's docker-registry) on loopback, with its own configuration and storage, ended by its id."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from tests.ending import ended

START_SECONDS = 30


class DockerRegistry:
    """`name` is how references call it, `url` where it listens."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("docker-registry")
        if program is None:
            pytest.fail("docker-registry is not installed: run `scripts/packages.sh`", pytrace=False)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.name = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self.name}"
        config = folder / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/storage}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.name}'}}\n"
        )
        self._command = [program, "serve", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, "docker-registry ended at once"
            assert time.monotonic() < deadline, "docker-registry does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            ended(self._process)
            self._process = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v2/", trust_env=False, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def running_registry() -> Iterator[DockerRegistry]:
    with TemporaryDirectory(prefix="registry-") as folder:
        registry = DockerRegistry(Path(folder))
        registry.start()
        try:
            yield registry
        finally:
            registry.stop()
