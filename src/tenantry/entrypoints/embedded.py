"""What `tenantry up` holds around the server: PostgreSQL, the preparation, one worker process for each cell."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import structlog

from tenantry.entrypoints.link import check_link
from tenantry.entrypoints.tls import server_context
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.errors import Fault, TenantryError
from tenantry.foundation.files import replace_file
from tenantry.foundation.settings import Settings

_RESTART_SECONDS: Final = 1.0
CREDENTIALS: Final = "credentials.json"

_log = structlog.get_logger(__name__)


class Embedded:
    """Starts the parts, all faults at once; stops them again. With regions configured it only listens and prepares."""

    def __init__(self, settings: Settings, *, faults: Sequence[str] = ()) -> None:
        """Take settings; `faults` are those that reading them found, to be told with all others."""
        self._settings = settings
        self._setting_faults = list(faults)
        self._postgres = EmbeddedPostgres(settings.home)
        self._workers: dict[str, asyncio.subprocess.Process] = {}
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.close()
        if self._settings.embedded:
            self._postgres.stop()

    def start(self) -> None:
        """Raise Fault `start_faults` with every fault found, each with its remedy; nothing is left half started."""
        ensure_home(self._settings.home)
        faults = [*self._setting_faults, *self._tls(), *self._listen()]
        faults += [*machine_faults(self._settings.home), *self._database()]
        if faults:
            raise Fault("start_faults", "; ".join(faults), layer="start", faults=faults)
        made = self._prepare()
        host, port = self.listener.getsockname()[:2]
        url = f"{self._settings.server.scheme}://{host}:{port}"
        self._renew_address(url)
        if made is not None:
            write_credentials(self._settings.home / CREDENTIALS, url=url, key=made)
            if sys.stdout.isatty():
                print(f"platform key (shown once): {made}", flush=True)
            else:
                # Not into a log: whoever starts it in the background reads the file.
                print(f"platform key written to {self._settings.home / CREDENTIALS}", flush=True)
        print(f"tenantry listens on {url}, home {self._settings.home}", flush=True)

    async def watch_workers(self) -> None:
        """Keep one worker for each cell: one that dies is started again."""
        await asyncio.gather(*(self._keep(region) for region in self._settings.region_names))

    async def _keep(self, region: str) -> None:
        command = [sys.executable, "-m", "tenantry.entrypoints.worker", str(self._settings.home), region]
        environment = os.environ | {"TENANTRY_SERVER_PID": str(os.getpid())}
        while True:
            worker = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, env=environment)
            self._workers[region] = worker
            try:
                code = await worker.wait()
            except asyncio.CancelledError:
                worker.terminate()
                await worker.wait()
                raise
            _log.warning("worker.ended", region=region, code=code)
            await asyncio.sleep(_RESTART_SECONDS)

    def _database(self) -> list[str]:
        if not self._settings.embedded:
            return []
        try:
            self._postgres.start()
        except TenantryError as error:
            return [f"{error.code}: {error.message}"]
        return []

    def _tls(self) -> list[str]:
        faults = []
        for check in (partial(server_context, self._settings.server), partial(check_link, self._settings)):
            try:
                check()
            except TenantryError as error:
                faults.append(f"{error.code}: {error.message}")
        return faults

    def _listen(self) -> list[str]:
        host, port = self._settings.server.host, self._settings.server.port
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.listener.bind((host, port))
            self.listener.listen(2048)
        except OSError as error:
            return [f"port_taken: {host}:{port} cannot be listened on ({error.strerror}): choose another with --port"]
        return []

    def _renew_address(self, url: str) -> None:
        """Keep the stored credentials pointing here when the port is another than last time."""
        file = self._settings.home / CREDENTIALS
        try:
            stored = json.loads(file.read_text())
            old, key = urlsplit(stored["url"]), str(stored["key"])
        except (OSError, ValueError, KeyError):
            return
        if old.hostname == urlsplit(url).hostname and stored["url"] != url:
            write_credentials(file, url=url, key=key)

    def _prepare(self) -> str | None:
        """Run the preparation in a process of its own; gives the platform key when it was made."""
        command = [sys.executable, "-m", "tenantry.entrypoints.prepare", str(self._settings.home)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Fault("prepare_failed", "the databases could not be prepared: the lines above say why", layer="start")
        key: str | None = json.loads(done.stdout)["platform_key"]
        return key


def ensure_home(home: Path) -> None:
    """Make the home; as root others may pass through it (0711) to what is theirs, tenants' directories are 0700."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise Fault("home_unusable", f"{home}: {error.strerror}: choose another with --home", layer="start") from error


def machine_faults(home: Path) -> list[str]:
    """Ask the doctor, in a process of its own, what this machine and its databases lack."""
    command = [sys.executable, "-m", "tenantry.entrypoints.doctor", str(home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, stdin=subprocess.DEVNULL)
    if done.returncode not in (0, 1):
        return ["doctor_failed: the machine could not be examined: the lines above say why"]
    report = json.loads(done.stdout)
    return [f"{check['code']}: {check['detail']}: {check['remedy']}" for check in report["checks"] if check["fault"]]


def write_credentials(file: Path, *, url: str, key: str) -> None:
    """Write where the server is and the key of it, for CLI and SDK; 0600 from the first byte."""
    replace_file(file, json.dumps({"url": url, "key": key}))


def print_faults(error: TenantryError) -> None:
    """Print every fault of a start that did not succeed, a line each."""
    for line in faults_of(error):
        print(f"tenantry: {error.code}: {line}", file=sys.stderr)


def faults_of(error: TenantryError) -> list[str]:
    """List the faults that an error gathers, or its one."""
    faults = error.fields.get("faults")
    return [str(fault) for fault in faults] if isinstance(faults, list) else [error.message]
