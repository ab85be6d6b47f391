"""What all suites share: one real installation for each test process, and tenants to fill it with.

`installation` is a whole embedded server with its workers and PostgreSQL in a directory of its own; tests that break or
kill one start their own with `start_installation`.
"""

import faulthandler
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from hypothesis import settings
from tests.classed import unclassed
from tests.dockerd import running_dockerd, why_no_engine
from tests.ending import ended
from tests.podman import running_podman
from tests.schedule import FOLDERS, STRATEGIES, Folder, UnitScheduling, sort_by_cost

from tenantry.entrypoints.addresses import Addresses, addresses_of
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.secrets import Secrets, load_secrets
from tenantry.foundation.settings import Settings, load_settings

# Everywhere the same examples where a verdict counts, new ones each time where somebody works on it.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

START_SECONDS = 100
STUCK_SECONDS: Final = 300.0
"""What no test takes with all it stands on: a process that is in one for so long tells where, and ends."""
_STDERR: Final = pytest.StashKey[int]()

# The developer's own settings do not reach a test.
for name in [name for name in os.environ if name.startswith("TENANTRY_")]:
    del os.environ[name]
# Nor what his machine is set to: what is compiled is kept for the next of many processes, and an interrupt that a shell
# ignores in its background is none that everything started from here ignores.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STDERR] = os.dup(2)  # not yet captured, so what goes there is seen
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Teller(config))


def pytest_unconfigure(config: pytest.Config) -> None:
    faulthandler.cancel_dump_traceback_later()
    os.close(config.stash[_STDERR])


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    own = path.is_relative_to(parent.config.rootpath) and str(path.relative_to(parent.config.rootpath)) in FOLDERS
    return Folder.from_parent(parent, path=path) if own else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sort_by_cost(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> UnitScheduling | None:
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return UnitScheduling(config, log)


def _bound(config: pytest.Config, item: pytest.Item | pytest.Collector | None = None) -> None:
    """Bound what comes now, which the limit of a test does not once it has struck: above all what it has to put away.

    A worker of xdist that ends so is reported as crashed in that test, and another goes on with the rest.
    """
    marked = item.get_closest_marker("timeout") if item else None
    seconds = max(STUCK_SECONDS, marked.args[0] + 180 if marked else 0)
    faulthandler.dump_traceback_later(seconds, file=config.stash[_STDERR], exit=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _bound(item.config, item)
    result = yield
    faulthandler.cancel_dump_traceback_later()
    return result


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    _bound(node.config, node)  # pytest itself has just lifted it


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    _bound(session.config)


class _Teller:
    """Says what failed at once, so that a run that is cut off has said it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\n--- {report.nodeid} failed in its {report.when} after {report.duration:.1f} s")
            terminal.write_line("\n".join(report.longreprtext.splitlines()[-60:]))


@pytest.fixture(scope="session")
def docker_socket() -> Iterator[Path]:
    """A container engine of this test process; skips where none can run."""
    if reason := why_no_engine():
        pytest.skip(reason)
    with running_dockerd() as socket:
        yield socket


@pytest.fixture(scope="session")
def podman_socket() -> Iterator[Path]:
    """Podman's service of this test process; skips where none can run."""
    if reason := why_no_engine():
        pytest.skip(reason)
    with running_podman() as socket:
        yield socket


@dataclass
class Installation:
    """A running installation."""

    home: Path
    process: "subprocess.Popen[str]"
    url: str
    platform_key: str
    environment: dict[str, str] = field(default_factory=dict)
    verify: ssl.SSLContext | bool = True
    """What certificate the server must show, where it speaks TLS."""
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    @property
    def api(self) -> str:
        return f"{self.url}/api/v1"

    @property
    def settings(self) -> Settings:
        return load_settings(home=self.home)

    @property
    def secrets(self) -> Secrets:
        return load_secrets(self.home)

    @property
    def addresses(self) -> Addresses:
        return addresses_of(self.settings, self.secrets)

    def client(self, key: str) -> httpx.Client:
        """A client of one key, kept and closed with the installation."""
        if key not in self.clients:
            headers = {"Authorization": f"Bearer {key}"}
            self.clients[key] = httpx.Client(base_url=self.api, headers=headers, timeout=60, verify=self.verify)
        return self.clients[key]

    @property
    def platform(self) -> httpx.Client:
        return self.client(self.platform_key)

    def stop(self, number: int = signal.SIGTERM) -> None:
        for client in self.clients.values():
            client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        ended(self.process)


@dataclass
class Tenant:
    """A tenant with its owner's client, and keys of any role made on demand."""

    installation: Installation
    id: str
    slug: str
    region: str
    bootstrap_key: str
    clients: dict[tuple[str, str | None], httpx.Client] = field(default_factory=dict)

    @property
    def owner(self) -> httpx.Client:
        return self.as_key(self.bootstrap_key)

    def as_key(self, key: str) -> httpx.Client:
        return self.clients.setdefault((key, None), self.installation.client(key))

    def workspace(self, name: str = "dev", **fields: object) -> str:
        """Make a workspace, give its id."""
        body = {"name": name, "owner": {"type": "team", "id": "core"}, **fields}
        answer = self.owner.post("/workspaces", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def key(self, workspace: str | None, *roles: str, **fields: object) -> str:
        """Make a key of a workspace, or with None of the tenant; give its secret."""
        place = f"/workspaces/{workspace}" if workspace else f"/tenants/{self.id}"
        body = {"name": "-".join(roles) or "bound", "roles": list(roles), **fields}
        answer = self.owner.post(f"{place}/keys", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["secret"])

    def as_role(self, role: str, workspace: str | None) -> httpx.Client:
        """A client whose key has one role, made once."""
        place = (role, workspace or "")
        if place not in self.clients:
            self.clients[place] = self.installation.client(self.key(workspace, role))
        return self.clients[place]


def start_installation(
    home: Path, *, port: int = 0, verify: ssl.SSLContext | bool = True, **environment: str
) -> Installation:
    """Start a whole embedded installation and wait until it is ready; `stop` ends it."""
    variables = os.environ | environment
    log = (home.parent / f"{home.name}.log").open("a")
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "tenantry.entrypoints.server", str(home), str(port)],
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        text=True,
        env=variables,
    )
    log.close()
    ready = home / "server.json"
    while not _is_ready(ready, process.pid, verify):
        if process.poll() is not None or time.monotonic() - started > START_SECONDS:
            process.kill()
            pytest.fail(f"the server did not start:\n{Path(log.name).read_text()[-4000:]}")
        time.sleep(0.05)
    credentials = json.loads((home / "credentials.json").read_text())
    url = json.loads(ready.read_text())["url"]
    return Installation(home, process, url, credentials["key"], dict(environment), verify)


@contextmanager
def running_installation(
    home: Path, *, verify: ssl.SSLContext | bool = True, **environment: str
) -> Iterator[Installation]:
    """Start one for a while; nothing of it is left running."""
    started = start_installation(home, port=0, verify=verify, **environment)
    try:
        yield started
    finally:
        try:
            started.stop()
        finally:
            EmbeddedPostgres(home).purge()


def _is_ready(file: Path, pid: int, verify: ssl.SSLContext | bool) -> bool:
    try:
        found = json.loads(file.read_text())
        return found["pid"] == pid and httpx.get(f"{found['url']}/readyz", timeout=5, verify=verify).status_code == 200
    except (OSError, ValueError, httpx.HTTPError):
        return False


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all tests of this process. Its jobs may reach this machine, where a policy lets them."""
    place = tmp_path_factory.mktemp("installation")
    with running_installation(
        place / "home",
        TENANTRY_JOBS__EGRESS_NETWORKS='["127.0.0.0/8"]',
        TENANTRY_PLANS_FILE=str(_with_a_plan_of_ours(place / "plans.yaml")),
    ) as started:
        yield started
        assert unclassed(started.home) == set(), "give each a class in capabilities/audit/types/classes.py"


UNHURRIED: Final = "unhurried"
"""The plan of tenants that are asked more in a minute than any that is shipped allows."""


def _with_a_plan_of_ours(file: Path) -> Path:
    shipped = yaml.safe_load(resources.files("tenantry.capabilities.tenants").joinpath("plans.yaml").read_text())
    rates = {"api_requests": {"maxRequests": 1_000_000, "windowMs": 60_000}}
    shipped["plans"][UNHURRIED] = shipped["plans"]["enterprise"] | {"name": "Unhurried", "rate_limits": rates}
    file.write_text(yaml.safe_dump(shipped, sort_keys=False))
    return file


MakeTenant = Callable[..., Tenant]


@pytest.fixture(scope="session")
def strategy(request: pytest.FixtureRequest) -> str:
    """The isolation of tenants unless a test says otherwise; `on_every_strategy` repeats tests on each."""
    return str(getattr(request, "param", STRATEGIES[0]))


def on_every_strategy(metafunc: pytest.Metafunc) -> None:
    """Repeat what makes tenants on each strategy; a suite's `pytest_generate_tests` calls it."""
    if "strategy" in metafunc.fixturenames:
        of_one = metafunc.definition.get_closest_marker("one_strategy") is not None
        metafunc.parametrize("strategy", STRATEGIES[:1] if of_one else STRATEGIES, indirect=True, scope="session")


@pytest.fixture(scope="session")
def make_tenant(installation: Installation, strategy: str) -> MakeTenant:
    return tenants_of(installation, strategy)


def tenants_of(installation: Installation, strategy: str) -> MakeTenant:
    """Make tenants, each with a slug nobody has. Who overrides `installation` overrides `make_tenant` with it."""

    def make(
        *,
        region: str = "us",
        plan: str = "enterprise",
        isolation: str | None = None,
        slug: str | None = None,
        **fields: object,
    ) -> Tenant:
        slug = slug or f"t-{secrets.token_hex(5)}"
        owner = {"email": f"owner@{slug}.example", "name": "Owner"}
        place = {"region": region, "isolation": isolation or strategy}
        body = {"name": slug, "slug": slug, "plan": plan, "owner": owner, **place, **fields}
        answer = installation.platform.post("/tenants", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Tenant(installation, made["id"], slug, region, made["bootstrap_key"]["secret"])

    return make
