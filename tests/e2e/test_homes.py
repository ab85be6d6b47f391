"""One job, end to end, wherever the home lies and whoever starts the server."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
from tests.conftest import start_installation
from tests.integration.sandboxes.ground import Json, given, until

import tenantry
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.settings import default_home

USER = "tenantry-test"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it starts processes of other users")


def run_one_job(url: str, key: str) -> Json:
    """A tenant, a workspace, a job with an input, output and an artifact; gives the job and what it said."""
    with httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=60) as platform:
        owner = {"email": "owner@acme.example", "name": "Owner"}
        body = {"name": "Acme", "slug": "acme", "plan": "enterprise", "region": "eu", "owner": owner}
        made = platform.post("/tenants", json=body).json()
    secret = made["bootstrap_key"]["secret"]
    with httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {secret}"}, timeout=60) as client:
        workspace = client.post("/workspaces", json={"name": "dev", "owner": {"type": "team", "id": "core"}}).json()[
            "id"
        ]
        jobs = f"/workspaces/{workspace}/jobs"
        command = {
            "command": ["sh", "-c", "id -u; cat /inputs/a; cp /inputs/a /outputs/b"],
            "inputs": [given("a", b"carried")],
            "artifacts": ["outputs/*"],
        }
        job: Json = client.post(jobs, params={"wait": 30}, json=command).json()
        job["said"] = [item["text"] for item in client.get(f"{jobs}/{job['id']}/logs?follow=false").json()["items"]]
        job["receipt"] = client.get(f"{jobs}/{job['id']}/receipt").json()
        [artifact] = client.get(f"{jobs}/{job['id']}/artifacts").json()["items"]
        job["artifact"] = client.get(f"{jobs}/{job['id']}/artifacts/{artifact['id']}/content").text
    return job


def check(job: Json, *, uid: int | None = None) -> None:
    assert job["status"] == "succeeded", job
    assert "".join(job["said"]).endswith("carried")
    assert job["artifact"] == "carried"
    assert job["receipt"]["uid"] == uid if uid else job["receipt"]["uid"] >= 200_000


@pytest.fixture
def root_home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The default home where there is none yet, else one just like it; or one below a private directory."""
    base = Path(tempfile.mkdtemp(prefix="tenantry-homes-", dir="/var/lib"))
    home = base / "private" / "home"
    if request.param == "default":
        home = default_home() if not default_home().exists() else base / "home"
        base.chmod(0o711)
    else:
        home.parent.mkdir(mode=0o700)
    log = home.parent / f"{home.name}.log"
    assert not log.exists()
    yield home
    EmbeddedPostgres(home).purge()
    shutil.rmtree(home)
    log.unlink()
    shutil.rmtree(base)


@pytest.mark.parametrize("root_home", ["default", "private"], indirect=True)
def test_root_may_have_its_home_at_the_usual_place_and_below_a_private_one(root_home: Path) -> None:
    private = root_home.parent
    mode = private.stat().st_mode
    started = start_installation(root_home)
    try:
        check(run_one_job(started.url, started.platform_key))
        assert root_home.stat().st_mode & 0o777 == 0o711
        assert {path.name for path in root_home.iterdir() if path.stat().st_mode & 0o007} <= {"postgres", "server.json"}
        assert private.stat().st_mode == mode, "no parent was opened"
    finally:
        started.stop()


@pytest.fixture
def ordinary_user() -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(USER)
    # Another test process may be making it right now.
    command = ["/usr/sbin/useradd", "--system", "--user-group", "--shell=/usr/sbin/nologin", USER]
    subprocess.run(command, check=False, capture_output=True)
    return until(lambda: next((entry for entry in pwd.getpwall() if entry.pw_name == USER), None)) or pwd.getpwnam(USER)


def is_open(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def reachable(path: Path, base: Path, name: str) -> Path:
    """The path itself, or a copy of it below `base` when another user cannot get there."""
    if is_open(path):
        return path

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    left_out = shutil.ignore_patterns("test", "tests", "*.a")
    shutil.copytree(path, base / name, copy_function=link, symlinks=True, ignore=left_out)
    return base / name


def test_an_ordinary_user_needs_no_root_at_all(ordinary_user: pwd.struct_passwd) -> None:
    base = Path(tempfile.mkdtemp(prefix="tenantry-user-"))
    base.chmod(0o755)
    theirs = base / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, ordinary_user.pw_uid, ordinary_user.pw_gid)
    home = theirs / ".tenantry"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = reachable(Path(sys.base_prefix), base, "python")
    places = [
        reachable(Path(tenantry.__file__).parents[1], base, "source"),
        reachable(Path(sysconfig.get_path("purelib")), base, "packages"),
    ]
    environment = {
        "HOME": str(theirs),
        "PATH": "/usr/bin:/bin",
        "LD_LIBRARY_PATH": str(python / "lib"),
        "PYTHONPATH": ":".join(map(str, places)),
        "PYTHONDONTWRITEBYTECODE": "1",
        # Cgroups are delegated to users by a session manager; where nobody did, the user decides to do without.
        "TENANTRY_JOBS__MIN_ISOLATION": "rlimit",
    }
    with (base / "log").open("w") as log:
        server = subprocess.Popen(
            [python / "bin" / version, "-m", "tenantry.entrypoints.server", str(home), "0"],
            env=environment,
            user=ordinary_user.pw_uid,
            group=ordinary_user.pw_gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
        )
    try:
        ready = home / "server.json"
        until(lambda: server.poll() is not None or ready.exists(), seconds=60)
        assert server.poll() is None, (base / "log").read_text()[-3000:]
        url = json.loads(ready.read_text())["url"]
        job = run_one_job(url, json.loads((home / "credentials.json").read_text())["key"])
        check(job, uid=ordinary_user.pw_uid)
        assert home.stat().st_uid == ordinary_user.pw_uid
        assert home.stat().st_mode & 0o077 == 0
        assert asdict(EmbeddedPostgres(home).superuser)["host"]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
        shutil.rmtree(base)
