"""`tenantry demo`: two tenants play scenes on a real installation, and every expectation says whether it held."""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tenantry.client.credentials import Credentials, is_loopback, load, save
from tenantry.client.errors import ClientError, CredentialsError
from tenantry.client.surface import Client
from tenantry.entrypoints import (
    demo_access,
    demo_attacks,
    demo_audit,
    demo_evidence,
    demo_limits,
    demo_network,
    demo_sandboxes,
    demo_scenes,
    demo_tenancy,
)
from tenantry.entrypoints.demo_cast import KEYS, NAMES, Cast
from tenantry.entrypoints.demo_stage import Stage
from tenantry.entrypoints.servers import RunningServer, find_server, start_detached, stop
from tenantry.foundation.errors import Denied, Fault, TenantryError
from tenantry.foundation.settings import Settings, load_settings

_SANDBOX_PATH: Final = "/usr/local/bin:/usr/bin"
_OWN_SERVER: Final = "server.pid"
_SCENE_SECONDS: Final = 60
_OUTSIDE: Final = "TENANTRY_JOBS__EGRESS_NETWORKS"
Scene = Callable[[Stage, Cast], None]


def play(*, home: Path, port: int | None, leave: bool) -> int:
    """Play all scenes on the server that runs in `home`, or on one started there; gives the exit code.

    0: every expectation held. With `leave` the server is stopped at the end, if a demo started it. It may be played
    again and again, each time with two new tenants. Raises Fault `demo_needs_python`, Denied `demo_needs_platform_key`.
    """
    _require_python()
    stage = Stage()
    settings = load_settings(home=home)
    server = _server(stage, settings, port=port)
    try:
        with Client(url=server.url, key=_platform_key(home, server)) as platform:
            _scenes(stage, settings, server=server, platform=platform)
    finally:
        if leave:
            _stop(stage, home, server)
    told = stage.held + stage.broken
    verdict = f"All {told} expectations held" if not stage.broken else f"{stage.broken} of {told} expectations BROKE"
    stage.heading(f"{verdict} ({stage.seconds:.0f} s)")
    if not leave:
        _farewell(stage, home, server)
    return 1 if stage.broken else 0


def _scenes(stage: Stage, settings: Settings, *, server: RunningServer, platform: Client) -> None:
    cast = demo_scenes.two_tenants(
        stage, home=settings.home, server=server, platform=platform, regions=settings.region_names
    )
    _played(stage, cast, demo_scenes.work, demo_attacks.look_around)
    with demo_attacks.losing_a_worker(stage, cast):
        _played(stage, cast, demo_scenes.refusals, demo_attacks.exhaust, demo_attacks.suspend)
        _played(stage, cast, demo_scenes.trails, demo_audit.proof, demo_evidence.proof)
    _played(
        stage,
        cast,
        demo_access.rights,
        demo_access.grants,
        demo_access.visit,
        demo_limits.rates,
        demo_limits.quotas,
        demo_limits.denied_image,
        demo_network.connections,
        demo_sandboxes.phases,
        demo_sandboxes.living,
    )
    _played(stage, cast, demo_tenancy.overlays, demo_tenancy.strategies, demo_tenancy.another_region)


def _played(stage: Stage, cast: Cast, *scenes: Scene) -> None:
    """Play scenes; one that fails counts as broken, and the others are played all the same."""
    for scene in scenes:
        try:
            with _within(_SCENE_SECONDS):
                scene(stage, cast)
        except (ClientError, TenantryError, OSError) as error:
            stage.expect("the scene is played to its end", held=False, seen=error)


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raise TimeoutError when it takes longer: a job that never ends must not hold the demo. For the main thread."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"it takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _require_python() -> None:
    found = shutil.which("python3", path=_SANDBOX_PATH)
    if found is None or not Path(found).resolve().is_relative_to("/usr"):
        raise Fault(
            "demo_needs_python",
            "a sandbox of the image `host` sees this machine's /usr and there is no python3 in it: install one "
            "(Debian: apt-get install python3-minimal) and play again",
            layer="demo",
        )


def _server(stage: Stage, settings: Settings, *, port: int | None) -> RunningServer:
    home = settings.home
    if (found := find_server(home)) is not None:
        stage.heading(f"On the server that runs at {found.url}, home {home}")
        return found
    stage.heading(f"Starting a server in {home}")
    stage.tell("PostgreSQL, a database for each region, a worker for each region")
    # The outside of a scene lies on this machine, at an address of nobody's.
    outside = {} if settings.jobs.egress_networks else {_OUTSIDE: f'["{demo_network.OUTSIDE}/32"]'}
    server, _ = start_detached(home, port=_free_port(settings) if port is None else port, environment=outside)
    keys = home / KEYS
    keys.mkdir(mode=0o700, exist_ok=True)
    (keys / _OWN_SERVER).write_text(str(server.pid))
    stage.tell(f"ready at {server.url} after {stage.seconds:.1f} s")
    return server


def _free_port(settings: Settings) -> int:
    """Choose the port of the last time, else the one configured; 0 (any free one) when both are taken."""
    with suppress(CredentialsError):
        if (port := urlsplit(load(home=settings.home, environment={}).url).port) and _is_free(settings, port):
            return port
    return settings.server.port if _is_free(settings, settings.server.port) else 0


def _is_free(settings: Settings, port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.server.host, port))
        except OSError:
            return False
    return True


def _platform_key(home: Path, server: RunningServer) -> str:
    """Read the key of the first start, and see to it that the file names the address of today."""
    stored = load(home=home, environment={})
    if is_loopback(urlsplit(stored.url).hostname or ""):
        with Client(url=server.url, key=stored.key) as client:
            is_platform = "platform:admin" in client.me()["permissions"]
        if is_platform:
            if stored.url != server.url:
                save(Credentials(server.url, stored.key), home=home)
            return stored.key
    raise Denied(
        "demo_needs_platform_key",
        f"{home / 'credentials.json'} does not hold this installation's platform key (a later `tenantry login` "
        "may have replaced it): put it back with `tenantry login`, or play in a home of its own with --home",
        layer="demo",
    )


def _stop(stage: Stage, home: Path, server: RunningServer) -> None:
    try:
        own = (home / KEYS / _OWN_SERVER).read_text()
    except OSError:
        own = ""
    if own != str(server.pid):
        stage.heading(f"The server at {server.url} was there before the demo and goes on")
        return
    stop(home)
    stage.heading(f"Stopped the server at {server.url}")


def _farewell(stage: Stage, home: Path, server: RunningServer) -> None:
    """Say where the server is, and three commands to go on with."""
    keys = {name: home / KEYS / name / "credentials.json" for name in NAMES}
    stage.facts({
        "server": f"{server.url}, goes on",
        "the platform's key": home / "credentials.json",
        **{f"a key of {name}": file for name, file in keys.items()},
    })  # fmt: skip
    program = _program()
    stage.heading("Go on as acme:")
    stage.tell(f"export TENANTRY_HOME={keys['acme'].parent}")
    stage.tell(f"{program} job run -- python3 -c 'print(6 * 7)'")
    stage.tell(f"{program} audit query --outcome denied")
    stage.heading("Stop the server:")
    stage.tell(f"{program} down --home {home}")


def _program() -> str:
    """Tell how the command is called from here."""
    own = Path(sys.executable).with_name("tenantry")
    if (found := shutil.which("tenantry")) and Path(found).resolve() == own.resolve():
        return "tenantry"
    return os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own)
